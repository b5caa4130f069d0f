"""Which captions of a batch are true of which clips: claims against facts, so that a true caption is no negative."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NEAR = 0.25  # a caption that says 'high' of a clip that is 'very high' is a weak positive
NEIGHBOURS = {"low": "very_low", "very_low": "low", "high": "very_high", "very_high": "high"}

Claims = Mapping[str, str]


class ClaimTable:
    """Facts of clips and claims of captions over one vocabulary of (attribute, value)."""

    def __init__(self, facts: Sequence[Claims], claims: Sequence[Claims]) -> None:
        """`facts[i]` is all that is known of clip i, `claims[j]` all that caption j states."""
        pairs = sorted({pair for claim in claims for pair in claim.items()})
        self.place = {pair: i for i, pair in enumerate(pairs)}
        self.facts = torch.zeros(len(facts), len(pairs))
        for row, fact in zip(self.facts, facts, strict=True):
            for attribute, value in fact.items():
                for said, weight in ((value, 1.0), (NEIGHBOURS.get(value), NEAR)):
                    if (attribute, said) in self.place:
                        row[self.place[attribute, str(said)]] = weight
        self.claims = torch.zeros(len(claims), len(pairs))
        for row, claim in zip(self.claims, claims, strict=True):
            for pair in claim.items():
                row[self.place[pair]] = 1.0

    def match(self, clips: Tensor, captions: Tensor) -> Tensor:
        """How true each caption is of each clip, int64 [N] and [M] -> [N, M] in 0..1: the product over its claims."""
        logs = self.facts[clips].clamp(min=1e-6).log() @ self.claims[captions].T
        truth = logs.exp()
        # A caption without claims is true of its own clip alone; the caller adds that diagonal.
        truth[:, self.claims[captions].sum(1) == 0] = 0.0
        return torch.where(truth > 1e-3, truth, torch.zeros_like(truth))
