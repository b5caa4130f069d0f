"""How small a fall a comparison would have seen: what a green build is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, stdev

from service.gates.questions import COSINE, Question, unit_of

POWER = 0.8
"""Chance with which the stated fall is found."""


def visible_change(differences: Sequence[float], *, error: float, tolerated: float) -> float:
    """The mean change that would be found with a chance of POWER, in the differences' unit.

    `error` is the question's part of the chance of a false alarm; `tolerated` is none. Student's t by the spread of the
    differences (Cohen, 1988, ch. 2). Raises ValueError for fewer than two differences.
    """
    count = len(differences)
    if count < 2:
        raise ValueError("a spread needs at least two pairs")
    return tolerated + _standard_errors(error, count) * stdev(differences) / math.sqrt(count)


def pairs_needed(differences: Sequence[float], fall: float, *, error: float, tolerated: float) -> int:
    """How many pairs of the same spread a mean fall of `fall` needs to be found; at most 100,000."""
    spread = stdev(differences)
    for count in range(3, 100_000):
        if tolerated + _standard_errors(error, count) * spread / math.sqrt(count) <= fall:
            return count
    return 100_000


def _standard_errors(error: float, count: int) -> float:
    """The fall, in standard errors as measured, that is found with a chance of POWER.

    Both spreads are estimates, the one measured here and the one of the run that falls: each widens the distribution of
    the statistic as noncentral t is wider than the normal (Johnson and Welch, 1940).
    """
    critical, power = quantile_t(1 - error, count - 1), NormalDist().inv_cdf(POWER)
    needed = critical + power
    for _ in range(20):
        needed = critical + power * math.sqrt(1 + (critical**2 + needed**2) / (2 * (count - 1)))
    return needed


def quantile_t(p: float, freedom: int) -> float:
    """Student's t by Hill's (1970) expansion of the normal quantile: within 1 % from 5 degrees on, low below."""
    z = NormalDist().inv_cdf(p)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def in_words(seen: Sequence[tuple[Question, float]], most: int = 6) -> str:
    """ "0.041 in emotion: angry, 0.090 in group ben": cosines, the least visible first; "" where nothing was asked."""
    cosines = sorted((one for one in seen if one[0].measure == COSINE), key=lambda one: -one[1])
    told = [f"{fall:.3f} in {_where(question)}" for question, fall in cosines[:most]]
    measured = sorted((one for one in seen if unit_of(one[0].measure) not in ("", "logits")), key=lambda one: -one[1])
    told += [f"{move:.2f} {unit_of(one.measure)} of {one.measure} in {_where(one)}" for one, move in measured[:most]]
    return ", ".join(told)


def _where(question: Question) -> str:
    group = "" if question.group is None else f"group {question.group}"
    return ", ".join(part for part in (group, question.subset) if part) or "all clips"
