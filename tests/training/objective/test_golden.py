"""Our towers against golden tensors of the paper's own modules on deterministic weights."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.model import Clsp, ClspConfig, build_model
from training.model.frontend import KaldiFbank
from training.objective.losses import multi_positive_loss, pairwise_loss


def load_filled(reference: Path, config_name: str) -> Clsp:
    spec = importlib.util.spec_from_file_location("reference_weights", reference / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    draw: Callable = weights.test_tensor
    model = build_model(ClspConfig.from_recipe_json(reference / f"config_{config_name}.json"))
    state = {
        key: torch.from_numpy(draw(key, tuple(value.shape))) if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module", params=["small", "small_full_rate"])
def small(request: pytest.FixtureRequest, reference: Path) -> tuple[Clsp, dict[str, np.ndarray]]:
    return load_filled(reference, request.param), dict(np.load(reference / f"golden_{request.param}.npz"))


def worst(ours: torch.Tensor, golden: np.ndarray) -> float:
    assert tuple(ours.shape) == golden.shape
    return float(np.abs(ours.detach().numpy() - golden).max())


def test_keys_and_shapes_are_the_released_ones(reference: Path) -> None:
    model = build_model(ClspConfig.from_recipe_json(reference / "config_small.json"))
    rows = [line.split("\t") for line in (reference / "keys_small.tsv").read_text().splitlines()]
    expected = {key: shape for key, shape, dtype in rows if key != "key"}
    ours = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    assert ours == expected


@torch.no_grad()
def test_speech_alone(small: tuple[Clsp, dict[str, np.ndarray]]) -> None:
    model, golden = small
    features, lengths = torch.from_numpy(golden["features"]), golden["lengths"]
    rows = []
    for row, length in enumerate(lengths):
        pooled = model.pool_features(features[row : row + 1, :length], torch.tensor([length]))
        rows.append(model.project_speech(pooled))
    assert worst(torch.cat(rows), golden["speech_embedding_alone"]) < 1e-5


@torch.no_grad()
def test_padding_does_not_leak(small: tuple[Clsp, dict[str, np.ndarray]]) -> None:
    model, golden = small
    features, lengths = torch.from_numpy(golden["features"]).clone(), torch.from_numpy(golden["lengths"]).long()
    for row, length in enumerate(lengths):
        features[row, length:] = 7.0  # anything: what lies past the end must not matter
    batched = model.project_speech(model.pool_features(features, lengths)).numpy()
    cosines = (batched * golden["speech_embedding_alone"]).sum(1)
    assert cosines.min() >= 0.99999
    assert np.abs(batched - golden["speech_embedding_alone"]).max() < 1e-5


@torch.no_grad()
def test_inner_tensors_of_the_longest_clip(small: tuple[Clsp, dict[str, np.ndarray]]) -> None:
    model, golden = small
    row = int(golden["lengths"].argmax())
    length = torch.tensor([int(golden["lengths"][row])])
    features = torch.from_numpy(golden["features"])[row : row + 1, : int(length)]
    frames, embed_lengths = model.encoder_embed(features, length)
    assert int(embed_lengths) == golden["embed_lengths"][row]
    assert worst(frames[0], golden["embed"][row]) < 1e-3
    for i, output in enumerate(model.encoder.stack_outputs(frames, embed_lengths)):
        assert worst(output, golden[f"stack{i}"].transpose(1, 0, 2)) < 1e-3
    encoded, encoder_lengths = model.encoder(frames, embed_lengths)
    assert int(encoder_lengths) == golden["encoder_lengths"][row]
    assert worst(encoded[0], golden["encoder_out"][:, row]) < 1e-3
    assert worst(model.pool(encoded, encoder_lengths)[0], golden["pooled"][row]) < 1e-3


@torch.no_grad()
def test_text_and_temperature(small: tuple[Clsp, dict[str, np.ndarray]]) -> None:
    model, golden = small
    ids, mask = torch.from_numpy(golden["input_ids"]).long(), torch.from_numpy(golden["attention_mask"]).long()
    pooled = model.pool_text(ids, mask)
    assert worst(pooled, golden["text_pooled"]) < 1e-5
    assert worst(model.project_text(pooled), golden["text_embedding"]) < 1e-5
    assert abs(float(model.logit_scale.exp()) - float(golden["logit_scale"])) < 1e-4


@torch.no_grad()
def test_fbank(reference: Path) -> None:
    golden = np.load(reference / "golden_frontend.npz")
    names = [key.removeprefix("wave_") for key in golden.files if key.startswith("wave_")]
    assert names
    frontend = KaldiFbank(128)
    for name in names:
        wave = torch.from_numpy(golden[f"wave_{name}"]).float()[None]
        expected = golden[f"fbank_{name}"]
        features, counts = frontend(wave, torch.tensor([wave.shape[1]]))
        assert int(counts) == expected.shape[0]
        away = expected > -15.5  # the floor is -15.94; beside it float32 rounding is all there is
        assert np.abs(features[0].numpy() - expected)[away].max(initial=0.0) < 2e-3, name
        assert np.abs(features[0].numpy() - expected).max() < 1e-2, name
        # Padding in a batch, whatever is in it, changes nothing.
        padded = torch.cat([wave, torch.full((1, 1777), 0.5)], dim=1)
        again, _ = frontend(padded, torch.tensor([wave.shape[1]]))
        assert torch.allclose(again[0, : int(counts)], features[0], atol=1e-4)


def test_losses(reference: Path) -> None:
    golden = np.load(reference / "golden_losses.npz")
    for name, loss, texts in (("stage1", pairwise_loss, 6), ("stage2", multi_positive_loss, 12)):
        scale = torch.tensor(float(golden["logit_scale"]), requires_grad=True)
        speech = torch.from_numpy(golden["speech"]).requires_grad_()
        text = torch.from_numpy(golden["text"]).requires_grad_()
        value = loss(speech, text[:texts], scale)
        assert abs(value.item() - float(golden[f"{name}_loss"])) < 1e-5
        value.backward()
        gradients = {key: golden[key] for key in golden.files if key.startswith(name) and "grad" in key}
        assert gradients
        for key, expected in gradients.items():
            ours = {"speech": speech, "text": text, "scale": scale}[key.rsplit("_", 1)[-1]].grad
            assert worst(ours, expected) < 1e-5, key
