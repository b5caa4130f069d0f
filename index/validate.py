"""Refuse at the door what could not be stored whole, addressed in a URL, or compared."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from index.errors import DimensionMismatch, IdentityMismatch, InvalidInput, InvalidName, MetadataTooLarge
from index.types import JsonScalar, JsonValue, Limits, NewItem, NewSegment, Vector

MAX_ID_CHARS = 256
UNIT_TOLERANCE = 1e-3
# SQLite's integers are 64-bit; a larger one would silently become a float.
MAX_INTEGER = 2**63 - 1
# A filter's keys of these names are combinators, so a field so named could never be filtered on.
RESERVED_FIELDS = frozenset({"all", "any", "not"})

_COLLECTION_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}", re.ASCII)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check_collection_name(name: str) -> str:
    """Return `name`, or raise InvalidName."""
    if not is_collection_name(name):
        raise InvalidName("collection", "use 1 to 64 of a-z A-Z 0-9 _ . - and start with a letter or digit", 64)
    return name


def is_collection_name(name: str) -> bool:
    """Whether a collection could have this name."""
    return isinstance(name, str) and _COLLECTION_NAME.fullmatch(name) is not None


def check_item_id(item_id: str, field: str = "id") -> str:
    """Return `item_id`, or raise InvalidName. "/", "." and ".." are refused: URL paths give them a meaning."""
    if not isinstance(item_id, str) or not 1 <= len(item_id) <= MAX_ID_CHARS:
        raise InvalidName(field, f"must be a string of 1 to {MAX_ID_CHARS} characters", MAX_ID_CHARS)
    if "/" in item_id or item_id in (".", ".."):
        raise InvalidName(field, "must not contain '/' nor be '.' or '..'")
    if any(unicodedata.category(char) in _UNPRINTABLE for char in item_id):
        raise InvalidName(field, "must not contain control characters, line separators or lone surrogates")
    return item_id


def composed(text: str) -> str:
    """The text in the form that others type it in (NFC): macOS hands out file names taken apart (NFD)."""
    return unicodedata.normalize("NFC", text)


def is_item_id(item_id: str) -> bool:
    """Whether an item could have this id. Others are never asked of SQLite, which can't take every string."""
    try:
        check_item_id(item_id)
    except InvalidName:
        return False
    return True


