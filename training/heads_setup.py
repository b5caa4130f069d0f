"""Standardisation of residual heads from the training set, before the first step."""

from torch import Tensor

from training.model import Clsp
from training.model.heads import ResidualProjection


def standardise_heads(model: Clsp, speech: Tensor | None, text: Tensor | None) -> None:
    """Set each residual head's mean and deviation from pooled training vectors; None leaves it as it is."""
    for head, pooled in ((model.audio_projection, speech), (model.text_projection, text)):
        if isinstance(head, ResidualProjection) and pooled is not None:
            head.standardise(pooled)
