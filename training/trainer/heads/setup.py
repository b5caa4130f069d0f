"""Heads before the first step and after the last: standardisation, and the share of the mean output taken off."""

import torch
from torch import Tensor, nn

from training.model import Clsp
from training.model.heads import ResidualProjection


def standardise_heads(model: Clsp, speech: Tensor | None, text: Tensor | None) -> None:
    """Set each residual head's mean and deviation from pooled training vectors; None leaves it as it is."""
    for head, pooled in ((model.audio_projection, speech), (model.text_projection, text)):
        if isinstance(head, ResidualProjection) and pooled is not None:
            head.standardise(pooled)


@torch.no_grad()
def centre_speech(model: Clsp, pooled: Tensor, share: float) -> None:
    """Take a share of the mean output over pooled training clips [M, C] off the speech head's last bias.

    All clips lie to one side of the sphere, so captions on that side suit every clip: what is common to all of them
    tells none apart. Training, which sees each caption beside its own clips, has little reason to remove it.
    """
    mean = model.audio_transform(model.audio_projection(pooled)).mean(0)
    last = model.audio_projection
    if isinstance(last, ResidualProjection):
        bias = last.linear.bias
    else:
        bias = [module for module in model.audio_transform.modules() if isinstance(module, nn.Linear)][-1].bias
    bias.sub_(share * mean)
