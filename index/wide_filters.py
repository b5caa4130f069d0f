"""What people mean by a filter: `parse_filter` compares exactly, and a search that finds nothing does not say why.

    {"year": 2020}        also finds "2020", as tables have it, and {"year": "2020"} the number
    {"tags": "calm"}      also finds a list that holds it
    {"speaker": "José"}   also finds the name in the other Unicode form (macOS names files in NFD, others in NFC)

Widening only adds items, and `not` stays the complement. What can't be compared is refused, not found empty.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from index.errors import FilterError
from index.filters import All, AnyOf, Condition, Filter, Not, kind_of, parse_filter
from index.types import JsonScalar

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{0,14}[1-9])?")
# RFC 3339 with an offset other than Z.
_OFFSET_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?[+-]\d\d:?\d\d")
_BOOLS: dict[str, bool] = {"true": True, "false": False}


def read_filter(obj: Mapping[str, Any]) -> Filter:
    """Parse a caller's filter and widen it. Raises FilterError as `parse_filter` does, and for an order of date-times
    with an offset: texts are compared character by character, which takes 10:00+02:00 for later than 09:00Z."""
    return widened(parse_filter(obj))


def widened(where: Filter) -> Filter:
    """The filter with every comparison in the forms in which the same value is stored."""
    match where:
        case Not():
            return Not(widened(where.part))
        case All():
            return All(tuple(widened(part) for part in where.parts))
        case AnyOf():
            return AnyOf(tuple(widened(part) for part in where.parts))
        case Condition():
            return _condition(where)


def _condition(one: Condition) -> Filter:
    if one.op == "exists":
        return one
    values = tuple(dict.fromkeys((kind_of(form), form) for value in one.values for form in _forms(value)))
    forms = tuple(form for _, form in values)
    if one.op == "nin":
        return Condition(one.field, "nin", forms)
    if one.op in ("in", "contains"):
        held: tuple[Filter, ...] = tuple(
            Condition(one.field, "contains", (form,)) for form in forms if form is not None
        )
        if one.op == "in":
            # Lists of thousands of values are of ids and the like, never of tags.
            held = (Condition(one.field, "in", forms), *(held if len(held) <= _MAX_HELD else ()))
        return held[0] if len(held) == 1 else AnyOf(held or (one,))
    return _ordered(one)


_MAX_HELD = 32


def _ordered(one: Condition) -> Filter:
    (value,) = one.values
    if not isinstance(value, str):
        return one
    if _OFFSET_TIME.fullmatch(value):
        raise FilterError(
            f"filter.{one.field}.{one.op}",
            "date-times are compared as text: store them in UTC, and write this one in UTC, as 2024-05-01T08:00:00Z",
        )
    numbers = [form for form in _forms(value) if kind_of(form) == "number"]
    return AnyOf((one, *(Condition(one.field, one.op, (number,)) for number in numbers))) if numbers else one


def _forms(value: JsonScalar) -> list[JsonScalar]:
    if isinstance(value, bool):
        return [value, str(value).lower()]
    if isinstance(value, int | float):
        text = str(int(value)) if float(value).is_integer() and abs(value) < 10**15 else str(value)
        return [value, text] if _NUMBER.fullmatch(text) else [value]
    if not isinstance(value, str):
        return [value]
    forms: list[JsonScalar] = [value, unicodedata.normalize("NFC", value), unicodedata.normalize("NFD", value)]
    if _NUMBER.fullmatch(value):
        forms.append(float(value) if "." in value else int(value))
    if value in _BOOLS:
        forms.append(_BOOLS[value])
    return forms
