"""Which captions a clip brings to a step: the two stages' choices and the schedule between stage 2's two tasks."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.corpus.data import stable_seed
from training.objective.matches import Claims
from training.trainer.negatives import swap_attribute
from training.trainer.recipe import AudioPart, StagePart


@dataclass(frozen=True)
class Drawn:
    """A clip's texts of one step: one in stage 1, two in stage 2, and what each claims; a false one where possible."""

    texts: tuple[str, ...]
    claims: tuple[Claims, ...]
    negative: str | None
    task: int


def task1_probability(stage: StagePart, step: int) -> float:
    """P(task 1) at a step: max(floor, start - fall * t / over), the paper's max(0.50, 0.95 - 0.45 t / 10000)."""
    return max(stage.task_floor, stage.task_start - stage.task_fall * step / stage.task_over)


def captions_of(captions: Sequence[Mapping[str, Any]], data: AudioPart) -> tuple[list[str], list[str]]:
    """A row's captions as (global, fine-grained) texts."""
    whole = [str(c["text"]) for c in captions if c["kind"] in data.global_kinds]
    fine = [str(c["text"]) for c in captions if c["kind"] in data.fine_kinds]
    return whole, fine


def draw_texts(
    captions: Sequence[Mapping[str, Any]], clip: str, step: int, *, stage: StagePart, data: AudioPart, seed: int
) -> Drawn:
    """The texts of a clip at a step, the same whenever and wherever they are drawn again.

    Stage 1: one fine-grained caption. Stage 2, task 1: a global and a fine-grained one; task 2: two different
    fine-grained ones. A clip that lacks a kind gives the other kind in its place, one with a single caption gives it
    twice. Raises ValueError for a clip without captions of either kind.
    """
    rng = random.Random(stable_seed("texts", seed, step, clip))
    whole, fine = captions_of(captions, data)
    if not whole and not fine:
        raise ValueError(f"{clip} has no caption of the kinds {', '.join((*data.global_kinds, *data.fine_kinds))}")
    task = 1 if stage.number == 1 or rng.random() < task1_probability(stage, step) else 2
    first = rng.choice(fine or whole)
    if stage.number == 1:
        texts: tuple[str, ...] = (first,)
    else:
        other_whole, other_fine = ([text for text in kind if text != first] for kind in (whole, fine))
        preferred = other_whole or other_fine if task == 1 else other_fine or other_whole
        second = rng.choice(preferred or [first])
        texts = (second, first)
    negative = None
    if stage.hard_negatives and rng.random() < stage.hard_negatives:
        negative = swap_attribute(rng.choice(texts), rng)
    said = {str(caption["text"]): caption.get("claims") or {} for caption in captions}
    return Drawn(texts, tuple(said[text] for text in texts), negative, task)
