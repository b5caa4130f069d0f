"""Features gathered over all processes, and a loss on them whose averaged gradients are those of one process."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from training.objective.losses import ownership, soft_target_loss
from training.trainer.claims import Told, judge

Row = TypeVar("Row")


def world() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Rows [n, ...] of every process, in order of rank: [sum of n, ...]. n may differ; only our own carry gradients."""
    if world() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world())]
    dist.all_gather(counts, torch.tensor([rows.shape[0]], device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: rows.shape[0]] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    found = [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
    found[dist.get_rank()] = rows
    return torch.cat(found)


def gather_objects(rows: Sequence[Row]) -> list[Row]:
    """Anything, one for each row, of every process, in order of rank."""
    if world() == 1:
        return list(rows)
    parts: list[Sequence[Row]] = [()] * world()
    dist.all_gather_object(parts, list(rows))
    return [row for part in parts for row in part]


def gathered_loss(
    speech: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    negatives: Tensor | None = None,
    owners: Tensor | None = None,
    told: Told | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss over all processes' clips: (what to call backward on, the loss itself without gradient).

    speech [n, D], texts [n, K, D] (a clip's own), negatives [m, D] with owners int64 [m] (the clip that each must not
    match). With `told`, others' captions that are true of a clip are right as well, and those of which nobody knows
    don't count; without it, and where captions claim nothing, it is the paper's loss.

    Every process computes the whole loss, with gradients through its own rows alone; the sum of these over processes is
    the whole gradient. Data parallelism averages them, so ours is multiplied by the number of processes. The
    temperature is everybody's own: each process has its whole gradient, and one share of it is kept.
    """
    processes = world()
    if processes > 1:
        offset = 0
        if owners is not None:
            counts = gather_rows(torch.tensor([speech.shape[0]], device=speech.device))
            offset = int(counts[: dist.get_rank()].sum())
            owners = gather_rows(owners + offset)
        if negatives is not None:
            negatives = gather_rows(negatives)
        speech, texts = gather_rows(speech), gather_rows(texts)
        logit_scale = logit_scale / processes + (logit_scale - logit_scale / processes).detach()
    columns = texts.transpose(0, 1).flatten(0, 1)  # clip i owns texts i, i + N, ...
    match = ownership(len(speech), len(columns)).to(speech)
    ignore: Tensor | None = None
    if told is not None:  # on every process or on none: that ours claim nothing must not keep us from gathering
        claims = [said for texts in zip(*gather_objects(told.claims), strict=True) for said in texts]
        true, unknown = gather_rows(judge(told.facts, claims).to(speech)).unbind(1)
        match, ignore = torch.maximum(match, true), unknown > 0
    loss = soft_target_loss(speech, columns, logit_scale, match, ignore, negatives=negatives, owners=owners)
    return loss * processes, loss.detach()
