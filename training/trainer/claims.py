"""Which texts of a step are true of which clips, where captions make claims and something is known of the clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.objective.matches import Claims, ClaimTable


@dataclass(frozen=True)
class Told:
    """`facts[i]` is all that is known of clip i, `claims[i]` what each of its own K texts states; {} is nothing."""

    facts: tuple[Claims, ...]
    claims: tuple[tuple[Claims, ...], ...]


def judge(facts: Sequence[Claims], claims: Sequence[Claims]) -> Tensor:
    """[N, 2, M] for clips and texts: how true (0 to 1), and 1 where nobody knows whether it is.

    A text without claims is true of nobody, a clip of which nothing is known matches nothing, and neither is in doubt:
    to both every text is wrong but their own, which is the caller's to add. That is how the paper has it.
    """
    table = ClaimTable(facts, claims)
    everything = torch.arange(len(facts)), torch.arange(len(claims))
    known = torch.tensor([bool(fact) for fact in facts])[:, None]
    unknown = table.unknown(*everything) & known
    return torch.stack([table.match(*everything), unknown.float()], 1)
