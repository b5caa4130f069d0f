"""The filter language: a JSON object in, a small tree out, that each backend compiles to its own expressions.

    {"gender": "female"}                          equal; a list means any of these
    {"age": {"gte": 40, "lt": 60}}                eq ne in nin gt gte lt lte exists contains
    {"any": [{...}, {...}], "not": {...}}         all, any, not; keys side by side must all hold

What holds, exactly. Values have a kind: string, bool, number, null or list. A comparison holds only between values of
one kind, so `ne` and `nin` need the field present and of (one of) the operand's kinds; everything else is said with
`not`, which is the plain complement. A missing field has no kind: only `{"exists": false}` and `not` find it.
`contains` asks a list for an element. Strings are ordered by code point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from index.errors import FilterError, InvalidInput
from index.types import JsonScalar
from index.validate import check_scalar, check_text

Op: TypeAlias = Literal["in", "nin", "gt", "gte", "lt", "lte", "exists", "contains"]
Kind: TypeAlias = Literal["string", "bool", "number", "null"]

_ORDERED = frozenset({"gt", "gte", "lt", "lte"})
_OPERATORS = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists", "contains")


@dataclass(frozen=True)
class FilterLimits:
    """Bounds on one filter: nesting, conditions in all, listed values in all, characters of a name or string.

    A part that asks for nothing counts as a condition: it is none the less a term of what the backend is asked.
    """

    max_depth: int = 16
    max_conditions: int = 256
    max_values: int = 4096
    max_chars: int = 8192


@dataclass(frozen=True)
class Condition:
    """One field against operands. `eq` and `ne` arrive as `in` and `nin` of one value; `exists` holds one bool."""

    field: str
    op: Op
    values: tuple[JsonScalar, ...]


@dataclass(frozen=True)
class All:
    """Every part holds; true when there is none."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter: TypeAlias = Condition | All | AnyOf | Not


def parse_filter(obj: Mapping[str, Any], *, limits: FilterLimits | None = None) -> Filter:
    """Parse a filter's JSON object; an empty one holds for every item.

    Raises:
        FilterError: not of the language, or over a limit; names the path of the part at fault.
    """
    return _Parser(limits or FilterLimits()).parse(obj, "filter", 1)


def filter_fields(where: Filter) -> list[str]:
    """The metadata fields a filter names, each once, in order of appearance."""
    match where:
        case Condition():
            return [where.field]
        case Not():
            return filter_fields(where.part)
        case All() | AnyOf():
            return list(dict.fromkeys(name for part in where.parts for name in filter_fields(part)))


def kind_of(value: JsonScalar) -> Kind:
    """The kind a scalar compares as; bool is not a number here, as it is not in JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"


class _Parser:
    """Carries the running counts that bound a filter's cost."""

    def __init__(self, limits: FilterLimits) -> None:
        self._limits = limits
        self._conditions = 0
        self._values = 0

    def parse(self, obj: Any, path: str, depth: int) -> Filter:
        if not isinstance(obj, Mapping):
            raise FilterError(path, f"must be an object, not {type(obj).__name__}")
        if depth > self._limits.max_depth:
            raise FilterError(path, f"nested deeper than {self._limits.max_depth}")
        if not obj:
            self._count(path)
        parts = [part for key, value in obj.items() for part in self._entry(key, value, path, depth)]
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _entry(self, key: Any, value: Any, path: str, depth: int) -> list[Filter]:
        if not isinstance(key, str) or not key:
            raise FilterError(path, "field names must be non-empty strings")
        here = f"{path}.{key}"
        if key in ("all", "any"):
            if not isinstance(value, list) or not value:
                raise FilterError(here, "must be a list of at least one filter")
            parts = tuple(self.parse(one, f"{here}[{i}]", depth + 1) for i, one in enumerate(value))
            return [All(parts) if key == "all" else AnyOf(parts)]
        if key == "not":
            return [Not(self.parse(value, here, depth + 1))]
        _checked(check_text, key, f"{path}: field name", self._limits.max_chars)
        if not isinstance(value, Mapping):
            return [self._condition(key, "in" if isinstance(value, list) else "eq", value, here)]
        if not value:
            raise FilterError(here, f"needs an operator: {', '.join(_OPERATORS)}")
        return [self._condition(key, op, operand, f"{here}.{op}") for op, operand in value.items()]

    def _condition(self, field: str, op: Any, operand: Any, path: str) -> Condition:
        self._count(path)
        if op not in _OPERATORS:
            raise FilterError(path, f"unknown operator; use one of {', '.join(_OPERATORS)}")
        if op in ("in", "nin"):
            if not isinstance(operand, list) or not operand:
                raise FilterError(path, "needs a list of at least one value")
            self._values += len(operand)
            if self._values > self._limits.max_values:
                raise FilterError(path, f"more than {self._limits.max_values} listed values")
            return Condition(field, op, tuple(self._scalar(one, f"{path}[{i}]") for i, one in enumerate(operand)))
        if op == "exists" and not isinstance(operand, bool):
            raise FilterError(path, "needs true or false")
        value = self._scalar(operand, path)
        if op in _ORDERED and kind_of(value) not in ("string", "number"):
            raise FilterError(path, "needs a number or a string")
        stored: Op = "in" if op == "eq" else "nin" if op == "ne" else cast(Op, op)
        return Condition(field, stored, (value,))

    def _count(self, path: str) -> None:
        self._conditions += 1
        if self._conditions > self._limits.max_conditions:
            raise FilterError(path, f"more than {self._limits.max_conditions} conditions")

    def _scalar(self, value: Any, path: str) -> JsonScalar:
        if isinstance(value, (list, Mapping)):
            raise FilterError(path, "needs a single value")
        return cast(JsonScalar, _checked(check_scalar, value, path, self._limits.max_chars))


def _checked(check: Any, value: Any, path: str, max_chars: int) -> Any:
    try:
        return check(value, path, max_chars)
    except InvalidInput as error:
        raise FilterError(error.field, error.message) from error
