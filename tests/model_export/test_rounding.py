"""8 bits are measured before they are written: the systematic error is taken back, and coarse layers are left out."""

import copy
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from model_export.int8 import fold_sums
from model_export.onnx_rewrites import raised_inputs
from model_export.quantize import Form, export_tower
from model_export.rounding import COARSE, Rounding, in_8_bits, measure_rounding, stays_float
from model_export.verify import voiced_sound
from tests.model_export.test_graphs import cosines, int8_layer, run_speech, session, sounds, torch_alone
from training.model import Clsp

INT8 = Form("int8", "int8")
OUT = "encoder_embed.out.weight"


@pytest.fixture(scope="module")
def measured(zipformer: Clsp) -> dict[str, Rounding]:
    clips = [voiced_sound(0.5 + i / 4, 900 + i) for i in range(6)]
    return measure_rounding(zipformer, raised_inputs(zipformer), clips, [[0, 7, 9, 2], [0, 5, 2]])


@pytest.mark.parametrize("rest", [None, 0.4])
def test_torch_rounds_as_the_graph_does(rest: float | None) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((40, 96)).astype(np.float32)
    x = rng.standard_normal((21, 96)).astype(np.float32)
    x = np.abs(x) if rest is not None else x
    given = x if rest is None else x + np.float32(rest)
    graph = int8_layer(weight.T, unsigned=rest is not None).run(None, {"x": given[None]})[0][0]
    constant = 0 if rest is None else rest * weight.sum(1)
    ours = in_8_bits(torch.from_numpy(x), torch.from_numpy(weight), rest).numpy()
    np.testing.assert_allclose(ours, graph - constant, atol=2e-3)
    assert np.abs(ours - x @ weight.T).max() > 1e-3, "it rounds at all"


def test_every_linear_layer_of_both_towers_is_measured(zipformer: Clsp, measured: dict[str, Rounding]) -> None:
    linear = {f"{n}.weight": m for n, m in zipformer.named_modules() if isinstance(m, torch.nn.Linear)}
    assert set(measured) == set(linear)
    for key, found in measured.items():
        assert found.shift.shape == (linear[key].out_features,)
        assert np.isfinite(found.shift).all()
        assert found.error >= 0


def test_what_rides_on_a_constant_stays_float(zipformer: Clsp, measured: dict[str, Rounding]) -> None:
    riding = copy.deepcopy(zipformer)
    with torch.no_grad():
        riding.encoder_embed.convnext.pointwise_conv2.bias.add_(300.0)
    found = measure_rounding(riding, raised_inputs(riding), [voiced_sound(1.0, 3)], [])
    assert found[OUT].error > COARSE > measured["audio_projection.2.weight"].error
    wide = "encoder.encoders.0.layers.0.feed_forward1.in_proj.weight"
    assert stays_float(wide, found[OUT])
    assert not stays_float(wide, Rounding(np.zeros(3, np.float32), COARSE / 2))
    assert not stays_float(wide, None)
    assert stays_float("encoder.encoders.0.layers.0.self_attn1.in_proj.weight", None), "narrow layers always do"
    assert stays_float(OUT, None), "and the one that loses most"


def test_shifts_are_folded_and_bring_the_graph_nearer(
    zipformer: Clsp, measured: dict[str, Rounding], tmp_path: Path
) -> None:
    plain, shifted = tmp_path / "plain.onnx", tmp_path / "shifted.onnx"
    export_tower(zipformer, "speech", plain, INT8)
    # The same layers in 8 bits in both, so that the shifts alone differ.
    eight = {key: Rounding(found.shift, 0.0) for key, found in measured.items()}
    export_tower(zipformer, "speech", shifted, INT8, rounding=eight)
    counts = [sum(node.op_type == "Add" for node in ir.load(path).graph) for path in (plain, shifted)]
    assert counts[0] == counts[1], "no addition is left for a shift"
    theirs = torch_alone(zipformer, sounds())
    without, with_shifts = (
        1 - cosines(np.concatenate([run_speech(session(path), [clip]) for clip in sounds()]), theirs).mean()
        for path in (plain, shifted)
    )
    assert with_shifts < 0.9 * without


def test_only_sums_of_two_weights_are_folded() -> None:
    x = ir.val("x", ir.DataType.FLOAT, ["n", 3])
    values = {}
    for name, array in (("a", [1.0, 2, 3]), ("b", [10.0, 20, 30]), ("c", [5.0])):
        tensor = ir.tensor(np.array(array, np.float32), name=name)
        values[name] = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)
    first = ir.node("Add", [x, values["a"]])
    second = ir.node("Add", [values["b"], first.outputs[0]])
    third = ir.node("Add", [second.outputs[0], values["c"]])  # of another shape: stays
    graph = ir.Graph([x], third.outputs, nodes=[first, second, third], opset_imports={"": 18})
    for value in values.values():
        graph.register_initializer(value)
    fold_sums(graph)
    adds = list(graph)
    assert [node.op_type for node in adds] == ["Add", "Add"]
    (total,) = (given for given in adds[0].inputs if given is not x)
    np.testing.assert_array_equal(total.const_value.numpy(), [11, 22, 33])