def check_text(value: str, field: str, max_chars: int) -> str:
    """Return `value` if SQLite can hold it exactly: no NUL, no lone surrogate, at most `max_chars`."""
    if len(value) > max_chars:
        raise InvalidInput(field, f"longer than {max_chars} characters", max_chars)
    if "\0" in value:
        raise InvalidInput(field, "must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(field, "must be valid Unicode (lone surrogate found)") from error
    return value


def check_scalar(value: Any, field: str, max_chars: int) -> JsonScalar:
    """Return `value` if it is a JSON scalar that compares exactly; raise InvalidInput otherwise."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_text(value, field, max_chars)
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidInput(field, "integer does not fit 64 bits", MAX_INTEGER)
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(field, "number must be finite")
        return value
    raise InvalidInput(field, f"must be a string, bool, number, null or a list of these, not {type(value).__name__}")


def check_count(value: int, field: str, most: int) -> int:
    """Return `value` if it is 1 to `most`; raise InvalidInput otherwise."""
    if not 1 <= value <= most:
        raise InvalidInput(field, f"must be 1 to {most}", most)
    return value


def check_metadata(metadata: Mapping[str, Any], limits: Limits, field: str = "metadata") -> dict[str, JsonValue]:
    """Return a copy of `metadata` of exactly the JSON kinds that filters know.

    Raises InvalidInput, MetadataTooLarge among them.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInput(field, "must be an object")
    if len(metadata) > limits.max_fields:
        raise InvalidInput(field, f"more than {limits.max_fields} fields", limits.max_fields)
    _check_size(metadata, limits.max_metadata_bytes, field)
    checked: dict[str, JsonValue] = {}
    for name, value in metadata.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput(field, "field names must be non-empty strings")
        check_text(name, f"{field}: field name", limits.max_field_chars)
        if name in RESERVED_FIELDS:
            raise InvalidInput(f"{field}.{name}", "this name is reserved by the filter language")
        checked[name] = _check_value(value, f"{field}.{name}", limits)
    return checked


def _check_size(metadata: Mapping[str, Any], most: int, field: str) -> None:
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return  # not JSON at all: what is wrong is said value by value
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        raise MetadataTooLarge(field, f"{size} bytes of JSON; at most {most} are accepted", most)


def patched_metadata(old: Mapping[str, Any], patch: Mapping[str, Any], limits: Limits) -> dict[str, JsonValue]:
    """`old` with `patch` merged into it (RFC 7396: null removes), checked as `check_metadata` does."""
    merged = {**old, **patch}
    return check_metadata({name: one for name, one in merged.items() if patch.get(name, "") is not None}, limits)


def _check_value(value: Any, field: str, limits: Limits) -> JsonValue:
    if isinstance(value, (list, tuple)):
        if len(value) > limits.max_list:
            raise InvalidInput(field, f"more than {limits.max_list} elements", limits.max_list)
        return [check_scalar(one, f"{field}[{i}]", limits.max_text_chars) for i, one in enumerate(value)]
    if isinstance(value, Mapping):
        raise InvalidInput(field, "nested objects are not allowed; use flat fields")
    return check_scalar(value, field, limits.max_text_chars)


def check_vector(vector: Any, dim: int, field: str = "vector") -> Vector:
    """Return `vector` as [D] float32 of unit length; its norm may be off by 1e-3, which is corrected.

    Raises:
        DimensionMismatch: another number of dimensions.
        InvalidInput: not numbers, not finite, or not of unit length.
    """
    try:
        values = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(field, "must be a list of numbers") from error
    if values.ndim != 1:
        raise InvalidInput(field, f"must be one vector, not an array of shape {values.shape}")
    if values.shape[0] != dim:
        raise DimensionMismatch(dim, values.shape[0], field)
    if not np.isfinite(values).all():
        raise InvalidInput(field, "must be finite numbers")
    norm = float(np.linalg.norm(values))
    if abs(norm - 1.0) > UNIT_TOLERANCE:
        raise InvalidInput(field, f"must have unit length within {UNIT_TOLERANCE}, has {norm:.6g}", UNIT_TOLERANCE)
    return (values / norm).astype(np.float32)


def check_item(item: NewItem, dim: int, limits: Limits, field: str) -> NewItem:
    """Return `item` with checked, copied contents; raise InvalidInput (or a subclass) or DimensionMismatch."""
    check_item_id(item.id, f"{field}.id")
    if not 1 <= len(item.segments) <= limits.max_segments:
        raise InvalidInput(f"{field}.segments", f"must be 1 to {limits.max_segments}", limits.max_segments)
    if not _SHA256.fullmatch(item.content_sha256):
        raise InvalidInput(f"{field}.content_sha256", "must be 64 lower-case hex digits")
    if item.filename is not None:
        check_text(item.filename, f"{field}.filename", limits.max_text_chars)
    if item.media is not None and not _MEDIA_TYPE.fullmatch(item.media.media_type):
        raise InvalidInput(f"{field}.media_type", "must look like 'audio/flac'")
    return NewItem(
        id=item.id,
        segments=[_check_segment(one, dim, f"{field}.segments[{i}]") for i, one in enumerate(item.segments)],
        metadata=check_metadata(item.metadata, limits, f"{field}.metadata"),
        duration_s=_check_seconds(item.duration_s, f"{field}.duration_s"),
        content_sha256=item.content_sha256,
        filename=item.filename,
        media=item.media,
    )


def check_identity(expected: str, got: str) -> None:
    """Raise IdentityMismatch if vectors of one identity are meant for a collection of another."""
    if got != expected:
        raise IdentityMismatch(expected, got)


def check_distinct(items: Sequence[NewItem]) -> None:
    """Raise InvalidInput if two items have one id."""
    seen: dict[str, int] = {}
    for i, item in enumerate(items):
        if item.id in seen:
            raise InvalidInput(f"items[{i}].id", f"{item.id!r} is already items[{seen[item.id]}]")
        seen[item.id] = i


def _check_segment(segment: NewSegment, dim: int, field: str) -> NewSegment:
    start_s = _check_seconds(segment.start_s, f"{field}.start_s")
    end_s = _check_seconds(segment.end_s, f"{field}.end_s")
    if end_s < start_s:
        raise InvalidInput(f"{field}.end_s", "must not be before start_s")
    return NewSegment(start_s, end_s, check_vector(segment.vector, dim, f"{field}.vector"))


def _check_seconds(value: float, field: str) -> float:
    seconds = float(value)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidInput(field, "must be a finite number of seconds, not negative")
    return seconds
