"""When each sentence of a caption holds: splitting captions, and reading moments off similarity curves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_ENDS = re.compile(r"(?<=[.!?;])\s+")
# A blank begins no match where another stands before it: a long row of them would be read from each one to its end.
_TURNS = re.compile(
    r"(?:,\s+(?:and\s+|but\s+)?|;\s+|(?<!\s)\s+and\s+)(?:then|after that|afterwards|finally|later)\b,?\s+",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"\b(?:suddenly|at first|at the beginning|in the beginning|to begin with|initially|at the end|in the end|first)"
    r"\b,?\s*"
    r"|^(?:then|finally|later|afterwards)\b,?\s*",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"^(?:an?|the|one|his|her|their|he|she|they|it|this|that|somebody|someone)\b", re.I)
_VERB = re.compile(
    r"^(?:[\w-]+ly\s+)?(?:is|are|has|speaks?|talks?|says?|whispers?|shouts?|sounds?|becomes?|turns?|reads?|answers?|"
    r"grows?|gets?|slows?|speeds?|rises?|falls?|drops?|laughs?|cries|calls?|announces?|rattles?)\b",
    re.I,
)


@dataclass(frozen=True)
class Sentence:
    """One statement of a caption: as written, and as the model is asked (a whole sentence without words of time)."""

    text: str
    prompt: str


@dataclass(frozen=True)
class Turn:
    """The moment at which one sentence gives way to the next. `strength` in logits: under 1 it may be noise."""

    at_s: float
    before: int
    after: int
    strength: float


def split_caption(caption: str, subject: str = "A person") -> list[Sentence]:
    """The statements of a caption in its order, split at sentence ends and at words like "and then".

    A fragment without a subject is asked with `subject`: "and then very fast" becomes "A woman speaks very fast."
    """
    pieces = [piece for sentence in _ENDS.split(caption.strip()) for piece in _TURNS.split(sentence)]
    sentences = []
    for piece in pieces:
        text = piece.strip(" ,;")
        core = _WHEN.sub("", text).strip(" ,;.!?")
        if len(core) < 3:
            continue
        if not _SUBJECT.match(core):
            core = f"{subject} {core}" if _VERB.match(core) else f"{subject} speaks {core}"
        sentences.append(Sentence(text, core[0].upper() + core[1:] + "."))
    return sentences


def holds(curve: ArrayLike, *, least_gap: float, throughout: bool) -> NDArray[np.bool_]:
    """Where a sentence holds, [n] cosines over time -> [n]: in the upper of the curve's two levels.

    The levels are the curve's best split in two (least squares). When they are closer than `least_gap` the curve is
    flat, and the sentence holds all the time or never, as `throughout` says.
    """
    values = np.asarray(curve, np.float64)
    if len(values) < 2:
        return np.full(len(values), throughout)
    ordered = np.sort(values)
    counts = np.arange(1, len(ordered))
    lower = np.cumsum(ordered)[:-1] / counts
    upper = (ordered.sum() - np.cumsum(ordered)[:-1]) / (len(ordered) - counts)
    between = counts * (len(ordered) - counts) * (upper - lower) ** 2
    best = int(np.argmax(between))
    if upper[best] - lower[best] < least_gap:
        return np.full(len(values), throughout)
    return _steady(values > (lower[best] + upper[best]) / 2)


def _steady(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without lone windows: a style that holds for one window of several that overlap does not hold."""
    if len(mask) < 3:
        return mask
    steady = mask.copy()
    steady[1:-1] = mask[:-2].astype(int) + mask[1:-1] + mask[2:] >= 2
    return steady


def spans(windows: Sequence[tuple[float, float]], mask: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Windows that hold, joined: [(start_s, end_s)]. A window speaks for the time nearest to its middle."""
    if not len(mask):
        return []
    middles = [(start + end) / 2 for start, end in windows]
    edges = [windows[0][0], *((a + b) / 2 for a, b in pairwise(middles)), windows[-1][1]]
    joined: list[tuple[float, float]] = []
    for place, held in enumerate(mask):
        if not held:
            continue
        if place and mask[place - 1]:
            joined[-1] = (joined[-1][0], edges[place + 1])
        else:
            joined.append((edges[place], edges[place + 1]))
    return joined


def find_turns(curves: ArrayLike, windows: Sequence[tuple[float, float]], logit_scale: float) -> list[Turn]:
    """When each of several sentences gives way to the next, if they hold one after the other.

    `curves` is [sentences, windows] cosines. Of all ways to cut the clip into as many stretches, in order, the one in
    which each sentence stands out most in its own is taken: curves are centred first, since some sentences fit any
    clip better than others. With two sentences that is the CUSUM estimate of a change point (Page, 1954).
    """
    table = np.asarray(curves, np.float64)
    count, length = table.shape
    if count < 2 or length < count:
        return []
    centred = logit_scale * (table - table.mean(axis=1, keepdims=True))
    cuts = _best_cuts(centred)
    middles = np.array([(start + end) / 2 for start, end in windows])
    bounds = [0, *cuts, length]
    turns = []
    for k, cut in enumerate(cuts):
        difference = centred[k] - centred[k + 1]
        strength = difference[bounds[k] : cut].mean() - difference[cut : bounds[k + 2]].mean()
        turns.append(Turn(float((middles[cut - 1] + middles[cut]) / 2), k, k + 1, float(strength)))
    return turns


def _best_cuts(gain: Floats) -> list[int]:
    """Cuts that maximise the sum of gain[k] over stretch k, each stretch at least one window long."""
    count, length = gain.shape
    total = np.concatenate([np.zeros((count, 1)), np.cumsum(gain, axis=1)], axis=1)
    best = np.full((count, length + 1), -np.inf)
    came = np.zeros((count, length + 1), int)
    best[0, 1:] = total[0, 1:]
    for k in range(1, count):
        # Best end of stretch k - 1 up to each place, kept as a running maximum.
        ahead = best[k - 1] - total[k]
        where = 0
        for end in range(1, length + 1):
            if ahead[end - 1] > ahead[where]:
                where = end - 1
            best[k, end], came[k, end] = ahead[where] + total[k, end], where
    cuts: list[int] = []
    end = length
    for k in range(count - 1, 0, -1):
        end = int(came[k, end])
        cuts.append(end)
    return cuts[::-1]
