"""The Zipformer's scalar pieces: activations, norm, bypass and the positional table (arXiv 2310.11230)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def swoosh_l(x: Tensor) -> Tensor:
    """ln(1 + e^(x - 4)) - 0.08 x - 0.035, element by element."""
    return F.softplus(x - 4.0) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """ln(1 + e^(x - 1)) - 0.08 x - 0.313261687, element by element; 0 at 0."""
    return F.softplus(x - 1.0) - 0.08 * x - 0.313261687


class BiasNorm(nn.Module):
    """Scale each frame to unit root-mean-square around a learned bias: [..., C] -> [..., C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(1e-4 * torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        # float32 whatever the graph's precision: the sum of squares overflows fp16.
        mean_square = (x - self.bias).float().square().mean(-1, keepdim=True)
        return x * (mean_square.rsqrt() * self.log_scale.float().exp()).to(x.dtype)


class Bypass(nn.Module):
    """Mix a block's input and output channel by channel: 0 returns the input, 1 the output."""

    def __init__(self, channels: int, skip_rate: float = 0.0) -> None:
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((channels,), 0.5))
        self.skip_rate = skip_rate

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        scale: Tensor = self.bypass_scale
        if self.training and self.skip_rate:
            keep = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.skip_rate
            scale = scale * keep
        return x0 + (x - x0) * scale


class SharedDropout(nn.Module):
    """Dropout with one mask for all frames of a clip: [N, n, C]."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.rate)


def relative_positions(frames: int, width: int, like: Tensor) -> Tensor:
    """Positional table for offsets -(n - 1) .. n - 1: float32 [2n - 1, width].

    An entry depends on its offset alone, so the table is made in the graph for whatever length comes.
    """
    offset = torch.arange(2 * frames - 1, device=like.device, dtype=torch.float32) - (frames - 1)
    compress = math.sqrt(width)
    squeezed = compress * offset.sign() * ((offset.abs() + compress).log() - math.log(compress))
    angle = (squeezed * (2.0 * math.pi / width)).atan()
    phase = angle[:, None] * torch.arange(1, width // 2 + 1, device=like.device, dtype=torch.float32)
    waves = torch.stack([phase.cos(), phase.sin()], dim=-1).flatten(1)
    return torch.cat([waves[:, :-1], torch.ones_like(waves[:, :1])], dim=1)


def padding_mask(lengths: Tensor, frames: int) -> Tensor:
    """Bool [N, frames], true past each clip's end."""
    return torch.arange(frames, device=lengths.device)[None, :] >= lengths[:, None]
