"""Where things lie: the project, its bundle and example clips, and the shared data where there is some."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "models" / "clsp-small"
LIBRARY = ROOT / "examples" / "library"
SHARED = Path(os.environ.get("CLSP_SHARED", ROOT.parent / "shared"))


def script_environment(**more: str) -> dict[str, str]:
    """The environment in which `python -m tests.support.NAME` runs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}
