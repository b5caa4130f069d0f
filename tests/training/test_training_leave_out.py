"""Leaving a corpus out: what is tested on was never trained on, by clip and by speaker."""

from pathlib import Path

import pytest

from training.examples import TrainClip
from training.leave_out import leave_out, parse_condition


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
