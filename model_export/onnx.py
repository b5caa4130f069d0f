"""Both towers as ONNX graphs: traced from a network without weights, which are attached by their keys afterwards."""

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor, nn
from torch.nn import functional as F

from model_export.meta_model import fill_with_numbers, hollow_model
from model_export.onnx_rewrites import Rise, raised_inputs, rise_by_sigmoid, use_forms
from training.model import Clsp

OPSET = 18
Tower = Literal["speech", "text"]


@dataclass(frozen=True)
class Traced:
    """A graph whose weights are still inputs, named by their state-dict keys, and where to find them."""

    graph: ir.Model
    weights: Mapping[str, Tensor]
    rests: Mapping[str, float]
    """Weights whose input is never negative, because this constant was added to it."""


class _Speech(nn.Module):
    def __init__(self, model: Clsp, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        features, counts = self.model.frontend(waveform, lengths)  # float32 always: a logarithm of tiny energies
        pooled = self.model.pool_features(features.to(self.dtype), counts).to(self.dtype)
        joint: Tensor = self.model.audio_transform(self.model.audio_projection(pooled))
        return F.normalize(joint.float(), eps=1e-12)


class _Text(nn.Module):
    def __init__(self, model: Clsp) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        pooled = self.model.pool_text(input_ids, attention_mask)
        joint: Tensor = self.model.text_transform(self.model.text_projection(pooled))
        return F.normalize(joint.float(), eps=1e-12)


def trace(model: Clsp, tower: Tower, *, dtype: torch.dtype = torch.float32, rise: Rise = rise_by_sigmoid) -> Traced:
    """Trace one tower with activations of `dtype`: float32, or float16 for a graph that a GPU runs.

    `rise` is the way to compute a Zipformer's activations (`forms`).

    speech: waveform float32 [N, samples], lengths int64 [N] -> embedding float32 [N, D], unit L2.
    text: input_ids, attention_mask int64 [N, L] -> embedding float32 [N, D], unit L2.
    """
    hollow = fill_with_numbers(hollow_model(model.config), dtype)
    use_forms(hollow, model, rise)
    if tower == "speech":
        module: nn.Module = _Speech(hollow, dtype)
        waveform, lengths = torch.zeros(2, 24007), torch.tensor([24007, 11111])
        axes = {"waveform": {0: "clips", 1: "samples"}, "lengths": {0: "clips"}, "embedding": {0: "clips"}}
        graph = _traced_graph(module, (waveform, lengths), ["waveform", "lengths"], axes)
    else:
        module = _Text(hollow)
        ids = torch.full((2, 11), 5)
        mask = torch.ones_like(ids)
        mask[1, 7:] = 0
        tokens = {0: "texts", 1: "tokens"}
        axes = {"input_ids": tokens, "attention_mask": tokens, "embedding": {0: "texts"}}
        graph = _traced_graph(module, (ids, mask), ["input_ids", "attention_mask"], axes)
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    return Traced(graph, weights, {f"model.{key}": rest for key, rest in raised_inputs(hollow).items()})


def _traced_graph(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], axes: dict[str, dict[int, str]]
) -> ir.Model:
    """The tracing exporter, not the dynamo one: lengths here are plain arithmetic on shapes, which it keeps symbolic,
    while the dynamo exporter adds guards on them (odd and even frame counts) that refuse some lengths.
    """
    module.eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing in general: verification is what proves a graph
        file = Path(scratch) / "graph.onnx"
        torch.onnx.export(
            module,
            example,
            str(file),
            input_names=inputs,
            output_names=["embedding"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
        )
        graph = ir.load(file)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        return graph
