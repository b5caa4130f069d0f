"""Attribute drill-down: which part of a caption a clip misses. Pure functions on cosines.

Each claim of the caption ("whispering") is weighed against its opposites ("breathy", "creaky", "clear") at the model's
temperature, in sentences that differ in nothing else. The margin is the claim's logit over the average opposite's:
0 is indifferent for a family of any size, negative means that the clip sounds more like an opposite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.style.claims import Claim

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FamilyCosines:
    """Cosines of one family's values with a clip: as a whole {value: cosine}, and by window {value: [n]}."""

    whole: Mapping[str, float]
    windows: Mapping[str, Floats]


@dataclass(frozen=True)
class ClaimScore:
    """A judged claim. `probability` is the margin's, 0.5 where indifferent; `heard` is the family's best value."""

    claim: Claim
    margin: float
    probability: float
    heard: str
    cosines: dict[str, float]


def judge_claims(claims: Sequence[Claim], cosines: Mapping[str, FamilyCosines], logit_scale: float) -> list[ClaimScore]:
    """Judge each claim against its opposites; the weakest first.

    A family of which the caption claims several values ("slowly at first, then fast") changes over time: each of them
    is judged in the window that suits it best, and not against the others claimed.
    """
    scores = []
    for claim in claims:
        family = cosines[claim.family]
        claimed = {one.value for one in claims if one.family == claim.family and one.negated == claim.negated}
        rivals = [value for value in family.whole if value not in claimed]
        if not rivals:
            continue  # every value is claimed: there is nothing to weigh against
        changes = len(claimed) > 1 and not claim.negated  # "neither fast nor slow" is meant of the whole clip
        at = _best_window(family, claim.value, rivals) if changes else None
        found = {
            value: float(whole if at is None else family.windows[value][at]) for value, whole in family.whole.items()
        }
        margin = _margin(found[claim.value], [found[value] for value in rivals], logit_scale)
        margin = -margin if claim.negated else margin
        heard = max(found, key=lambda value: found[value])
        scores.append(ClaimScore(claim, margin, float(0.5 * (1 + np.tanh(0.5 * margin))), heard, found))
    return sorted(scores, key=lambda score: score.margin)


def _margin(own: float, others: Sequence[float], logit_scale: float) -> float:
    """The claim's logit less the log of the mean odds of its opposites."""
    logits = logit_scale * np.asarray(others, np.float64)
    top = float(logits.max())
    return float(logit_scale * own - (top + np.log(np.exp(logits - top).mean())))


def _best_window(family: FamilyCosines, value: str, rivals: Sequence[str]) -> int | None:
    own = family.windows[value]
    if not len(own):
        return None
    others = np.mean([family.windows[rival] for rival in rivals], axis=0)
    return int(np.argmax(own - others))
