"""Runs the curl commands of README.md and docs/api.md against a real service and writes down what it answers.

    python docs/readme_examples.py            # rewrite the outputs
    python docs/readme_examples.py --check    # exit 1 when a command fails; the outputs stay

A fenced ```bash block that starts with `curl` is a command; a fenced ```json block right after it is its output,
re-indented to the page's width and rounded. Commands run in the repository's root, in the order of the page.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from clsp_client import Client, ClspError
from service.cli.common import CliError
from service.cli.local_server import local_server
from service.cli.upload import Ingest
from service.core.clip_sources import read_source

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "api.md")
WRITTEN_URL = "http://127.0.0.1:8000"
WIDTH = 112
_EXAMPLE = re.compile(r"```bash\n(?P<command>curl .*?)```\n(?:\n?```json\n(?P<output>.*?)```\n)?", re.DOTALL)


def render(value: Any, depth: int = 0) -> str:
    """JSON filled into the page's width, floats to four digits; vectors are cut to two numbers, and say so."""
    if isinstance(value, list) and len(value) > 8 and all(isinstance(item, float) for item in value):
        return f"[{value[0]:.4f}, {value[1]:.4f}, ... {len(value)} numbers]"
    if isinstance(value, float):
        return json.dumps(round(value, 4))
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = depth + 2
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {render(item, inner)}" for key, item in value.items()]
    else:
        parts = [render(item, inner) for item in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    line = opening + ", ".join(parts) + closing
    if "\n" not in line and depth + len(line) <= WIDTH:
        return line
    rows = [""]
    for part in parts:
        joined = f"{rows[-1]}, {part}" if rows[-1] else part
        # What spans lines has lines of its own.
        if rows[-1] and ("\n" in joined or inner + len(joined) > WIDTH):
            rows.append(part)
        else:
            rows[-1] = joined
    body = (",\n" + " " * inner).join(rows)
    return f"{opening}\n{' ' * inner}{body}\n{' ' * depth}{closing}"


def run(command: str, url: str) -> str:
    """Run one curl command -> its answer as the page shows it. Raises CliError when curl or the service fails."""
    strict = "" if "--no-fail" in command else "--fail-with-body "
    script = command.replace(WRITTEN_URL, url).replace("curl ", f"curl --silent --show-error {strict}", 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603, S607
    if done.returncode:
        raise CliError(f"This command failed\n{command}{done.stdout}{done.stderr}")
    try:
        return render(json.loads(done.stdout)) + "\n" if done.stdout.strip() else ""
    except json.JSONDecodeError:
        return done.stdout


def refresh(page: str, url: str) -> str:
    """The page with every output as the service answers now."""

    def replace(match: re.Match[str]) -> str:
        output = run(match["command"], url)
        if match["output"] is None:
            return match[0]  # audio, or an empty answer: it only has to work
        return f"```bash\n{match['command']}```\n\n```json\n{output}```\n"

    return _EXAMPLE.sub(replace, page)


def fill(url: str) -> None:
    """What the pages assume: the example library, as `make demo` leaves it."""
    with Client(url) as client:
        ingest = Ingest(client, "examples")
        ingest.prepare()
        for _ in ingest.steps(read_source(ROOT / "examples" / "library" / "manifest.jsonl")):
            pass


def main() -> int:
    """Rewrite or check the pages."""
    try:
        environment = {"CLSP_INGEST_ROOTS": f"recordings={ROOT / 'examples' / 'library'}"}
        with local_server(environment=environment) as server:
            fill(server.url)
            for path in PAGES:
                fresh = refresh(path.read_text("utf-8"), server.url)
                if "--check" not in sys.argv:
                    path.write_text(fresh, "utf-8")
    except (CliError, ClspError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
