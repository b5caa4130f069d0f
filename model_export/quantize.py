"""Weights put into a traced graph at a precision, one tensor at a time: nothing but the largest is ever in memory.

`fp32` and `fp16` store what they say. `int8` has one scale for each output channel; `int16` has a second int8 plane for
what the first lost, 15 bits together. What the sums are made in is the other choice, the arithmetic: `fp32` unfolds
smaller weights when the graph is loaded; `fp16` is a graph for a GPU, with the front-end, softmax, norms and pooling
in float32; `int8` and `int16` multiply linear layers in 8 bits, in one product or three (`int8.RowInt8`);
in an `int8` graph the layers that `rounding.stays_float` names are float32, of weights stored as float16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor

from model_export.int8 import Array, Planes, RowInt8, channel_scales, fold_sums, quantize, steady_logarithms
from model_export.onnx import Tower, Traced, trace
from model_export.onnx_rewrites import Rise, rise_by_cubic, rise_by_sigmoid, rise_by_softplus
from model_export.rounding import Rounding, stays_float
from training.model import Clsp

Precision = Literal["fp32", "fp16", "int8", "int16"]
SMALLEST = 4096  # elements; below that nothing is gained
INLINE_BYTES = 1_500_000_000  # a protobuf file can't pass 2 GB; larger weights go into a file beside it

RISES: dict[Precision, Rise] = {
    "fp32": rise_by_sigmoid,
    "fp16": rise_by_softplus,  # right for a GPU, where one kernel beats six
    "int16": rise_by_sigmoid,
    "int8": rise_by_cubic,
}


@dataclass(frozen=True)
class Form:
    """How a bundle's weights are stored, and what its sums are made in."""

    precision: Precision
    arithmetic: Precision

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision {self.precision!r} is none of {', '.join(get_args(Precision))}")
        allowed = {"fp32": ["fp32"], "int16": ["int16"]}.get(self.precision, ["fp32", self.precision])
        if self.arithmetic not in allowed:
            raise ValueError(f"{self.precision} weights go with {' or '.join(allowed)} arithmetic")


def export_tower(
    model: Clsp,
    tower: Tower,
    path: Path,
    form: Form,
    *,
    rise: Rise | None = None,
    rounding: Mapping[str, Rounding] | None = None,
) -> None:
    """Write one tower to `path`, its weights inside or, when they are large, in `path` + `.data` beside it.

    `rise` is another way to compute a Zipformer's activations than the one that fits the form. `rounding` is what 8
    bits were measured to do to each weight: 8-bit arithmetic corrects by it.
    """
    dtype = torch.float16 if form.arithmetic == "fp16" else torch.float32
    traced = trace(model, tower, dtype=dtype, rise=rise or RISES[form.arithmetic])
    save(attach_weights(traced, form, rounding or {}), path)


def attach_weights(traced: Traced, form: Form, rounding: Mapping[str, Rounding]) -> ir.Model:
    """Turn the graph's weight inputs into initializers that are read when the graph is written."""
    _Attacher(traced, form, rounding).run()
    if form.arithmetic == "int8":
        steady_logarithms(traced.graph.graph)
        fold_sums(traced.graph.graph)
    for clean in (common.IdentityEliminationPass(), common.CommonSubexpressionEliminationPass()):
        clean(traced.graph)
    common.RemoveUnusedNodesPass()(traced.graph)
    traced.graph.graph.sort()
    return traced.graph


def save(graph: ir.Model, path: Path) -> None:
    """Write a graph, streaming its weights."""
    total = sum(value.const_value.nbytes for value in graph.graph.initializers.values() if value.const_value)
    beside = path.name + ".data" if total > INLINE_BYTES else None
    ir.save(graph, path, external_data=beside, alignment=65536 if beside else None)


