"""Pairs of clips and captions that belong together, and pairs that don't, to fit and judge a calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.clips import EvaluationClip
from training.examples import TrainClip
from training.matches import ClaimTable

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
        """Every matched pair and one mismatched a caption, drawn at random, from cosines [clips, captions]."""
        rng = np.random.default_rng(seed)
        columns = np.arange(len(self.texts))
        drawn = [(int(rng.choice(np.flatnonzero(self.false[:, c]))), c) for c in columns if self.false[:, c].any()]
        wrong, of = (np.array(side, np.int64) for side in (zip(*drawn, strict=True) if drawn else ((), ())))
        return ScoredPairs(
            np.concatenate([cosines[self.own, columns], cosines[wrong, of]]).astype(np.float64),
            np.concatenate([np.ones(len(columns)), np.zeros(len(drawn))]),
            np.concatenate([self.own, wrong]),
            cosines[self.false].astype(np.float64),
        )


@dataclass(frozen=True)
class ScoredPairs:
    """Cosines of pairs, 1 where they match, the clip of each, and the cosines of all mismatched pairs there are."""

    cosines: NDArray[np.float64]
    truth: NDArray[np.float64]
    clips: NDArray[np.int64]
    mismatched: NDArray[np.float64]


def pair_up(clips: Sequence[TrainClip | EvaluationClip], *, most: int = MOST_CAPTIONS) -> Pairs:
    """Pair clips with the captions of all, global and fine; at most `most` captions, evenly over the clips.

    Where captions state claims, a pair is mismatched when a claim contradicts the clip's facts; where they don't, when
    the caption is another clip's and reads differently from each of this one's.
    """
    told = [(i, caption) for i, clip in enumerate(clips) for caption in clip.captions if caption.kind in KINDS]
    told = told[:: max(1, -(-len(told) // most))]
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
