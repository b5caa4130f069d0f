"""What the largest speech batch costs in memory and in processor time: a process for each size, the bare session in it.

python benchmarks/batch_audio.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from results import BUNDLE, report

from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from service.engine.threads import available_cpus

WINDOW_S = 10
SIZES = (10, 20, 30, 40, 80)


def main() -> int:
    """Measure each size in a process of its own, because an arena never shrinks."""
    if len(sys.argv) > 1:
        print(json.dumps(_measure(int(sys.argv[1]))))
        return 0
    rows = []
    for size in SIZES:
        done = subprocess.run([sys.executable, __file__, str(size)], capture_output=True, text=True, check=True)  # noqa: S603
        rows.append({"batch_audio_s": size, **json.loads(done.stdout)})
    report("batch_audio", "One batch of 10 s windows", ("batch_audio_s", "resident MB", "cpu ms / s of audio"), rows)
    return 0


def _measure(size: int) -> dict[str, float]:
    runtime = BundleRuntime(Bundle.load(BUNDLE), threads=available_cpus())
    generator = np.random.default_rng(0)
    batch = [0.1 * generator.standard_normal(WINDOW_S * 16_000).astype(np.float32) for _ in range(size // WINDOW_S)]
    runtime.embed_speech(batch)
    began = time.process_time()
    for _ in range(2):
        runtime.embed_speech(batch)
    spent = (time.process_time() - began) / 2 / size
    return {"resident MB": psutil.Process().memory_info().rss / 1e6, "cpu ms / s of audio": spent * 1000}


if __name__ == "__main__":
    sys.exit(main())
