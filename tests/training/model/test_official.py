"""The official configuration is the paper's network: its keys, its size, and its numbers on deterministic weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.meta_model import fill, hollow_model
from training.model import Clsp, ClspConfig

PARAMETERS, SPEECH_PARAMETERS = 724_244_405, 598_417_077  # the second leaves out the text side


def read_keys(reference: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in (reference / "keys_official.tsv").read_text().splitlines()]
    return {key: shape for key, shape, dtype in rows if key != "key"}


def test_keys_shapes_and_size_are_the_released_ones(reference: Path) -> None:
    config = ClspConfig.from_recipe_json(reference / "config_official.json")
    assert config == ClspConfig(), "the defaults are the official configuration"
    state = hollow_model(config).state_dict()
    assert {key: "x".join(map(str, value.shape)) for key, value in state.items()} == read_keys(reference)
    sizes = {key: value.numel() for key, value in state.items()}
    assert sum(sizes.values()) == PARAMETERS
    assert sum(size for key, size in sizes.items() if not key.startswith("text_")) == SPEECH_PARAMETERS
    assert config.text.max_tokens == 512


@pytest.fixture(scope="module")
def official(reference: Path) -> Clsp:
    """The official network on the reference's weights: 2.9 GB, drawn tensor by tensor."""
    spec = importlib.util.spec_from_file_location("reference_weights", reference / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    model = hollow_model(ClspConfig())
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return fill(model, {key: torch.from_numpy(weights.test_tensor(key, shape)) for key, shape in shapes.items()})


def worst(ours: torch.Tensor, golden: np.ndarray) -> float:
    assert tuple(ours.shape) == golden.shape
    return float(np.abs(ours.numpy() - golden).max())


@pytest.mark.slow
@torch.no_grad()
def test_official_goldens(official: Clsp, reference: Path) -> None:
    golden = dict(np.load(reference / "golden_official.npz"))
    features, lengths = torch.from_numpy(golden["features"]), golden["lengths"]
    pooled = torch.cat(
        [
            official.pool_features(features[row : row + 1, :length], torch.tensor([length]))
            for row, length in enumerate(lengths)
        ]
    )
    assert worst(official.project_speech(pooled), golden["speech_embedding_alone"]) < 5e-4
    # Only a clip that fills its batch has a pooled vector in the file that padding did not touch.
    full = lengths == features.shape[1]
    assert full.any()
    assert worst(pooled[full], golden["pooled"][full]) < 5e-4

    batched = official.project_speech(official.pool_features(features, torch.from_numpy(lengths).long()))
    assert worst(batched, golden["speech_embedding_alone"]) < 5e-4

    ids, mask = torch.from_numpy(golden["input_ids"]).long(), torch.from_numpy(golden["attention_mask"]).long()
    text = official.pool_text(ids, mask)
    assert worst(text, golden["text_pooled"]) < 5e-4
    assert worst(official.project_text(text), golden["text_embedding"]) < 5e-4
    assert abs(float(official.logit_scale.exp()) - float(golden["logit_scale"])) < 1e-3


@pytest.mark.slow
@torch.no_grad()
def test_official_text_takes_512_tokens(official: Clsp) -> None:
    ids = torch.randint(3, 50265, (1, 512), generator=torch.Generator().manual_seed(3))
    whole = official.embed_text(ids, torch.ones_like(ids))
    assert torch.isfinite(whole).all()
    changed = ids.clone()
    changed[0, 511] += 1 if ids[0, 511] < 50264 else -1
    assert (official.embed_text(changed, torch.ones_like(ids)) - whole).abs().max() > 1e-6, "the last token is read"
