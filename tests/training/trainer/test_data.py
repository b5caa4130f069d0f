"""Batches by duration from every kind of manifest: repeatable, complete, shared out over processes, found again."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.support.training_stages import stage_recipe, write_manifest, write_tokenizer
from training.captions.formats import read_rows, write_rows
from training.trainer.batches import Place, SpeechBatch, load_batches
from training.trainer.clips import Source, some_rows, survey
from training.trainer.errors import EmptyEpochError
from training.trainer.heads.features import load_plain_tokenizer
from training.trainer.recipe import StageRecipe
from training.trainer.run import held_out_clips


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("buzzes"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("words"))


def batches(recipe: StageRecipe, manifest: Path, **options: object) -> Iterator[SpeechBatch]:
    tokenizer = load_plain_tokenizer(Path(recipe.start.tokenizer) / "tokenizer.json")
    return load_batches(Source(manifest, recipe.data), recipe, tokenizer, **options)


def epoch(recipe: StageRecipe, manifest: Path, number: int = 0, **options: object) -> list[SpeechBatch]:
    found = []
    for batch in batches(recipe, manifest, **options):
        if batch.after.epoch > number:
            break
        if batch.after.epoch == number:
            found.append(batch)
    return found


def same(one: SpeechBatch, other: SpeechBatch) -> bool:
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("wave", "ids", "mask", "owners"))
    return tensors and one.names == other.names and one.after == other.after and one.told == other.told


def test_every_clip_once_an_epoch_within_the_seconds(manifest: Path, tokenizer: Path) -> None:
    recipe = stage_recipe(tokenizer)
    first, second = epoch(recipe, manifest), epoch(recipe, manifest, 1)
    expected = sorted(row["id"] for row in read_rows(manifest) if row["split"] == "train")
    for found in (first, second):
        assert sorted(name for batch in found for name in batch.names) == expected
        assert all(batch.wave.numel() <= 16000 * recipe.data.batch_s for batch in found)
    assert [batch.names for batch in first] != [batch.names for batch in second]
    for batch in first:
        texts = len(batch.names) * 2
        assert batch.ids.shape[0] == texts + len(batch.owners)
        assert all(0 <= owner < len(batch.names) for owner in batch.owners.tolist())
        assert batch.seconds == pytest.approx(float(batch.lengths.sum()) / 16000)


def test_buckets_hold_like_lengths(manifest: Path, tokenizer: Path) -> None:
    def padding(buckets: int) -> float:
        found = epoch(stage_recipe(tokenizer, data={"buckets": buckets}), manifest)
        return 1 - sum(float(b.lengths.sum()) for b in found) / sum(b.wave.numel() for b in found)

    assert padding(6) < padding(2)


def test_a_place_is_found_again(manifest: Path, tokenizer: Path) -> None:
    recipe = stage_recipe(tokenizer, data={"channel": {"noise": 1.0, "level": 1.0}})
    size = len(epoch(recipe, manifest))
    whole = list(islice(batches(recipe, manifest), size + 5))
    for taken in (1, size, size + 2):  # in an epoch, at its end, in the next
        place = whole[taken - 1].after
        assert place.epoch == (taken > size)
        rest = list(islice(batches(recipe, manifest, step=taken, place=place), 3))
        assert all(same(one, other) for one, other in zip(whole[taken : taken + 3], rest, strict=True))


def test_worker_processes_change_nothing(manifest: Path, tokenizer: Path) -> None:
    alone = list(islice(batches(stage_recipe(tokenizer), manifest), 5))
    helped = list(islice(batches(stage_recipe(tokenizer, data={"workers": 2}), manifest), 5))
    assert all(same(one, other) for one, other in zip(alone, helped, strict=True))


def test_processes_share_the_clips(manifest: Path, tokenizer: Path) -> None:
    recipe = stage_recipe(tokenizer, data={"batch_s": 3.0, "drop_last": True})
    ranks = [epoch(recipe, manifest, rank=rank, processes=2) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) > 1  # nobody waits for a step that another does not take
    names = [{name for batch in found for name in batch.names} for found in ranks]
    assert not names[0] & names[1]


@pytest.mark.parametrize("name", ["m.jsonl", "m_cuts.jsonl.gz", "m.parquet"])
def test_every_format_gives_the_same_batches(manifest: Path, tokenizer: Path, tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    recipe = stage_recipe(tokenizer)
    write_rows(tmp_path / name, read_rows(manifest))
    ours, theirs = epoch(recipe, manifest), epoch(recipe, tmp_path / name)
    assert [batch.names for batch in ours] == [batch.names for batch in theirs]
    assert all(torch.equal(one.wave, other.wave) for one, other in zip(ours, theirs, strict=True))
    assert [batch.told for batch in ours] == [batch.told for batch in theirs]
    rows = {row["id"]: row for row in read_rows(manifest)}
    for batch in theirs:
        assert [facts["pitch"] for facts in batch.told.facts] == [rows[n]["attributes"]["pitch"] for n in batch.names]
        for facts, said in zip(batch.told.facts, batch.told.claims, strict=True):
            assert [claims["pitch"] for claims in said] == [facts["pitch"]] * 2


def test_stretches_of_a_cut_are_heard_alone(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    rows = [{**row, "start_s": 0.05, "duration_s": 0.25} for row in read_rows(manifest)]
    write_rows(tmp_path / "m_cuts.jsonl", rows)
    recipe = stage_recipe(tokenizer, data={"min_s": 0.25})
    for batch in epoch(recipe, tmp_path / "m_cuts.jsonl"):
        assert set(batch.lengths.tolist()) == {4000}
    held = held_out_clips(Source(tmp_path / "m_cuts.jsonl", recipe.data), "dev", 4, tmp_path / "cache")
    assert [clip.path.suffix for clip in held] == [".flac"] * 4


def test_survey_counts_what_is_left_out(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    rows = list(read_rows(manifest))
    rows[0] = {**rows[0], "captions": []}
    seconds = sorted(row["duration_s"] for row in rows[1:])
    write_rows(tmp_path / "m.jsonl", rows)
    recipe = stage_recipe(tokenizer, data={"min_s": 0.4, "max_s": 0.8})
    found = survey(Source(tmp_path / "m.jsonl", recipe.data))
    assert found.left_out["without captions"] == 1
    assert found.left_out["under 0.4 s"] == sum(s < 0.4 for s in seconds)
    assert found.left_out["over 0.8 s"] == sum(s > 0.8 for s in seconds)
    assert found.clips.total() == sum(0.4 <= s <= 0.8 for s in seconds)
    told = " ".join(found.lines())
    assert "1 without captions" in told and "train clips" in told
    (tmp_path / "empty.jsonl").write_text(json.dumps({"path": rows[1]["path"]}) + "\n")
    with pytest.raises(ValueError, match="1 without captions"):
        survey(Source(tmp_path / "empty.jsonl", recipe.data))


def test_seconds_come_from_the_file_where_nobody_tells(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    data = stage_recipe(tokenizer).data
    write_rows(tmp_path / "m.jsonl", [{k: v for k, v in r.items() if k != "duration_s"} for r in read_rows(manifest)])
    ours, theirs = (some_rows(Source(path, data), "dev", 7) for path in (manifest, tmp_path / "m.jsonl"))
    assert [row["duration_s"] for row in ours] == [row["duration_s"] for row in theirs]
    assert len(ours) == 7


def test_an_epoch_without_a_batch_is_refused(manifest: Path, tokenizer: Path) -> None:
    recipe = stage_recipe(tokenizer, data={"batch_s": 900.0, "drop_last": True})
    with pytest.raises(EmptyEpochError, match=r"data\.batch_s"):
        next(batches(recipe, manifest))
    assert Place() == Place(0, 0)
