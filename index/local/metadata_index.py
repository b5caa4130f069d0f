"""Metadata as indexed rows: the catalog's filter index, and the compiler from filters to SQL over it.

Each scalar of an item's metadata is a row (field, shape, kind, value). Field names and values reach SQL only as
parameters, so a name full of quotes is a name; a b-tree over the rows answers equality and ranges without reading
the items; numbers stay the exact floats and integers that came in. The JSON in `items` remains what is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from index.filters import All, AnyOf, Condition, Filter, Kind, Not, kind_of
from index.types import JsonScalar, Metadata

SCALAR, ELEMENT = 0, 1
_KIND_CODE: dict[Kind, int] = {"null": 0, "bool": 1, "number": 2, "string": 3}
_EMPTY_LIST = -1
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

SqlValue = str | int | float
Fact = tuple[str, int, int, SqlValue, int]
"""(field, shape, kind, value, position in its list)."""


def facts_of(metadata: Metadata) -> Iterator[Fact]:
    """The rows that stand for checked metadata; an empty list leaves one row, so that its field exists."""
    for field, value in metadata.items():
        if isinstance(value, list):
            if not value:
                yield field, ELEMENT, _EMPTY_LIST, 0, 0
            for position, element in enumerate(value):
                yield field, ELEMENT, *_stored(element), position
        else:
            yield field, SCALAR, *_stored(value), 0


def to_sql(where: Filter, collection: int, item: str = "items.pk", *, each: bool = False) -> tuple[str, list[SqlValue]]:
    """Compile to a condition on an item's key and its parameters. Never NULL, so NOT is the plain complement.

    Args:
        item: the column that holds the key, in the caller's query.
        each: look at the metadata of each item in question, of which there are few, and not for all items that pass.
    """
    match where:
        case Condition():
            return _condition(where, collection, item, each)
        case Not():
            sql, params = to_sql(where.part, collection, item, each=each)
            return f"NOT ({sql})", params
        case All() | AnyOf():
            if not where.parts:
                return "1", []
            compiled = [to_sql(part, collection, item, each=each) for part in where.parts]
            joined = (" AND " if isinstance(where, All) else " OR ").join(f"({sql})" for sql, _ in compiled)
            return joined, [value for _, params in compiled for value in params]


def is_bounded(where: Filter) -> bool:
    """Whether only items with certain metadata can pass, so that they can be found without looking at all others."""
    match where:
        case Condition():
            return not (where.op == "exists" and where.values[0] is False)
        case Not():
            return False
        case All():
            return any(is_bounded(part) for part in where.parts)
        case AnyOf():
            return bool(where.parts) and all(is_bounded(part) for part in where.parts)


def _condition(condition: Condition, collection: int, item: str, each: bool) -> tuple[str, list[SqlValue]]:
    target: list[SqlValue] = [collection, condition.field]
    if condition.op == "exists":
        sql, params = "", list[SqlValue]()
    elif condition.op == "contains":
        sql, params = _one_of(condition.values, ELEMENT, "IN")
    elif condition.op == "in":
        sql, params = _one_of(condition.values, SCALAR, "IN")
    elif condition.op == "nin":
        sql, params = _one_of(condition.values, SCALAR, "NOT IN")
    else:
        kind, value = _stored(condition.values[0])
        sql = f" AND shape = {SCALAR} AND kind = ? AND value {_COMPARE[condition.op]} ?"
        params = [kind, value]
    # `sql` is made of constants above.
    found = f"collection = ? AND field = ?{sql}"
    if each:
        found = f"EXISTS (SELECT 1 FROM facts INDEXED BY facts_item WHERE facts.item = {item} AND {found})"  # noqa: S608
    else:
        found = f"{item} IN (SELECT item FROM facts WHERE {found})"  # noqa: S608
    if condition.op == "exists" and condition.values[0] is False:
        found = f"NOT {found}"
    return found, target + params


def _one_of(values: tuple[JsonScalar, ...], shape: int, relation: str) -> tuple[str, list[SqlValue]]:
    """Rows of `shape` whose value is (NOT) IN those operands that have its kind; other kinds never match."""
    by_kind: dict[int, list[SqlValue]] = {}
    for value in values:
        kind, stored = _stored(value)
        by_kind.setdefault(kind, []).append(stored)
    parts = [f"(kind = ? AND value {relation} ({', '.join('?' * len(stored))}))" for stored in by_kind.values()]
    params = [one for kind, stored in by_kind.items() for one in (kind, *stored)]
    return f" AND shape = {shape} AND ({' OR '.join(parts)})", params


def _stored(value: JsonScalar) -> tuple[int, SqlValue]:
    code = _KIND_CODE[kind_of(value)]
    # Null is told by its kind; the value column is part of a primary key and must hold something.
    return code, 0 if value is None else int(value) if isinstance(value, bool) else value
