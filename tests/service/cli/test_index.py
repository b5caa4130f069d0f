"""`clsp index` on a data folder: it plans, builds and tunes as the service that has the same settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.local.store import LocalStore
from index.types import NewItem, NewSegment
from tests.support.clsp_script import Run

VECTORS, DIM = 5000, 64
SETTINGS = {"CLSP_INDEX_FLAT_MIB": "1", "CLSP_INDEX_RECALL": "0.999"}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A closed data folder with somewhat more than a MiB of vectors."""
    vectors = np.random.default_rng(0).normal(size=(VECTORS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [
        NewItem(f"{i}", [NewSegment(0.0, 1.0, vector)], {}, 1.0, f"{i:064x}", None) for i, vector in enumerate(vectors)
    ]
    with LocalStore(tmp_path / "library") as store:
        store.create_collection("voices", dim=DIM, identity="x")
        store.upsert("voices", items, identity="x")
    return tmp_path / "library"


def test_index_commands_go_by_the_services_settings_and_options_before_them(clsp: Run, library: Path) -> None:
    there = {"CLSP_DATA_DIR": str(library), **SETTINGS}
    assert "ivf-sq8" in (planned := clsp("index", "plan", **there).out)
    assert ">= 1.00" in planned
    assert "flat" in clsp("index", "plan", "--flat-mib", 64, **there).out
    assert "in use, for 0.999" in clsp("index", "rebuild", **there).out
    assert "in use, for 0.5" in clsp("index", "tune", "--recall", 0.5, **there).out
    assert "in use, for 0.999" in clsp("index", "tune", "voices", **there).out
    assert "scanned whole" in clsp("index", "rebuild", "--flat-mib", 64, **there).out
    elsewhere = clsp("index", "plan", "--data-dir", "elsewhere", **there)
    assert (elsewhere.status, elsewhere.err) == (
        1,
        "Error: elsewhere holds no catalog.sqlite; name the folder with --data-dir\n",
    )


def test_index_commands_name_a_bad_setting_and_help_all_the_same(clsp: Run, library: Path) -> None:
    bad = {"CLSP_INDEX_RECALL": "much"}
    refused = clsp("index", "rebuild", "--data-dir", library, **bad)
    assert refused.status == 1
    assert "CLSP_INDEX_RECALL" in refused.err and "Traceback" not in refused.err
    assert "CLSP_INDEX_RECALL" in clsp("index", "tune", "--help", **bad).out
    # What needs no settings works whatever they are.
    assert clsp("index", "backup", "copy", "--data-dir", library, **bad).status == 0
