"""Features gathered over all processes, and a loss on them whose averaged gradients are those of one process."""

import torch
from torch import Tensor
from torch import distributed as dist

from training.losses import multi_positive_loss


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


def gathered_loss(
    speech: Tensor, texts: Tensor, logit_scale: Tensor, negatives: Tensor | None = None, owners: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The paper's loss over all processes' clips: (what to call backward on, the loss itself without gradient).

    speech [n, D], texts [n, K, D] (a clip's own), negatives [m, D] with owners int64 [m] (the clip that each must not
    match). Every process computes the whole loss, with gradients through its own rows alone; the sum of these over
    processes is the whole gradient. Data parallelism averages them, so ours is multiplied by the number of processes.
    The temperature is everybody's own: each process has its whole gradient, and one share of it is kept.
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
    loss = multi_positive_loss(speech, columns, logit_scale, negatives, owners)
    return loss * processes, loss.detach()
