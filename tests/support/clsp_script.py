"""Runs the installed `clsp` script as a user would; the names that the tests of the command line share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

LIBRARY = ROOT / "examples" / "library"
CLSP = Path(sys.executable).with_name("clsp")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed for machines; fails the test when the command failed."""
        assert self.status == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Done]


def run_clsp(*arguments: object, cwd: Path, environment: Mapping[str, str] | None = None) -> Done:
    """Run the installed script, as a user would, in a wide terminal without colours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLSP_")}
    done = subprocess.run(
        [str(CLSP), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**clean, "COLUMNS": "160", "NO_COLOR": "1", **(environment or {})},
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
