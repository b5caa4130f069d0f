"""ScaledAdam, the optimiser of the Zipformer paper (arXiv 2310.11230, section 3.5): steps relative to a tensor's size.

A tensor is seen as its root-mean-square r times a direction of unit size. Adam's step is multiplied by r, so that every
tensor changes by about the same share of itself, and r is learned beside it by an Adam step of its own on the gradient
dL/dr = sum(g * theta / r), at `scale_lr` times the rate:

    theta <- theta - lr * r * m^ / (sqrt(v^) + eps) - scale_lr * lr * theta * n^ / (sqrt(w^) + eps)

with m^, v^ the bias-corrected moments of g, and n^, w^ those of dL/dr. Scalars have no direction: theirs is an Adam
step at `scalar_lr` times the rate. Gradients are clipped at a multiple of the median of recent norms, each tensor's
norm measured in units of its own r.
"""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

FEW = 10  # norms that a median needs before anything is clipped


class ScaledAdam(Optimizer):
    """See the module. `clip` is in medians of the last `clip_window` gradient norms; 0 clips nothing.

    r is read as at least `min_rms` (a tensor that starts at 0 could not leave it) and kept at most `max_rms`; scalars
    stay within `max_scalar`. The norms are kept in the first group's `norms`, so that a state dict holds them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.045,
        betas: tuple[float, float] = (0.9, 0.98),
        *,
        eps: float = 1e-8,
        scale_lr: float = 0.1,
        scalar_lr: float = 0.1,
        min_rms: float = 1e-5,
        max_rms: float = 3.0,
        max_scalar: float = 10.0,
        clip: float = 2.0,
        clip_window: int = 100,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "scale_lr": scale_lr, "scalar_lr": scalar_lr}
        limits = {"min_rms": min_rms, "max_rms": max_rms, "max_scalar": max_scalar}
        super().__init__(params, {**defaults, **limits})
        self.clip, self.clip_window = clip, clip_window
        self.param_groups[0].setdefault("norms", [])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step on the gradients at hand; parameters without one stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rows = [
            (group, p, _rms(p, group)) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        if not rows:
            return loss
        shrink = self._shrink(rows)
        for group, parameter, rms in rows:
            assert parameter.grad is not None
            self._update(parameter, parameter.grad * shrink, rms, group)
        return loss

    def _shrink(self, rows: list[tuple[dict[str, Any], Tensor, Tensor]]) -> float:
        """What all gradients are multiplied with: 1, or less when their norm is far above the usual."""
        if not self.clip:
            return 1.0
        squares = [(p.grad.float() * rms).square().sum() for _, p, rms in rows if p.grad is not None]
        norm = float(torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt())
        norms: list[float] = self.param_groups[0]["norms"]
        limit = self.clip * median(norms) if len(norms) >= FEW else norm
        if norm == norm and norm != float("inf"):  # one broken step must not spoil the median
            self.param_groups[0]["norms"] = [*norms, norm][-self.clip_window :]
        return min(1.0, limit / norm) if norm > 0 else 1.0

    def _update(self, theta: Tensor, gradient: Tensor, rms: Tensor, group: dict[str, Any]) -> None:
        state = self.state[theta]
        scalar = theta.numel() == 1
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(theta), torch.zeros_like(theta)
            if not scalar:
                state["scale_avg"], state["scale_avg_sq"] = torch.zeros_like(rms), torch.zeros_like(rms)
        state["step"] += 1
        if scalar:
            direction = _adam(state, "exp_avg", gradient, group)
            theta.sub_(direction, alpha=group["lr"] * group["scalar_lr"])
            theta.clamp_(-group["max_scalar"], group["max_scalar"])
            return
        by_scale = (gradient * theta).sum() / rms  # dL/dr
        direction = _adam(state, "exp_avg", gradient, group)
        growth = _adam(state, "scale_avg", by_scale, group)
        change = group["lr"] * rms * direction + group["scale_lr"] * group["lr"] * growth * theta
        theta.sub_(change)
        theta.mul_((group["max_rms"] / _rms(theta, group)).clamp(max=1.0))


def _rms(theta: Tensor, group: dict[str, Any]) -> Tensor:
    if theta.numel() == 1:
        return torch.ones((), device=theta.device)
    return theta.detach().float().square().mean().sqrt().clamp(min=group["min_rms"])


def _adam(state: dict[str, Any], name: str, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """Adam's direction (Kingma and Ba, 2015) of a gradient, its moments kept in `state`."""
    first, second = group["betas"]
    mean, square = state[name], state[f"{name}_sq"]
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    step = state["step"]
    corrected: Tensor = mean / (1 - first**step)
    direction: Tensor = corrected / ((square / (1 - second**step)).sqrt() + group["eps"])
    return direction
