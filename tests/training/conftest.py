"""Where the reference lies, for the tests that prove our network is the paper's."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("CLSP_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture(scope="session")
def reference() -> Path:
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"the reference tensors are not at {SHARED / 'reference'}")
    return SHARED / "reference"
