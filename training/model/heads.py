"""From a tower's pooled vector to the joint space."""

import torch
from torch import Tensor, nn

from training.model.config import HeadConfig


def projection(inputs: int, joint: int) -> nn.Sequential:
    """Linear, ReLU, linear (the paper's `*_projection`)."""
    return nn.Sequential(nn.Linear(inputs, joint), nn.ReLU(), nn.Linear(joint, joint))


class Transform(nn.Module):
    """The paper's `*_transform`: linear, ReLU, dropout, linear at the joint width."""

    def __init__(self, joint: int, dropout: float) -> None:
        super().__init__()
        self.sequential = nn.Sequential(
            nn.Linear(joint, joint), nn.ReLU(), nn.Dropout(dropout), nn.Linear(joint, joint)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sequential(x)
        return out


class ResidualProjection(nn.Module):
    """Standardise the pooled vector, then a linear path plus an MLP: small data keeps what a pretrained tower knows.

    `mean` and `deviation` are set from the training set before training (`standardise`), then fixed.
    """

    def __init__(self, inputs: int, joint: int, config: HeadConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.mean: Tensor
        self.deviation: Tensor
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(inputs, joint)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, joint)
        )

    @torch.no_grad()
    def standardise(self, pooled: Tensor) -> None:
        """Take mean and deviation from pooled vectors [M, inputs]."""
        self.mean.copy_(pooled.mean(0))
        self.deviation.copy_(pooled.std(0).clamp(min=1e-3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout((x - self.mean) / self.deviation)
        out: Tensor = self.linear(x) + self.mlp(x)
        return out


def build_head(inputs: int, joint: int, config: HeadConfig) -> tuple[nn.Module, nn.Module]:
    """The two modules of a head, in order: `*_projection` and `*_transform`."""
    if config.kind == "residual":
        return ResidualProjection(inputs, joint, config), nn.Identity()
    return projection(inputs, joint), Transform(joint, config.dropout)
