"""The renderings of one clip, itself first: what captions are written about, before any channel is laid over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.captions import acoustic
from training.corpus import world
from training.corpus.data import SourceRecipe, stable_seed
from training.corpus.plan import Variant, known_phonation, plan_variants
from training.corpus.resynthesis import change_halfway, render
from training.corpus.sources import Clip

Kind = Literal["source", "restyled", "changed", "synthesis"]


@dataclass(frozen=True)
class Voice:
    """One rendering: [samples] at 16 kHz. `gender` is None where the edit makes the label doubtful."""

    id: str
    wave: acoustic.Wave
    kind: Kind
    gender: str | None
    phonation: str | None  # known by label or by construction
    variant: Variant | None = None
    cut_s: float | None = None  # where the style changes

    def sides(self) -> tuple[str | None, str | None]:
        """Known phonation of each half."""
        if self.variant is None or self.variant.second is None:
            return self.phonation, self.phonation
        return known_phonation(self.variant.style), known_phonation(self.variant.second)


def voices_of(
    clip: Clip, wave: acoustic.Wave, tracks: acoustic.Tracks, gender: str | None, plan: SourceRecipe, *, seed: int
) -> Iterator[Voice]:
    """The clip as it is, and for training clips the plan's restyled versions; `tracks` are the clip's own analysis."""
    yield Voice(clip.id, wave, "synthesis" if clip.espeak else "source", gender, clip.phonation)
    if clip.split != "train" or plan.styles == 0:
        return
    drawn = stable_seed(seed, "styles", clip.id)
    seconds = len(wave) / acoustic.SAMPLE_RATE
    variants = plan_variants(plan.styles, plan.style_set, duration_s=seconds, gender=gender, seed=drawn)
    cut_s = acoustic.halving_point(tracks)
    analysed = world.analyse(wave, tracks.pitch())
    for number, variant in enumerate(variants):
        name = f"{clip.id}__s{number}"
        rng = np.random.default_rng(stable_seed(seed, name))
        kept = gender if variant.keeps_gender(gender) else None
        phonation = variant.phonation() or (clip.phonation if variant.second is None else None)
        if variant.second is not None:
            sound, changed_s = change_halfway(analysed, variant.style, variant.second, cut_s, rng)
            yield Voice(name, sound, "changed", kept, phonation, variant, changed_s)
        elif not variant.record():  # the clip as it is, through another channel
            yield Voice(name, wave, "source", kept, phonation, variant)
        else:
            yield Voice(name, render(analysed, variant.style, rng), "restyled", kept, phonation, variant)
