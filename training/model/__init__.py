"""The CLSP dual encoder and its interchangeable parts, for training and export."""

from training.model.clsp import Clsp, build_model
from training.model.config import ClspConfig, TextConfig, WhisperConfig, ZipformerConfig

__all__ = ["Clsp", "ClspConfig", "TextConfig", "WhisperConfig", "ZipformerConfig", "build_model"]