class _Attacher:
    def __init__(self, traced: Traced, form: Form, rounding: Mapping[str, Rounding]) -> None:
        self.traced, self.form, self.rounding = traced, form, rounding
        self.graph = traced.graph.graph
        self.rows = RowInt8(self.graph) if form.arithmetic in ("int8", "int16") else None

    def run(self) -> None:
        for value in list(self.graph.inputs):
            if value.name in self.traced.weights:
                self.graph.inputs.remove(value)
                self._attach(str(value.name), value)

    def _attach(self, name: str, value: ir.Value) -> None:
        weight = self.traced.weights[name]
        value.name = None  # the initializer takes it
        for flip in [node for node in value.consumers() if _flips(node)]:
            flip.outputs[0].type = value.type
            self._attach_flipped(name, flip.outputs[0], weight)
            self.graph.remove(flip, safe=True)
        users = list(value.consumers())
        if not users:
            return
        if (
            self.form.precision == "int8"
            and weight.numel() >= SMALLEST
            and all(_looks_up(node, value) for node in users)
        ):
            self._attach_table(name, users, weight)
        else:
            self._store(name, value, lambda: _array(weight), tuple(weight.shape), _channel_axis(value))

    def _attach_flipped(self, name: str, flipped: ir.Value, weight: Tensor) -> None:
        """The weight of a linear layer, [out, in] in the checkpoint and [in, out] in the graph."""
        shape = (weight.shape[1], weight.shape[0])
        users = list(flipped.consumers())
        multiplied = all(node.op_type == "MatMul" and node.inputs[1] is flipped for node in users)
        measured, shift = self.rounding.get(name.removeprefix("model.")), None
        coarse = self.form.precision == "int8" and stays_float(name, measured)
        if self.rows is None or not multiplied or weight.numel() < SMALLEST or coarse:
            self._store(name, flipped, lambda: _array(weight).T, shape, 1 if multiplied else None)
            return
        pairs = [self._int8(name, lambda: _array(weight).T, shape, 1)]
        if self.form.precision == "int16":
            pairs.append(self._int8(name + ".rest", lambda: _rest(_array(weight).T), shape, 1))
        elif measured is not None:
            lost = measured.shift
            shift = self._initializer(name + ".shift", ir.DataType.FLOAT, lost.shape, lambda: lost)
        planes = Planes(tuple(pairs), shift)
        for node in users:
            self.rows.replace(node, planes, inputs=shape[0], unsigned=name in self.traced.rests)

    def _attach_table(self, name: str, users: list[ir.Node], weight: Tensor) -> None:
        """An embedding table stays int8 in memory: only the rows that are looked up are unfolded."""
        q, scale = self._int8(name, lambda: _array(weight), tuple(weight.shape), 0, keepdims=True)
        for node in users:
            index = node.inputs[1]
            rows = self._insert(node, "Cast", self._insert(node, "Gather", q, index), to=int(ir.DataType.FLOAT))
            unfolded = self._insert(node, "Mul", rows, self._insert(node, "Gather", scale, index))
            ir.convenience.replace_all_uses_with(node.outputs[0], unfolded)
            self.graph.remove(node, safe=True)

    def _store(
        self, name: str, value: ir.Value, read: Callable[[], Array], shape: tuple[int, ...], axis: int | None
    ) -> None:
        """Put a weight in place of `value`, unfolded in the graph where it is stored smaller than it is used."""
        as_traced = self.form.precision == self.form.arithmetic != "int8"
        first = next(iter(value.consumers()))
        if as_traced or int(np.prod(shape)) < SMALLEST:
            replacement = self._initializer(name, _dtype(value), shape, read)
        elif self.form.precision == "int8" and self.rows is None and axis is not None:
            q, scale = self._int8(name, read, shape, axis)
            replacement = self._insert(first, "DequantizeLinear", q, scale, axis=axis)
        else:
            half = self._initializer(name + ".fp16", ir.DataType.FLOAT16, shape, read)
            replacement = self._insert(first, "Cast", half, to=int(ir.DataType.FLOAT))
        ir.convenience.replace_all_uses_with(value, replacement)

    def _int8(
        self, name: str, read: Callable[[], Array], shape: tuple[int, ...], axis: int, keepdims: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """int8 codes and their float32 scales, one for each index of `axis`."""
        scale = channel_scales(read(), axis)
        wide = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        stored = wide if keepdims else scale
        codes = self._initializer(name + ".int8", ir.DataType.INT8, shape, lambda: quantize(read(), wide))
        return codes, self._initializer(name + ".scale", ir.DataType.FLOAT, stored.shape, lambda: stored)

    def _initializer(
        self, name: str, dtype: ir.DataType, shape: tuple[int, ...], read: Callable[[], Array]
    ) -> ir.Value:
        def load() -> ir.TensorProtocol:
            return ir.tensor(np.ascontiguousarray(read()).astype(dtype.numpy(), copy=False), name=name)

        tensor = ir.LazyTensor(load, dtype, ir.Shape(shape), name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        self.graph.register_initializer(value)
        return value

    def _insert(self, before: ir.Node, op: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
        node = ir.node(op, inputs, attributes)
        self.graph.insert_before(before, node)
        return node.outputs[0]


def _array(weight: Tensor) -> Array:
    return weight.detach().numpy()


def _rest(weight: Array) -> Array:
    """What int8 codes with a scale a column leave of a weight [K, M]."""
    scale = channel_scales(weight, 1)
    rest: Array = weight - quantize(weight, scale) * scale
    return rest


def _dtype(value: ir.Value) -> ir.DataType:
    if value.dtype is None:
        raise ValueError(f"the type of {value.name} is not known")
    return value.dtype


def _flips(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == (1, 0)


def _looks_up(node: ir.Node, table: ir.Value) -> bool:
    return node.op_type == "Gather" and node.inputs[0] is table


def _channel_axis(value: ir.Value) -> int | None:
    """The output-channel axis that all users of a weight agree on; None when there is none."""
    axes = set()
    for node in value.consumers():
        if node.op_type == "Conv" and node.inputs[1] is value:
            axes.add(0)
        elif node.op_type == "Gemm" and node.inputs[1] is value:
            axes.add(0 if node.attributes["transB"].as_int() else 1)
        else:
            axes.add(-1)
    return None if len(axes) != 1 or -1 in axes else axes.pop()
