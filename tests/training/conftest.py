"""Where the reference lies, for the tests that prove our network is the paper's; and what heads are trained on."""

from pathlib import Path

import pytest

from tests.support.paths import SHARED


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture(scope="session")
def reference() -> Path:
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"the reference tensors are not at {SHARED / 'reference'}")
    return SHARED / "reference"


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.training_heads import write_words

    return write_words(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.training_heads import write_buzzes

    return write_buzzes(tmp_path_factory.mktemp("clips"))
