"""Items as Milvus rows, and filters as Milvus expressions that hold for exactly the items that LocalStore's SQL finds.

Nothing that a caller wrote reaches an expression: ids are hex digits, and metadata are looked up by tokens. A token is
a digest of (what it says, field, kind, value); an item's tokens say which fields it has, of which kinds, and their
values, so that equality and presence are tests of membership in an array. Order needs more: a number becomes a string
of fixed width and a text its UTF-8 in hex, both of which sort as the values do. Milvus' own comparison of JSON numbers
would round integers beyond 2**53, and the negation of a comparison with nothing differs between versions; so negations
are pushed down to the tokens and every comparison stands beside the token that says its operand is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from index.errors import InvalidInput
from index.filters import All, AnyOf, Condition, Filter, Kind, Not, kind_of
from index.types import JsonScalar, Metadata, NewItem

MAX_TOKENS = 4096
MAX_JSON_BYTES = 60_000
TOKEN_CHARS = 32
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_RESIDUAL_DIGITS = 3

Row = dict[str, Any]


def new_id() -> int:
    """A number that nobody else picks: 62 random bits."""
    return secrets.randbits(62)


def hex_id(item_id: str) -> str:
    """An item's id as digits that sort as the ids do, by code point."""
    return item_id.encode().hex()


def text_id(digits: str) -> str:
    return bytes.fromhex(digits).decode()


def key(item: str, owner: int, ordinal: int) -> str:
    """A row's primary key. "." sorts before every digit, so that the rows of "a" come before those of "ab"."""
    return f"{item}.{owner:016x}.{ordinal:06x}"


def after_item(item_id: str) -> str:
    """A key after every row of the item and before those of the next one."""
    return hex_id(item_id) + "/"


def rows_of(item: NewItem, *, owner: int, txn: int, made: int, info: dict[str, Any], place: str) -> list[Row]:
    """One row a segment; the first one carries what is shown of the item.

    Raises:
        InvalidInput: the metadata are too large for this backend; `place` names the item in its request.
    """
    shown = json.dumps({**info, "metadata": dict(item.metadata)}, ensure_ascii=False)
    facts, sortable = list(tokens_of(item.metadata)), sort_keys(item.metadata)
    if len(facts) > MAX_TOKENS:
        raise InvalidInput(f"{place}.metadata", f"more than {MAX_TOKENS} fields and values", MAX_TOKENS)
    if max(len(shown.encode()), len(json.dumps(sortable))) > MAX_JSON_BYTES:
        raise InvalidInput(f"{place}.metadata", f"longer than {MAX_JSON_BYTES} bytes as stored", MAX_JSON_BYTES)
    digits = hex_id(item.id)
    return [
        {
            "pk": key(digits, owner, ordinal),
            "item": digits,
            "owner": owner,
            "txn": txn,
            "made": made,
            "ordinal": ordinal,
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "facts": facts,
            "sortable": sortable,
            "info": "" if ordinal else shown,
            "vector": segment.vector,
        }
        for ordinal, segment in enumerate(item.segments)
    ]


def tokens_of(metadata: Metadata) -> Iterator[str]:
    """Every token that is true of the metadata, each once."""
    found: dict[str, None] = {}
    for field, value in metadata.items():
        found[has(field)] = None
        if isinstance(value, list):
            found.update({_token("element", field, kind_of(one), _canonical(one)): None for one in value})
        else:
            found[_token("kind", field, kind_of(value))] = None
            found[_token("value", field, kind_of(value), _canonical(value))] = None
    return iter(found)


def sort_keys(metadata: Metadata) -> dict[str, str]:
    """What ranges compare, by the name of the field and kind."""
    return {
        _sort_name(field, kind_of(value)): _sort_key(value)
        for field, value in metadata.items()
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
    }


def has(field: str) -> str:
    """The token of items that have the field."""
    return _token("has", field)


def holds(token: str) -> str:
    """The expression for rows with the token."""
    return f'array_contains(facts, "{token}")'


def to_expression(where: Filter, *, negated: bool = False) -> str:
    """Compile to an expression over a row's `facts` and `sortable`; with `negated`, to its complement."""
    match where:
        case Condition():
            return _condition(where, negated)
        case Not():
            return to_expression(where.part, negated=not negated)
        case All() | AnyOf():
            if not where.parts:
                return "ordinal < 0" if negated else "ordinal >= 0"
            joined = " and " if isinstance(where, All) != negated else " or "
            return joined.join(f"({to_expression(part, negated=negated)})" for part in where.parts)


def _condition(condition: Condition, negated: bool) -> str:
    field, values = condition.field, condition.values
    if condition.op == "exists":
        return _either(holds(has(field)), negated == (values[0] is True))
    if condition.op == "contains":
        return _either(holds(_token("element", field, kind_of(values[0]), _canonical(values[0]))), negated)
    if condition.op == "in":
        return _either(_any_of(field, values), negated)
    if condition.op == "nin":
        kinds: dict[Kind, list[JsonScalar]] = {}
        for value in values:
            kinds.setdefault(kind_of(value), []).append(value)
        parts = [(holds(_token("kind", field, kind)), _any_of(field, some)) for kind, some in kinds.items()]
        if negated:
            return " and ".join(f"(not {there} or {equal})" for there, equal in parts)
        return " or ".join(f"({there} and not {equal})" for there, equal in parts)
    (value,) = values
    there = holds(_token("kind", field, kind_of(value)))
    relation = _COMPARE[condition.op]
    compared = f'sortable["{_sort_name(field, kind_of(value))}"] {{}} "{_sort_key(value)}"'
    if negated:
        return f"(not {there} or ({there} and {compared.format(_OPPOSITE[relation])}))"
    return f"({there} and {compared.format(relation)})"


def _any_of(field: str, values: Sequence[JsonScalar]) -> str:
    listed = dict.fromkeys(_token("value", field, kind_of(value), _canonical(value)) for value in values)
    if len(listed) == 1:
        return holds(next(iter(listed)))
    return f"array_contains_any(facts, {json.dumps(list(listed))})"


def _either(expression: str, negated: bool) -> str:
    return f"not {expression}" if negated else expression


def _token(*parts: str) -> str:
    # JSON keeps the parts apart whatever they hold.
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=TOKEN_CHARS // 2).hexdigest()


def _sort_name(field: str, kind: Kind) -> str:
    return kind[0] + _token(field)


def _sort_key(value: Any) -> str:
    return value.encode().hex() if isinstance(value, str) else number_key(value)


def _canonical(value: JsonScalar) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else number_key(value)


def number_key(value: float) -> str:
    """Digits that sort as finite floats and 64-bit integers do, equal exactly where the numbers are equal.

    The largest double that is not above the number, its bits arranged to sort, then the integer's rest above it.
    """
    below = float(value)
    if isinstance(value, int) and int(below) > value:
        below = math.nextafter(below, -math.inf)
    rest = value - int(below) if isinstance(value, int) else 0
    (bits,) = struct.unpack(">Q", struct.pack(">d", below + 0.0))
    bits = bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63
    return f"{bits:016x}{rest:0{_RESIDUAL_DIGITS}x}"
