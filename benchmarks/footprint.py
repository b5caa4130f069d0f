"""How soon a service is ready, and how much memory it holds: fresh, and after it has worked."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from results import BUNDLE, LIBRARY, ROOT, report

from service.cli.local_server import LocalServer, local_server

STARTS = 3
READY_LIMIT_S = 5.0
RSS_LIMIT_MB = 600.0


def main() -> int:
    """Print the footprint; 1 when it is over the limits that the project promises."""
    ready = []
    for _ in range(STARTS):
        with local_server(bundle=BUNDLE) as server:
            ready.append(server.ready_s)
            fresh = _rss_mb(server)
    with local_server(bundle=BUNDLE) as server:
        ready.append(server.ready_s)
        _work(server.url)
        worked = _rss_mb(server)
    torch_free = _imports_no_torch()
    bundle_mb = sum(file.stat().st_size for file in BUNDLE.iterdir()) / 1e6
    rows = [
        {"what": "ready after, s (slowest start)", "measured": max(ready), "limit": READY_LIMIT_S},
        {"what": "resident, MB, fresh", "measured": fresh, "limit": RSS_LIMIT_MB},
        {"what": "resident, MB, after 60 s of audio in one batch", "measured": worked, "limit": RSS_LIMIT_MB},
        {"what": "bundle, MB", "measured": bundle_mb, "limit": 60.0},
        {"what": "imports torch or transformers", "measured": "no" if torch_free else "yes", "limit": "no"},
    ]
    report("footprint", f"Footprint, {BUNDLE.name}, {STARTS + 1} starts", ("what", "measured", "limit"), rows)
    within = all(row["measured"] <= row["limit"] for row in rows if isinstance(row["measured"], float))  # type: ignore[operator]
    return 0 if within and torch_free else 1


def _rss_mb(server: LocalServer) -> float:
    process = psutil.Process(server.pid)
    everyone = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in everyone) / 1e6


def _work(url: str) -> None:
    """One embedding request of twelve clips, then a long text batch: the buffers that serving grows."""
    clips = sorted(LIBRARY.glob("*.ogg"))[:12]
    uris = ["data:audio/ogg;base64," + base64.b64encode(clip.read_bytes()).decode() for clip in clips]
    texts = [f"a voice number {n} that speaks slowly and calmly " * 4 for n in range(64)]
    for body in ({"input": uris, "modality": "audio"}, {"input": texts}):
        httpx.post(f"{url}/v1/embeddings", json=body, timeout=300).raise_for_status()


def _imports_no_torch() -> bool:
    code = "import sys, service.app; print('torch' in sys.modules or 'transformers' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    return done.stdout.strip() == "False"


if __name__ == "__main__":
    sys.exit(main())
