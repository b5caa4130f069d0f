"""Both towers to ONNX: waveform or tokens in, unit vectors out, batch and length free."""

import tempfile
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from training.model import Clsp

OPSET = 18


class _Speech(nn.Module):
    def __init__(self, model: Clsp) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        return self.model.embed_speech(waveform, lengths)


class _Text(nn.Module):
    def __init__(self, model: Clsp) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.embed_text(input_ids, attention_mask)


def export_speech(model: Clsp, path: Path) -> None:
    """Write the speech graph: waveform float32 [N, samples], lengths int64 [N] -> embedding [N, D]."""
    waveform = torch.randn(2, 24007) * 0.1
    lengths = torch.tensor([24007, 11111])
    axes = {"waveform": {0: "clips", 1: "samples"}, "lengths": {0: "clips"}, "embedding": {0: "clips"}}
    _export(_Speech(model), (waveform, lengths), ["waveform", "lengths"], axes, path)


def export_text(model: Clsp, path: Path) -> None:
    """Write the text graph: input_ids, attention_mask int64 [N, L] -> embedding [N, D]."""
    ids = torch.randint(3, model.config.text.vocab_size, (2, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    axes = {
        "input_ids": {0: "texts", 1: "tokens"},
        "attention_mask": {0: "texts", 1: "tokens"},
        "embedding": {0: "texts"},
    }
    _export(_Text(model), (ids, mask), ["input_ids", "attention_mask"], axes, path)


def _export(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], axes: dict[str, dict[int, str]], path: Path
) -> None:
    """Trace in evaluation mode and write one file, weights inside.

    The tracing exporter, not the dynamo one: lengths here are plain arithmetic on shapes, which it keeps symbolic,
    while the dynamo exporter adds guards on them (odd and even frame counts) that refuse some lengths.
    """
    module.eval()
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        traced = Path(scratch) / "graph.onnx"
        torch.onnx.export(
            module,
            example,
            str(traced),
            input_names=inputs,
            output_names=["embedding"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=True,
        )
        onnx.save(onnx.load(traced), path)
