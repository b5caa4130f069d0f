"""Linear layers in 8-bit arithmetic whose result for a frame depends on that frame alone.

Every frame (row) of an activation gets a scale of its own, inside the graph, and every output channel of a weight has
one. The integer product is exact, so a clip's embedding is the same in any batch: a scale over the whole tensor, which
is what the runtime's dynamic quantisation takes, would make it depend on the batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

CONTRIB = "com.microsoft"
FINER = 254  # the second plane divides a step of the first by this: half a step is 127 of its codes
TINY = 1e-12  # a row of zeros has this scale, and stays zeros


@dataclass(frozen=True)
class Planes:
    """A weight [K, M] as int8 codes and float32 scales [M]; a second pair holds what the first lost.

    `shift` [M] is added to the product.
    """

    pairs: tuple[tuple[ir.Value, ir.Value], ...]
    shift: ir.Value | None = None


class RowInt8:
    """Writes 8-bit linear layers into a graph; layers that read the same value share its quantisation."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        graph.opset_imports[CONTRIB] = 1
        self._rows: dict[tuple[ir.Value, bool], _Rows] = {}
        self._rests: dict[ir.Value, ir.Value] = {}
        self._constants: dict[str, ir.Value] = {}

    def replace(self, node: ir.Node, weight: Planes, *, inputs: int, unsigned: bool) -> None:
        """Replace MatMul(x [..., inputs], .).

        `unsigned` says that x is never negative, which gives its 8 bits twice the resolution. A weight of two planes
        is for an x that rides on a large constant: x gets a second plane too, and together they are worth 15 bits.
        """
        x, out = node.inputs[0], node.outputs[0]
        if x is None:
            raise ValueError(f"{node.name} reads nothing")
        if (x, unsigned) not in self._rows:
            self._rows[x, unsigned] = self._quantized(x, inputs, unsigned, node)
        rows = self._rows[x, unsigned]
        one = self._constant("one", np.float32(1))
        products = [self._product(node, rows.codes, pair, one, rows.zero) for pair in weight.pairs]
        if len(weight.pairs) > 1:
            finer, middle = self._constant("finer", np.float32(1 / FINER)), self._constant("middle", np.uint8(128))
            rest = self._rest(rows, finer, middle, node)
            codes, scale = weight.pairs[0]
            # ONNX Runtime can't sum exactly on CPUs without VNNI where two products share a weight. This one gets its
            # own when the file is opened, by folding the sign, and takes no room in the file.
            signed = self._add(node, "Neg", codes), scale
            products.append(self._product(node, rest, signed, self._constant("back", np.float32(-1 / FINER)), middle))
        total = products[0]
        for product in products[1:]:
            total = self._add(node, "Add", total, product)
        total = self._add(node, "Mul", total, rows.scale)
        if weight.shift is not None:
            total = self._add(node, "Add", total, weight.shift)
        ir.convenience.replace_all_uses_with(out, total)
        self.graph.remove(node, safe=True)

    def _product(
        self, node: ir.Node, codes: ir.Value, weight: tuple[ir.Value, ir.Value], step: ir.Value, zero: ir.Value
    ) -> ir.Value:
        return self._add(node, "MatMulIntegerToFloat", codes, weight[0], step, weight[1], zero, domain=CONTRIB)

    def _quantized(self, x: ir.Value, width: int, unsigned: bool, before: ir.Node) -> "_Rows":
        last = self._constant("last_axis", np.array([-1], np.int64))
        most = self._add(before, "ReduceMax", x, last, keepdims=1)
        if not unsigned:
            least = self._add(before, "ReduceMin", x, last, keepdims=1)
            most = self._add(before, "Max", most, self._add(before, "Neg", least))
        levels = 255 if unsigned else 127
        step = self._add(before, "Mul", most, self._constant(f"step_{levels}", np.float32(1 / levels)))
        scale = self._add(before, "Max", step, self._constant("tiny", np.float32(TINY)))
        # The quantising operation takes scales along one axis: batch and time are made one for it.
        flat = self._add(before, "Reshape", x, self._constant(f"rows_{width}", np.array([-1, width], np.int64)))
        flat_scale = self._add(before, "Reshape", scale, self._constant("flat", np.array([-1], np.int64)))
        zero = self._constant("zero", np.uint8(0)) if unsigned else self._constant("middle", np.uint8(128))
        zeros = self._add(before, "Expand", zero, self._add(before, "Shape", flat_scale))
        shape = self._add(before, "Shape", x)
        flat_codes = self._add(before, "QuantizeLinear", flat, flat_scale, zeros, axis=0)
        codes = self._add(before, "Reshape", flat_codes, shape)
        return _Rows(codes, scale, zero, flat, flat_codes, flat_scale, zeros, shape)

    def _rest(self, rows: "_Rows", finer: ir.Value, middle: ir.Value, before: ir.Node) -> ir.Value:
        """What rounding to 8 bits took from each row, as codes of 1 / FINER of its scale."""
        if rows.codes not in self._rests:
            rounded = self._add(before, "DequantizeLinear", rows.flat_codes, rows.flat_scale, rows.zeros, axis=0)
            rest = self._add(before, "Sub", rows.flat, rounded)
            scale = self._add(before, "Mul", rows.flat_scale, finer)
            zeros = self._add(before, "Expand", middle, self._add(before, "Shape", scale))
            codes = self._add(before, "QuantizeLinear", rest, scale, zeros, axis=0)
            self._rests[rows.codes] = self._add(before, "Reshape", codes, rows.shape)
        return self._rests[rows.codes]

    def _add(self, before: ir.Node, op: str, *inputs: ir.Value, domain: str = "", **attributes: int) -> ir.Value:
        node = ir.node(op, inputs, attributes, domain=domain)
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def _constant(self, name: str, array: Any) -> ir.Value:
        if name not in self._constants:
            tensor = ir.tensor(np.asarray(array), name=f"row_int8.{name}")
            shape = ir.Shape(np.shape(array))
            value = ir.Value(name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
            self.graph.register_initializer(value)
            self._constants[name] = value
        return self._constants[name]


@dataclass(frozen=True)
class _Rows:
    """A value in 8 bits: codes [..., K], scale [..., 1], the code of zero, and the same with one row axis."""

    codes: ir.Value
    scale: ir.Value
    zero: ir.Value
    flat: ir.Value
    flat_codes: ir.Value
    flat_scale: ir.Value
    zeros: ir.Value
    shape: ir.Value


def steady_logarithms(graph: ir.Graph) -> None:
    """Write ln x as the logarithm of a sum of one, which rounds an element alike wherever it stands in a tensor.

    The CPU provider's Log doesn't (see `forms.rise_by_cubic`). This one is slower: it is for few elements.
    """
    axis = ir.tensor(np.array([-1], np.int64), name="steady.last_axis")
    last = ir.Value(name=axis.name, const_value=axis, type=ir.TensorType(axis.dtype), shape=ir.Shape([1]))
    graph.register_initializer(last)
    for node in [node for node in graph if node.op_type == "Log"]:
        single = ir.node("Unsqueeze", [node.inputs[0], last])
        summed = ir.node("ReduceLogSum", [single.outputs[0], last], {"keepdims": 0})
        graph.insert_before(node, [single, summed])
        ir.convenience.replace_all_uses_with(node.outputs[0], summed.outputs[0])
        graph.remove(node, safe=True)


def fold_sums(graph: ir.Graph) -> None:
    """Write (x + a) + b, of weights a and b of one shape, as x + (a + b): a shift goes into the layer's bias."""
    for inner in [node for node in graph if node.op_type == "Add"]:
        users = list(inner.outputs[0].consumers())
        if len(users) != 1 or users[0].op_type != "Add":
            continue
        outer = users[0]
        first, second = _stored_term(inner), _stored_term(outer)
        if first is None or second is None or first.const_value is None or second.const_value is None:
            continue
        if first.const_value.shape != second.const_value.shape:
            continue
        total = first.const_value.numpy() + second.const_value.numpy()
        name = f"{second.name}.with_shift"
        value = ir.Value(name=name, const_value=ir.tensor(total, name=name), type=second.type, shape=second.shape)
        graph.register_initializer(value)
        outer.replace_input_with(list(outer.inputs).index(second), value)
        (x,) = (given for given in inner.inputs if given is not first)
        outer.replace_input_with(list(outer.inputs).index(inner.outputs[0]), x)
        graph.remove(inner, safe=True)


def _stored_term(node: ir.Node) -> ir.Value | None:
    """The one input of an addition that is a weight."""
    stored = [given for given in node.inputs if given is not None and given.is_initializer()]
    return stored[0] if len(stored) == 1 else None


def channel_scales(weight: Array, axis: int) -> NDArray[np.float32]:
    """The scale of each index of `axis`: its largest absolute weight becomes 127; 1 where all are 0."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others) / 127.0
    return np.where(scale > 0, scale, 1.0).astype(np.float32)


def quantize(weight: Array, scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """Symmetric int8 codes: weight ~ scale * code, |code| <= 127."""
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
