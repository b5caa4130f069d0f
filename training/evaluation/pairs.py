"""Pairs of clips and captions that belong together, and pairs that don't, to fit and judge a calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.clips import EvaluationClip
from training.objective.examples import TrainClip
from training.objective.matches import ClaimTable

KINDS = ("global", "fine")
MOST_CAPTIONS = 4000


@dataclass(frozen=True)
class Pairs:
    """Captions (as texts), the clip each is of, and which clips each is not of: bool [clips, captions].

    `known_false`: what doesn't match contradicts the clip's facts; otherwise it only belongs to another clip, and may
    be true of this one by accident.
    """

    texts: list[str]
    own: NDArray[np.int64]
    false: NDArray[np.bool_]
    known_false: bool

    def scored(self, cosines: NDArray[np.floating], seed: int = 0) -> "ScoredPairs":
        """A matched pair and a mismatched one, its clip drawn at random, for each caption that mismatches some clip.

        `cosines` are [clips, captions]. Captions without a mismatch are left out: they would make matches the rule.
        """
        rng = np.random.default_rng(seed)
        columns = np.flatnonzero(self.false.any(0))
        wrong = np.array([rng.choice(np.flatnonzero(self.false[:, column])) for column in columns], np.int64)
        own = self.own[columns]
        return ScoredPairs(
            np.concatenate([cosines[own, columns], cosines[wrong, columns]]).astype(np.float64),
            np.repeat([1.0, 0.0], len(columns)),
            np.concatenate([own, wrong]),
            cosines[self.false].astype(np.float64),
        )


@dataclass(frozen=True)
class ScoredPairs:
    """Cosines of pairs, 1 where they match, the clip of each, and the cosines of all mismatched pairs there are."""

    cosines: NDArray[np.float64]
    truth: NDArray[np.float64]
    clips: NDArray[np.int64]
    mismatched: NDArray[np.float64]


def pair_up(
    clips: Sequence[TrainClip | EvaluationClip], *, kinds: Sequence[str] = KINDS, most: int = MOST_CAPTIONS
) -> Pairs:
    """Pair clips with the captions of all, of some kinds; at most `most` captions, drawn with a fixed seed.

    Where captions state claims, a pair is mismatched when a claim contradicts the clip's facts; where they don't, when
    the caption is another clip's and reads differently from each of this one's.
    """
    told = [(i, caption) for i, clip in enumerate(clips) for caption in clip.captions if caption.kind in kinds]
    if len(told) > most:  # every second one would be of one kind where each clip has one of either
        told = [told[i] for i in np.sort(np.random.default_rng(0).choice(len(told), most, replace=False))]
    own = np.array([i for i, _ in told], np.int64)
    texts = [caption.text for _, caption in told]
    known = bool(told) and all(caption.claims for _, caption in told) and all(clip.facts for clip in clips)
    if known:
        table = ClaimTable([clip.facts for clip in clips], [caption.claims for _, caption in told])
        everything = torch.arange(len(clips)), torch.arange(len(told))
        false = ~((table.match(*everything) > 0) | table.unknown(*everything)).numpy()
    else:
        read = [{reading(caption.text) for caption in clip.captions} for clip in clips]
        keys = [reading(text) for text in texts]
        false = np.array([[key not in mine for key in keys] for mine in read], bool).reshape(len(clips), len(told))
    false[own, np.arange(len(told))] = False
    return Pairs(texts, own, false, known)


def reading(text: str) -> str:
    """A caption as it is compared: spaces, case and a closing stop don't make another caption."""
    return " ".join(text.split()).casefold().rstrip(".!")
