"""`clsp load-corpus`: shards into the index that the settings name, or a message that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from index.exchange import parquet
from index.local.store import LocalStore
from index.types import NewItem, NewSegment
from service.cli.common import CliError
from service.cli.main import app

pytest.importorskip("pyarrow", reason="Parquet needs the scale extra")

DIM = 4


def shard(path: Path, names: str, identity: str = "one") -> None:
    """A shard of one item a letter."""
    vector = np.eye(DIM, dtype=np.float32)[0]
    items = [NewItem(name, [NewSegment(0, 1, vector)], {"of": name}, 1.0, f"{ord(name):064x}") for name in names]
    parquet.write(path, items, dim=DIM, identity=identity)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("CLSP_DATA_DIR", str(folder))
    return folder


def clsp(*arguments: str) -> str:
    """What a command prints; raises what it raises."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_folder_of_shards_is_loaded_and_loaded_again(data: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    shard(shards / "part-1.parquet", "abc")
    shard(shards / "part-2.parquet", "de")
    report = json.loads(clsp("load-corpus", "voices", str(shards), "--batch", "2", "--json"))
    assert report == {"added": 5, "replaced": 0, "relabelled": 0, "unchanged": 0}
    assert "5 unchanged" in clsp("load-corpus", "voices", str(shards))
    with LocalStore(data) as store:
        assert store.get_collection("voices").identity == "one"
        assert store.get_item("voices", "d").metadata == {"of": "d"}


def test_a_load_that_cannot_be_says_why(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="holds no Parquet files"):
        clsp("load-corpus", "voices", str(tmp_path))
    shard(tmp_path / "one.parquet", "a")
    shard(tmp_path / "two.parquet", "b", identity="two")
    clsp("load-corpus", "voices", str(tmp_path / "one.parquet"))
    with pytest.raises(CliError, match="'one', not 'two'"):
        clsp("load-corpus", "voices", str(tmp_path / "two.parquet"))
    with LocalStore(data), pytest.raises(CliError, match="in use by another store"):
        clsp("load-corpus", "voices", str(tmp_path / "one.parquet"))
