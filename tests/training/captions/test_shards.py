"""Shards: every row in exactly one, whatever their number; outputs of shards add up to the output of the whole."""

import asyncio
from pathlib import Path

import pytest

from tests.support.captions_server import serving
from tests.training.captions.test_annotate import job, run
from training.captions.formats import FormatError, read_rows, write_rows
from training.captions.ray_job import ScaleError, ShardWorker, merge_reports
from training.captions.ray_job import run as run_on_ray
from training.captions.shards import keep_plan, plan_shards, read_shard

NAMES = ["m.jsonl", "m_cuts.jsonl", "m.jsonl.gz", "m.parquet"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 5, 12, 40, 5000])
def test_every_row_is_in_exactly_one_shard(name: str, count: int, clips, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    write_rows(tmp_path / name, [{**row, "note": "ü" * (i % 5)} for i, row in enumerate(clips)])
    shards = plan_shards(tmp_path / name, count)
    assert len(shards) == (1 if name.endswith("gz") else len(shards))
    found = [row["id"] for shard in shards for row in read_shard(shard)]
    assert found == [row["id"] for row in clips]
    assert [s.number for s in shards] == list(range(len(shards)))


@pytest.mark.parametrize("count", [1, 5])
def test_a_mark_at_the_beginning_is_passed_over(count: int, clips, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_rows(path, clips)
    path.write_text(path.read_text("utf-8"), "utf-8-sig")  # as an editor on Windows saves it
    found = [row for shard in plan_shards(path, count) for row in read_shard(shard)]
    assert found == list(read_rows(path))
    assert len(found) == 12


def test_a_folder_of_files_and_a_kept_plan(clips, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in range(3):
        write_rows(folder / f"{number}.jsonl.gz", clips[number * 4 : number * 4 + 4])
    shards = plan_shards(folder, 2)
    assert [row["id"] for s in shards for row in read_shard(s)] == [row["id"] for row in clips]
    out = tmp_path / "out"
    assert keep_plan(out, shards) == shards
    assert keep_plan(out, plan_shards(folder, 99)) == shards  # the plan that a folder was begun with stands
    write_rows(tmp_path / "other.jsonl", clips)
    with pytest.raises(FormatError, match="another manifest"):
        keep_plan(out, plan_shards(tmp_path / "other.jsonl", 2))
    with pytest.raises(FormatError, match="no manifests"):
        plan_shards(tmp_path / "out" / "..", 1) and plan_shards(tmp_path, 1) and plan_shards(_empty(tmp_path), 1)


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_shards_together_are_the_whole(manifest: Path, tmp_path: Path, quick) -> None:
    with serving() as server:
        task = job(quick(server.url))
        run(task, manifest, tmp_path / "whole.jsonl", tmp_path / "whole.sqlite")
        out = tmp_path / "parts"
        shards = keep_plan(out, plan_shards(manifest, 5))
        for shard in reversed(shards):  # in any order
            asyncio.run(task.run(shard.source(None), out / f"{shard.name}.jsonl", out / f"{shard.name}.sqlite"))
        report = merge_reports(out, shards)
        asked = len(server.asked)
        again = asyncio.run(task.run(shards[0].source(None), out / f"{shards[0].name}.jsonl", out / "a.sqlite"))
        assert again.untouched
        assert len(server.asked) == asked
    whole = list(read_rows(tmp_path / "whole.jsonl"))
    parts = [row for shard in shards for row in read_rows(out / f"{shard.name}.jsonl")]
    assert parts == whole
    assert report.clips == 12
    assert (out / "all.report.md").exists()


def test_workers_share_an_endpoints_limits(quick) -> None:
    options = quick("http://a/v1", concurrency=10, requests_per_minute=60, max_cost=9)
    mine = job(options, verifier=options).share(3)
    for part in (mine.annotator, mine.verifier):
        assert part is not None
        assert (part.concurrency, part.requests_per_minute, part.max_cost) == (3, 20, 3)
    with pytest.raises(ValueError, match="fewer workers"):
        job(options).share(11)


def test_without_ray_the_command_says_what_is_missing(manifest: Path, tmp_path: Path, quick) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(ScaleError, match="scale"):
            run_on_ray(job(quick("http://a/v1")), manifest, tmp_path / "o", workers=1, shards=2)


def test_a_worker_spends_its_budget_once_over_all_its_shards(manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out"
    keep_plan(out, plan_shards(manifest, 8))
    with serving() as server:
        # An answer of 50 tokens costs 1.
        task = job(quick(server.url, concurrency=1, output_price=20_000.0, max_cost=2), short=0, long=1)
        told = ShardWorker(task, str(out), None)({"number": list(range(8))})
    assert len(server.asked) == 2
    assert sum(told["begun"]) < 8
    assert all("budget of 2" in reason for reason in told["stopped"][told["begun"].index(False) :])
    assert "another start has it anew" in told["stopped"][-1]


def test_what_stopped_a_shard_is_not_met_again_by_the_next(manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out"
    keep_plan(out, plan_shards(manifest, 8))
    with serving(behave=lambda asked: "401") as server:
        ShardWorker(job(quick(server.url, concurrency=1)), str(out), None)({"number": list(range(8))})
    assert len(server.asked) == 1
