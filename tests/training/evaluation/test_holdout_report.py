"""Leaving a corpus out: what is tested on was never trained on, by clip and by speaker."""

import json
from contextlib import chdir
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from model_export.holdout_report import read_left_out
from tests.support.training_heads import small_recipe
from training.evaluation.holdout_report import leave_out, main, parse_condition
from training.objective.examples import TrainClip


def clip(name: str, source: str, speaker: str, split: str = "train", **facts: str) -> TrainClip:
    return TrainClip(Path(name), split, source, speaker, facts, ())


CLIPS = [
    clip("a", "acted", "anna", gender="female"),
    clip("b", "acted", "bert", gender="male"),
    clip("b-restyled", "acted", "bert"),  # nobody can tell its gender any more
    clip("c", "acted", "carl", "test", gender="male"),
    clip("d", "read", "dora", gender="female"),
    clip("e", "read", "emil", "dev", gender="male"),
]


def names(clips: list[TrainClip]) -> list[str]:
    return [str(c.path) for c in clips]


def test_a_corpus_is_tested_on_whole_and_never_trained_on() -> None:
    kept, left, dropped = leave_out(CLIPS, parse_condition("source=acted"))
    assert names(kept) == ["d"]
    assert names(left) == ["a", "b", "b-restyled", "c"]
    assert names(dropped) == ["e"]


def test_every_clip_of_a_speaker_left_out_stays_out_of_training() -> None:
    kept, left, dropped = leave_out(CLIPS, parse_condition("source=acted,gender=male"))
    assert names(kept) == ["a", "d"]
    assert names(left) == ["b", "c"]
    assert names(dropped) == ["b-restyled", "e"]


@pytest.mark.parametrize("text", ["", "source", "source=", "colour=red", "source=acted;gender=male,x"])
def test_a_condition_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not FIELD=VALUE"):
        parse_condition(text)


def test_figures_of_what_was_left_out_are_what_an_export_takes(
    manifest: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {"source": "near" if i % 3 else "far", "path": str(manifest.parent / row["path"])}
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = small_recipe(tokenizer_path, steps=5).model_dump(mode="json")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    app = typer.Typer()
    app.command()(main)
    options = ["--leave", "source=far", "--steps", "3", "--out", "left.json", "--cache", "cache"]
    with chdir(tmp_path):
        done = CliRunner().invoke(app, ["recipe.yaml", "--manifest", "manifest.jsonl", *options])
        assert done.exit_code == 0, done.output
        told = read_left_out(Path("left.json"))
    assert (told.recipe, told.version, told.steps, told.recipe_steps) == ("tiny", "1", 3, 5)
    assert told.left_out["source=far"]["clips"] == 24 and "pitch" in told.left_out["source=far"]
