"""What 8 bits do to each linear layer, measured on sounds and captions: a systematic error, and how large the rest is.

A rounded weight errs in the same way in every frame, which pooling over time does not average out; the mean of that
error goes into the layer's bias, at no cost (Nagel et al., arXiv 1906.04721, section 4.2). Where what is left is large
beside what the layer's output varies by, the layer stays in float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import Clsp

COARSE = 0.08  # error over variation beyond which a layer stays in float32
SMALLEST_STEP = 1e-12
# A fortieth of a layer's products and two thirds of its error at the official size: scores are exponents, without a
# 1 / sqrt(width), and values are few. In float32 these narrow layers are as fast as in 8 bits with their rounding.
# The subsampling's output layer loses more than all others together, though its error is small beside its variation.
KEPT = tuple(
    f"{name}.weight"
    for name in (
        "encoder_embed.out",
        "self_attn_weights.in_proj",
        "self_attn1.in_proj",
        "self_attn1.out_proj",
        "self_attn2.in_proj",
        "self_attn2.out_proj",
    )
)


@dataclass(frozen=True)
class Rounding:
    """A linear layer in 8 bits: `shift` [M] is what its output lacks on average, `error` what varies, relative."""

    shift: NDArray[np.float32]
    error: float


def stays_float(name: str, measured: Rounding | None) -> bool:
    """Whether 8 bits are too coarse for a weight."""
    return name.endswith(KEPT) or (measured is not None and measured.error > COARSE)


@dataclass
class _Sums:
    count: int = 0
    lost: Tensor | float = 0.0
    lost_squared: float = 0.0
    out: Tensor | float = 0.0
    out_squared: float = 0.0


@torch.no_grad()
def measure_rounding(
    model: Clsp, rests: Mapping[str, float], clips: Sequence[NDArray[np.float32]], texts: Sequence[Sequence[int]]
) -> dict[str, Rounding]:
    """Run clips [samples] and texts (token ids) through both towers; returns the rounding of each weight by its key.

    `rests` are weights whose input in the graph is never negative, because this constant was added to it.
    """
    sums: dict[str, _Sums] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            key = f"{name}.weight"
            sums[key] = _Sums()

            def look(layer: nn.Module, inputs: tuple[Tensor, ...], key: str = key) -> None:
                _add(sums[key], inputs[0].flatten(0, -2), layer.get_parameter("weight"), rests.get(key))

            handles.append(module.register_forward_pre_hook(look))
    try:
        for clip in clips:
            model.embed_speech(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
        for ids in texts:
            row = torch.tensor([list(ids)])
            model.embed_text(row, torch.ones_like(row))
    finally:
        for handle in handles:
            handle.remove()
    return {key: _result(total) for key, total in sums.items() if total.count}


def _add(total: _Sums, x: Tensor, weight: Tensor, rest: float | None) -> None:
    exact = F.linear(x, weight)
    lost = exact - in_8_bits(x, weight, rest)
    total.count += len(x)
    total.lost = total.lost + lost.double().sum(0)
    total.lost_squared += float(lost.double().square().sum())
    total.out = total.out + exact.double().sum(0)
    total.out_squared += float(exact.double().square().sum())


def in_8_bits(x: Tensor, weight: Tensor, rest: float | None = None) -> Tensor:
    """The product [n, M] of x [n, K] and a weight [M, K] as the graph (`int8.RowInt8`) makes it, less its constant."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    rounded = (weight / scale).round_().clamp_(-127, 127).mul_(scale)
    if rest is None:
        step = (x.abs().amax(-1, keepdim=True) / 127).clamp(min=SMALLEST_STEP)
        return F.linear((x / step).round_().mul_(step), rounded)
    raised = x + rest
    step = (raised.amax(-1, keepdim=True) / 255).clamp(min=SMALLEST_STEP)
    return F.linear((raised / step).round_().clamp_(min=0).mul_(step), rounded) - rest * weight.sum(1)


def _result(total: _Sums) -> Rounding:
    mean = torch.as_tensor(total.lost) / total.count
    varies = total.lost_squared - total.count * float(mean.square().sum())
    variation = total.out_squared - float(torch.as_tensor(total.out).square().sum()) / total.count
    error = (max(varies, 0.0) / variation) ** 0.5 if variation > 0 else 0.0
    return Rounding(mean.numpy().astype(np.float32), error)
