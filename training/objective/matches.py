"""Which captions of a batch are true of which clips: claims against facts, so that a true caption is no negative."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NEAR = 0.25  # a caption that says 'high' of a clip that is 'very high' is a weak positive
NEIGHBOURS = {"low": "very_low", "very_low": "low", "high": "very_high", "very_high": "high"}

OR = "|"

PARTS = ("first.", "second.", "change.")

Claims = Mapping[str, str]


class ClaimTable:
    """Facts of clips and claims of captions over one vocabulary of (attribute, value)."""

    def __init__(self, facts: Sequence[Claims], claims: Sequence[Claims]) -> None:
        """`facts[i]` is all that is known of clip i, `claims[j]` all that caption j states."""
        pairs = sorted({pair for claim in claims for pair in claim.items()})
        self.place = {pair: i for i, pair in enumerate(pairs)}
        # Through lists: setting a tensor's elements one by one costs seconds where there are thousands of clips.
        self.truth = torch.tensor([[truth_of(pair, fact) for pair in pairs] for fact in facts])
        self.known = torch.tensor([[known_of(pair, fact) for pair in pairs] for fact in facts])
        said = [(row, self.place[pair]) for row, claim in enumerate(claims) for pair in claim.items()]
        self.claims = torch.zeros(len(claims), len(pairs))
        if said:
            self.claims[tuple(torch.tensor(said).T)] = 1.0

    def match(self, clips: Tensor, captions: Tensor) -> Tensor:
        """How true each caption is of each clip, int64 [N] and [M] -> [N, M] in 0..1: the product over its claims.

        A caption without claims matches nothing here; its own clip is the caller's to add.
        """
        said = self.claims[captions]
        truth = (self.truth[clips].clamp(min=1e-6).log() @ said.T).exp()
        return truth.masked_fill((truth < 1e-3) | (said.sum(1) == 0), 0.0)

    def unknown(self, clips: Tensor, captions: Tensor) -> Tensor:
        """Bool [N, M]: no claim of the caption is known to be false of the clip, and at least one is not known at all.

        Such a pair is no negative: nobody labelled the emotion of a reading, yet it may well sound sad.
        """
        said = self.claims[captions]
        known, truth = self.known[clips], self.truth[clips]
        false = (known * (truth == 0)) @ said.T
        return (false == 0) & ((1 - known) @ said.T > 0)


def truth_of(claim: tuple[str, str], fact: Claims) -> float:
    """How true a claim is of a clip of which `fact` is known, 0 to 1; 0 where nothing is known of it.

    A fact may name several values: "happy|excited" is surely happy, perhaps excited, and nothing else.
    """
    attribute, value = claim
    told = fact.get(attribute, "").partition(OR)[0]
    return 1.0 if told == value else NEAR if told and NEIGHBOURS.get(told) == value else 0.0


def known_of(claim: tuple[str, str], fact: Claims) -> float:
    """1 where a clip's facts tell whether the claim is true, or else 0."""
    # Nothing is said of parts where nothing changes: that is known, and makes such a claim false.
    attribute, value = claim
    if attribute not in fact:
        return float(attribute.startswith(PARTS))
    return float(value not in fact[attribute].split(OR)[1:])
