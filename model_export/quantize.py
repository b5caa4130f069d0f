"""Smaller weights in the same graph: int8 a channel or fp16, unfolded to float32 before any sum.

Activations stay float32. Dynamic activation quantisation is left out on purpose: its scale is taken over the whole
batch, so that a clip's embedding would depend on what else is in the batch.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KEEP = "frontend"  # the front-end's matrices span many decades: int8 would drown quiet bands
SMALLEST = 4096  # elements; below that nothing is gained

Channels = tuple[NDArray[np.int8], NDArray[np.float32]]


def quantize_channels(weight: NDArray[np.float32], axis: int) -> Channels:
    """Symmetric int8 with one scale for each index of `axis`: weight ~ scale * q, |q| <= 127."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others) / 127.0
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    q = np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
    return q, scale


def shrink_weights(source: Path, target: Path, precision: str) -> None:
    """Rewrite a graph's weights as `int8` (fp16 where int8 has no natural channel) or `fp16`; `fp32` copies.

    Raises ValueError for another precision.
    """
    if precision not in ("fp32", "fp16", "int8"):
        raise ValueError(f"precision {precision!r} is none of fp32, fp16, int8")
    model = onnx.load(source)
    if precision != "fp32":
        _rewrite(model.graph, int8=precision == "int8")
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _rewrite(graph: onnx.GraphProto, *, int8: bool) -> None:
    users: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            users.setdefault(name, []).append((node, place))
    unfold: list[onnx.NodeProto] = []
    tables: dict[str, str] = {}
    for tensor in list(graph.initializer):
        large = int(np.prod(tensor.dims)) >= SMALLEST and tensor.data_type == TensorProto.FLOAT
        if not large or KEEP in tensor.name or not users.get(tensor.name):
            continue
        weight = numpy_helper.to_array(tensor)
        uses = users[tensor.name]
        graph.initializer.remove(tensor)
        if int8 and all(node.op_type == "Gather" and place == 0 for node, place in uses):
            tables[tensor.name] = _as_table(graph, tensor.name, weight)
            continue
        axis = _channel_axis(uses, weight.ndim) if int8 else None
        if axis is None:
            graph.initializer.append(numpy_helper.from_array(weight.astype(np.float16), tensor.name + ".fp16"))
            unfold.append(helper.make_node("Cast", [tensor.name + ".fp16"], [tensor.name], to=TensorProto.FLOAT))
            continue
        q, scale = quantize_channels(weight, axis)
        graph.initializer.append(numpy_helper.from_array(q, tensor.name + ".int8"))
        graph.initializer.append(numpy_helper.from_array(scale, tensor.name + ".scale"))
        inputs = [tensor.name + ".int8", tensor.name + ".scale"]
        unfold.append(helper.make_node("DequantizeLinear", inputs, [tensor.name], axis=axis))
    nodes = [*unfold, *_with_tables(graph.node, tables)]
    del graph.node[:]
    graph.node.extend(nodes)


def _channel_axis(uses: list[tuple[onnx.NodeProto, int]], ndim: int) -> int | None:
    """The output-channel axis that all users of a weight agree on."""
    axes = set()
    for node, place in uses:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        if node.op_type == "Conv" and place == 1:
            axes.add(0)
        elif node.op_type in ("MatMul", "Gemm") and place == 1 and ndim == 2:
            axes.add(0 if transposed else 1)
        else:
            axes.add(-1)
    found = axes.pop() if len(axes) == 1 else -1
    return None if found < 0 else found


def _as_table(graph: onnx.GraphProto, name: str, weight: NDArray[np.float32]) -> str:
    """An embedding table stays int8 in memory: only the rows that are looked up are unfolded."""
    q, scale = quantize_channels(weight, 0)
    graph.initializer.append(numpy_helper.from_array(q, name + ".int8"))
    graph.initializer.append(numpy_helper.from_array(scale[:, None], name + ".scale"))
    return name


def _with_tables(nodes: Iterable[onnx.NodeProto], tables: dict[str, str]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        if node.op_type != "Gather" or node.input[0] not in tables:
            yield node
            continue
        table, index, out = node.input[0], node.input[1], node.output[0]
        yield helper.make_node("Gather", [table + ".int8", index], [out + ".rows"], axis=0)
        yield helper.make_node("Cast", [out + ".rows"], [out + ".cast"], to=TensorProto.FLOAT)
        yield helper.make_node("Gather", [table + ".scale", index], [out + ".scales"], axis=0)
        yield helper.make_node("Mul", [out + ".cast", out + ".scales"], [out])
