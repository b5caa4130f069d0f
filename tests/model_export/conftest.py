"""Small networks of both families with lively weights, and where the reference lies."""

from pathlib import Path

import pytest
import torch

from tests.support.make_checkpoint import write_tokenizer
from tests.support.paths import SHARED
from training.model import Clsp, ClspConfig, TextConfig, WhisperConfig, ZipformerConfig, build_model
from training.model.checkpoint import Card

SMALL_TEXT = {
    "vocab_size": 500,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 130,
}
ZIPFORMER = ClspConfig(
    speech=ZipformerConfig(
        downsampling_factor=(1, 2, 4, 1),
        num_encoder_layers=(1, 1, 1, 1),
        encoder_dim=(64, 96, 128, 64),
        encoder_unmasked_dim=48,
        query_head_dim=16,
        value_head_dim=12,
        pos_head_dim=4,
        num_heads=4,
        feedforward_dim=(128, 192, 256, 128),
        cnn_module_kernel=(31, 31, 15, 31),
    ),
    text=TextConfig(**SMALL_TEXT),
    joint_dim=64,
)
WHISPER = ClspConfig(
    speech=WhisperConfig(dim=64, heads=4, feedforward_dim=128, layers=2, pool_layers=(1, 2), channel_norm=0.5),
    text=TextConfig(kind="minilm", type_vocab_size=2, **SMALL_TEXT),
    joint_dim=64,
)


@torch.no_grad()
def lively(config: ClspConfig, seed: int = 7) -> Clsp:
    """A network whose every part moves its output: initial weights would leave most branches near zero."""
    model = build_model(config)
    generator = torch.Generator().manual_seed(seed)

    def noise(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    for name, value in model.state_dict().items():
        leaf = name.rsplit(".", 1)[-1]
        if not value.is_floating_point() or leaf == "logit_scale":
            continue
        if leaf == "bypass_scale":
            value.copy_(0.4 + 0.5 * torch.rand(value.shape, generator=generator))
        elif value.ndim > 1:
            value.copy_(noise(value.shape) / value[0].numel() ** 0.5)
        elif "LayerNorm" in name or "layer_norm" in name or leaf in ("deviation",):
            value.copy_(1 + 0.1 * noise(value.shape).abs())
        else:
            value.copy_(0.1 * noise(value.shape))
    return model


@pytest.fixture(scope="session")
def zipformer() -> Clsp:
    return lively(ZIPFORMER)


@pytest.fixture(scope="session")
def whisper() -> Clsp:
    return lively(WHISPER)


@pytest.fixture(scope="session")
def models(zipformer: Clsp, whisper: Clsp) -> dict[str, Clsp]:
    return {"zipformer": zipformer, "whisper": whisper}


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roberta-base")
    write_tokenizer(folder, size=400)
    return folder


@pytest.fixture
def card() -> Card:
    return Card(name="test", version="1", licence="Apache-2.0", window_s=10.0, hop_s=5.0)


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture(scope="session")
def reference() -> Path:
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"the reference tensors are not at {SHARED / 'reference'}")
    return SHARED / "reference"
