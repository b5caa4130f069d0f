"""Learning-rate schedules as pure functions of the step and the epoch: a resumed run needs no state of theirs."""

from training.trainer.heads.train import rate
from training.trainer.recipe import ConstantPart, CosinePart, EdenPart


def eden(step: int, epoch: float, *, steps: float, epochs: float, warmup: int, warmup_start: float) -> float:
    """Eden's share of the peak rate (arXiv 2310.11230, section 3.5).

    ((t^2 + a^2) / a^2)^(-1/4) for the step t with a = `steps`, times the same for the epoch with a = `epochs`, times a
    line from `warmup_start` to 1 over the first `warmup` steps.
    """
    by_step = ((step**2 + steps**2) / steps**2) ** -0.25
    by_epoch = ((epoch**2 + epochs**2) / epochs**2) ** -0.25
    warm = 1.0 if step >= warmup else warmup_start + (1.0 - warmup_start) * step / warmup
    return float(by_step * by_epoch * warm)


def factor(schedule: CosinePart | ConstantPart | EdenPart, step: int, epoch: int, steps: int) -> float:
    """Share of the peak rate at a step (from 0) of `steps`, in the epoch (from 0)."""
    if isinstance(schedule, EdenPart):
        options = schedule.model_dump(exclude={"kind"})
        return eden(step, epoch, **options)
    if isinstance(schedule, ConstantPart):
        return min(1.0, (step + 1) / max(1, schedule.warmup))
    return rate(step, schedule.warmup, steps)
