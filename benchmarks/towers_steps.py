"""What each change to the speech graph gives: the official widths, one change taken back at a time, CPU time.

    python benchmarks/towers_steps.py [--seconds 10]

The network is the official one on random weights, cut to its first stacks so that a step takes seconds: what a change
gives does not depend on the weights. One thread and CPU time, least of several runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

sys.path.insert(0, str(Path(__file__).parent))
from results import report

from model_export import onnx_rewrites as forms
from model_export.quantize import Form, export_tower
from model_export.verify import voiced_sound
from training.model import Clsp, ClspConfig, TextConfig, ZipformerConfig, build_model
from training.model.zipformer import Downsample, LayerStack
from training.model.zipformer_layer import AttentionWeights, NonlinAttention

FP32, INT8 = Form("fp32", "fp32"), Form("int8", "int8")


def official_start() -> Clsp:
    """The official widths: stacks at factors 1 and 2 with one layer each, and a text tower that costs nothing."""
    speech = ZipformerConfig(
        downsampling_factor=(1, 2),
        num_encoder_layers=1,
        encoder_dim=1280,
        encoder_unmasked_dim=768,
        query_head_dim=32,
        value_head_dim=12,
        pos_head_dim=4,
        num_heads=8,
        feedforward_dim=3840,
        cnn_module_kernel=31,
    )
    text = TextConfig(vocab_size=50, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    torch.manual_seed(0)
    return build_model(ClspConfig(speech=speech, text=text))


@contextmanager
def without(*modules: type[torch.nn.Module]) -> Iterator[None]:
    """Export with these modules as they are written for training."""
    kept = dict(forms.FORMS)
    try:
        for module in modules:
            del forms.FORMS[module]
        yield
    finally:
        forms.FORMS.update(kept)


@dataclass(frozen=True)
class Step:
    """A change taken back: modules without their form, another way for activations, a runtime optimisation off."""

    plain: tuple[type[torch.nn.Module], ...] = ()
    rise: forms.Rise | None = None
    off: tuple[str, ...] = ()


STEPS = {
    "all changes in place": Step(),
    "modules as trained (all forms off)": Step(plain=tuple(forms.FORMS)),
    "Softplus for activations": Step(rise=forms.rise_by_softplus),
    "logarithm for activations": Step(rise=forms.rise_by_sigmoid),
    "mask and relative shift as trained": Step(plain=(AttentionWeights, LayerStack)),
    "frames gathered element by element": Step(plain=(Downsample,)),
    "parts cut by arithmetic on shapes": Step(plain=(NonlinAttention,)),
    "no blocked layout for convolutions": Step(off=("NchwcTransformer",)),
}


def main() -> int:
    """Print a table of both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, clip = official_start(), voiced_sound(options.seconds, 1)
    times: dict[str, dict[str, list[float]]] = {"fp32": {}, "int8": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for form in (FP32, INT8):
            for step, change in STEPS.items():
                with without(*change.plain):
                    export_tower(model, "speech", _file(scratch, form, step), form, rise=change.rise)
        for _ in range(options.rounds):
            for form in (FP32, INT8):
                taken = times[form.precision]
                taken.setdefault("eager PyTorch", []).append(_least(lambda: _eager(model, clip)))
                for step, change in STEPS.items():
                    call = _call(_file(scratch, form, step), clip, change.off)
                    taken.setdefault(step, []).append(_least(call))
    rows: list[dict[str, Any]] = [
        {"step": step} | {f"{precision} ms": min(taken[step]) for precision, taken in times.items()}
        for step in times["fp32"]
    ]
    for row in rows[2:]:
        for precision in ("fp32", "int8"):
            row[f"{precision} %"] = 100 * (row[f"{precision} ms"] / rows[1][f"{precision} ms"] - 1)
    columns = ("step", "fp32 ms", "fp32 %", "int8 ms", "int8 %")
    title = f"CPU time of {options.seconds:g} s, official widths, stacks 1 and 2; % slower with the change taken back"
    report("towers-steps", title, columns, rows)
    return 0


def _eager(model: Clsp, clip: np.ndarray) -> object:
    with torch.inference_mode():
        return model.embed_speech(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))


def _file(folder: str, form: Form, step: str) -> Path:
    return Path(folder) / f"{form.precision}-{list(STEPS).index(step)}.onnx"


def _call(path: Path, clip: np.ndarray, off: tuple[str, ...]) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, disabled_optimizers=list(off))
    feed = {"waveform": clip[None], "lengths": np.array([len(clip)])}
    return lambda: session.run(None, feed)


def _least(call: Callable[[], object], runs: int = 2) -> float:
    call()
    times = []
    for _ in range(runs):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    return 1000 * min(times)


if __name__ == "__main__":
    sys.exit(main())
