"""The graphs are the network: every form, precision, length and batch against the torch modules."""

import copy
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_export import quantize
from model_export.int8 import Planes, RowInt8, channel_scales
from model_export.int8 import quantize as to_codes
from model_export.meta_model import fill, hollow_model
from model_export.onnx_rewrites import Rise, raised_inputs, rise_by_cubic, rise_by_sigmoid, rise_by_softplus, use_forms
from model_export.quantize import Form, export_tower
from model_export.runtime import session_options
from model_export.verify import FLOORS, voiced_sound
from training.model import Clsp

FORMS = [("fp32", "fp32"), ("fp16", "fp32"), ("fp16", "fp16"), ("int8", "fp32"), ("int8", "int8"), ("int16", "int16")]
LENGTHS = (1500, 4000, 7999, 16001, 40007)


def session(path: Path, threads: int = 1) -> ort.InferenceSession:
    options = session_options(threads)
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, disabled_optimizers=["NchwcTransformer"])


def sounds() -> list[np.ndarray]:
    return [voiced_sound(length / 16000, seed) for seed, length in enumerate(LENGTHS)]


def torch_alone(model: Clsp, clips: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([model.embed_speech(torch.from_numpy(c)[None], torch.tensor([len(c)])) for c in clips]).numpy()


def run_speech(graph: ort.InferenceSession, clips: list[np.ndarray], padding: int = 0) -> np.ndarray:
    lengths = np.array([len(clip) for clip in clips])
    waveform = np.stack([np.pad(clip, (0, lengths.max() + padding - len(clip))) for clip in clips])
    return graph.run(None, {"waveform": waveform, "lengths": lengths})[0]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("rise", "allowed"), [(rise_by_softplus, 1e-5), (rise_by_sigmoid, 1e-5), (rise_by_cubic, 3e-3)]
)
@pytest.mark.parametrize("clips", [[0], [4], [0, 1, 2, 3, 4]])
def test_forms_are_the_modules(zipformer: Clsp, rise: Rise, allowed: float, clips: list[int]) -> None:
    fast = fill(hollow_model(zipformer.config), zipformer.state_dict())
    use_forms(fast, zipformer, rise)
    layers = sum(zipformer.config.speech.num_encoder_layers)
    assert len(raised_inputs(zipformer)) == 5 * layers  # three feed-forwards and two convolutions a layer
    chosen = [torch.from_numpy(sounds()[i]) for i in clips]
    waveform = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in chosen])
    with torch.no_grad():
        assert (fast.embed_speech(waveform, lengths) - zipformer.embed_speech(waveform, lengths)).abs().max() < allowed


def test_rises_agree_and_stay_positive_far_out() -> None:
    z = torch.cat([torch.linspace(-200, 200, 40001), torch.tensor([-1e4, 1e4, 0.0])])
    exact = torch.nn.functional.softplus(z.double()) - 0.08 * z.double()
    for rise, allowed in ((rise_by_softplus, 1e-6), (rise_by_sigmoid, 1e-6), (rise_by_cubic, 6e-4)):
        assert ((rise(z).double() - exact).abs() / exact.abs().clamp(min=1)).max() < allowed
        assert rise(z).min() > 0.27


@pytest.mark.parametrize("family", ["zipformer", "whisper"])
@pytest.mark.parametrize(("precision", "arithmetic"), FORMS)
def test_graphs_match_torch(
    models: dict[str, Clsp], family: str, precision: str, arithmetic: str, tmp_path: Path
) -> None:
    model = models[family]
    form = Form(precision, arithmetic)
    export_tower(model, "speech", tmp_path / "speech.onnx", form)
    export_tower(model, "text", tmp_path / "text.onnx", form)
    graph = session(tmp_path / "speech.onnx")
    theirs = torch_alone(model, sounds())
    alone = np.concatenate([run_speech(graph, [clip]) for clip in sounds()])
    assert cosines(alone, theirs).min() >= FLOORS[precision]
    assert np.abs(np.linalg.norm(alone, axis=1) - 1).max() < 1e-5
    if arithmetic != "int8":  # 8-bit graphs run equal lengths together: see the runtime's tests
        batch = run_speech(graph, sounds(), padding=777)
        assert cosines(batch, alone).min() >= 0.99999
    else:
        first = sounds()[3]
        twins = [first, first[::-1].copy(), 0.5 * first]
        apart = np.concatenate([run_speech(graph, [clip]) for clip in twins])
        for threads in (1, 2, 3):  # how the runtime shares the work out must not move a rounding either
            together = run_speech(session(tmp_path / "speech.onnx", threads), twins)
            assert np.abs(together - apart).max() < 1e-5

    ids = torch.randint(3, 400, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(40) < torch.tensor([40, 17, 3])[:, None]).long()
    ids = ids.masked_fill(mask == 0, model.config.text.pad_token_id)
    words = session(tmp_path / "text.onnx").run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    with torch.no_grad():
        assert cosines(words, model.embed_text(ids, mask).numpy()).min() >= FLOORS[precision]


def test_smaller_weights_make_smaller_files(zipformer: Clsp, tmp_path: Path) -> None:
    weights = {}
    for precision, arithmetic in FORMS:
        path = tmp_path / f"{precision}-{arithmetic}.onnx"
        export_tower(zipformer, "text", path, Form(precision, arithmetic))
        weights[precision, arithmetic] = path.stat().st_size
    assert weights["fp16", "fp32"] < 0.65 * weights["fp32", "fp32"]
    assert weights["fp16", "fp16"] < 0.65 * weights["fp32", "fp32"]
    assert weights["int8", "fp32"] < 0.5 * weights["fp32", "fp32"]
    assert weights["int8", "int8"] < 0.5 * weights["fp32", "fp32"]


def test_every_length_of_a_second_and_below(zipformer: Clsp, tmp_path: Path) -> None:
    """Odd and even frame counts, lengths that no downsampling divides, one frame left: all in one graph."""
    export_tower(zipformer, "speech", tmp_path / "speech.onnx", Form("fp32", "fp32"))
    graph = session(tmp_path / "speech.onnx")
    clip = voiced_sound(1.0, 3)
    clips = [clip[:samples] for samples in range(1440, 16000, 160 * 3 + 53)]
    alone = np.concatenate([run_speech(graph, [piece]) for piece in clips])
    assert cosines(alone, torch_alone(zipformer, clips)).min() > 0.99999


def test_forms_that_do_not_go_together_are_refused() -> None:
    for precision, arithmetic in (("fp32", "int8"), ("int8", "fp16"), ("int16", "fp32"), ("fp4", "fp32")):
        with pytest.raises(ValueError, match=precision):
            Form(precision, arithmetic)


def test_large_weights_go_beside_the_graph(zipformer: Clsp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline, beside = tmp_path / "inline.onnx", tmp_path / "beside.onnx"
    export_tower(zipformer, "text", inline, Form("int8", "int8"))
    assert not (tmp_path / "inline.onnx.data").exists()
    monkeypatch.setattr(quantize, "INLINE_BYTES", 1000)
    export_tower(zipformer, "text", beside, Form("int8", "int8"))
    assert (tmp_path / "beside.onnx.data").stat().st_size > 0.5 * inline.stat().st_size
    feed = {"input_ids": np.array([[0, 5, 2]]), "attention_mask": np.ones((1, 3), np.int64)}
    np.testing.assert_array_equal(session(inline).run(None, feed)[0], session(beside).run(None, feed)[0])


def int8_layer(weight: np.ndarray, *, unsigned: bool, planes: int = 1) -> ort.InferenceSession:
    """One linear layer [rows, K] -> [rows, M], lowered to 8 bits."""
    x = ir.val("x", ir.DataType.FLOAT, ["clips", "frames", weight.shape[0]])
    node = ir.node("MatMul", [x, ir.val("w", ir.DataType.FLOAT, weight.shape)])
    out = ir.node("Identity", node.outputs)
    out.outputs[0].name, out.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], out.outputs, nodes=[node, out], opset_imports={"": 18})
    pairs, rest = [], weight
    for plane in range(planes):
        scale = channel_scales(rest, 1)
        pair = []
        for name, array in ((f"q{plane}", to_codes(rest, scale)), (f"s{plane}", scale)):
            value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            graph.register_initializer(value)
            pair.append(value)
        pairs.append(tuple(pair))
        rest = rest - to_codes(rest, scale) * scale
    RowInt8(graph).replace(node, Planes(tuple(pairs)), inputs=weight.shape[0], unsigned=unsigned)
    graph.sort()
    return ort.InferenceSession(
        ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString(),
        session_options(1),
    )


@pytest.mark.parametrize(("planes", "allowed"), [(1, 0.03), (2, 2e-4)])
@pytest.mark.parametrize("unsigned", [False, True])
def test_int8_layer_is_rows_times_channels(unsigned: bool, planes: int, allowed: float) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((96, 40)).astype(np.float32) * rng.uniform(0.1, 9, 40).astype(np.float32)
    x = rng.standard_normal((3, 7, 96)).astype(np.float32)
    x[1, 2] *= 1000  # an outlier frame costs other frames nothing
    x[2, 5] = 0
    x = np.abs(x) if unsigned else x
    layer = int8_layer(weight, unsigned=unsigned, planes=planes)
    y = layer.run(None, {"x": x})[0]
    exact = x @ weight
    error = np.linalg.norm(y - exact, axis=-1) / np.maximum(np.linalg.norm(exact, axis=-1), 1e-9)
    assert error.max() < allowed
    assert not y[2, 5].any()
    for clip in range(3):
        np.testing.assert_array_equal(layer.run(None, {"x": x[clip : clip + 1]})[0][0], y[clip])
    padded = np.concatenate([x, np.full((3, 4, 96), 99, np.float32)], axis=1)
    np.testing.assert_array_equal(layer.run(None, {"x": padded})[0][:, :7], y)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 1))
def test_channel_scales_bound_the_error(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((9, 13)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    weight[0], weight[:, 1] = 0, 0
    scale = channel_scales(weight, axis)
    wide = scale[:, None] if axis == 0 else scale
    codes = to_codes(weight, wide)
    assert np.abs(codes).max() <= 127
    assert (np.abs(codes * wide - weight) <= wide * 0.5001).all()


def test_exporting_leaves_the_model_alone(zipformer: Clsp, tmp_path: Path) -> None:
    before = copy.deepcopy(zipformer.state_dict())
    clip = [sounds()[1]]
    theirs = torch_alone(zipformer, clip)
    export_tower(zipformer, "speech", tmp_path / "speech.onnx", Form("int8", "int8"))
    after = zipformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    np.testing.assert_array_equal(torch_alone(zipformer, clip), theirs)
