"""Embeddings in Parquet: `id`, `duration_s`, `embedding` or `segments`; perhaps `identity`, `metadata`, `filename`.

`segments`, and the rest of what `clsp embed-corpus` writes, is as in `index/exchange/parquet.py`; `embedding` is one
vector for the whole clip. `identity` is a column, or a key of the file's metadata; `metadata` is a struct or a string
of JSON.
Needs pyarrow, which is asked for only here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from service.jobs.errors import SourceError

NEEDED: Final = ("id", "duration_s")
VECTORS: Final = ("segments", "embedding")
"""One of these; the first where a file has both."""
SEGMENT: Final = ("start_s", "end_s", "vector")
OPTIONAL: Final = ("identity", "metadata", "filename", "content_sha256")
BATCH_ROWS: Final = 256
_IDENTITY_KEYS: Final = (b"identity", b"clsp.identity")
_TEXT: Final = frozenset({"string", "large_string", "string_view", "null"})
"""Types of a column of strings; nothing but nulls has one of its own, and such rows are refused one by one."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
INSTALL: Final = "reading Parquet needs pyarrow: pip install 'clsp-service[parquet]'"


@dataclass(frozen=True)
class Row:
    """One embedded clip. `error` says why it cannot be used; the rest is then of no use.

    `segments` are (start_s, end_s, vector); `content_sha256` is of the clip's bytes, where the file tells.
    """

    number: int
    id: str | None
    segments: Sequence[tuple[float, float, NDArray[np.float64]]] = ()
    duration_s: float = 0.0
    identity: str | None = None
    metadata: dict[str, Any] | None = None
    filename: str | None = None
    content_sha256: str | None = None
    error: str | None = None


def stated_identity(file: IO[bytes], name: str) -> str | None:
    """The embedding identity that the file's metadata states, and a check of its columns. Raises SourceError."""
    found = _opened(file, name).schema_arrow.metadata or {}
    stated = [found[key] for key in _IDENTITY_KEYS if key in found]
    return stated[0].decode(errors="replace") if stated else None


def ids(file: IO[bytes], name: str) -> Iterator[Any]:
    """The column `id`, row by row."""
    with _reading(name):
        for batch in _opened(file, name).iter_batches(batch_size=65_536, columns=["id"]):
            yield from batch.column(0).to_pylist()


def rows(file: IO[bytes], name: str, wanted: Sequence[int]) -> Iterator[Row]:
    """The rows of these numbers, in ascending order; row groups without any of them are not read."""
    opened = _opened(file, name)
    stated = stated_identity(file, name)
    present = set(opened.schema_arrow.names)
    vectors = next(one for one in VECTORS if one in present)
    columns = [one for one in (*NEEDED, vectors, *OPTIONAL) if one in present]
    left = iter(sorted(wanted))
    row = next(left, None)
    first = 0
    with _reading(name):
        for group in range(opened.metadata.num_row_groups):
            size = opened.metadata.row_group(group).num_rows
            if row is None or row >= first + size:
                first += size
                continue
            at = first
            for batch in opened.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=columns):
                while row is not None and row < at + batch.num_rows:
                    yield _row(row, batch.slice(row - at, 1).to_pylist()[0], stated)
                    row = next(left, None)
                at += batch.num_rows
            first += size


def _row(number: int, values: dict[str, Any], stated: str | None) -> Row:
    found_id = values["id"]
    identity = values.get("identity") or stated
    try:
        duration_s = _seconds(values["duration_s"], "duration_s")
        segments = _segments(values, duration_s)
        metadata = _metadata(values.get("metadata"))
        if not isinstance(identity, str | None):
            raise ValueError("`identity` is not a string")
    except ValueError as error:
        return Row(number, found_id, error=str(error))
    filename, sha256 = values.get("filename"), values.get("content_sha256")
    return Row(
        number,
        found_id,
        segments,
        duration_s,
        identity=identity,
        metadata=metadata,
        filename=filename if isinstance(filename, str) else None,
        content_sha256=sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
    )


def _segments(values: dict[str, Any], duration_s: float) -> list[tuple[float, float, NDArray[np.float64]]]:
    """Raises ValueError that says what is wrong."""
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError("`duration_s` is not above 0")
    if "segments" not in values:
        return [(0.0, duration_s, _vector(values["embedding"], "embedding"))]
    found = [_segment(one, f"segments[{i}]") for i, one in enumerate(values["segments"] or ())]
    if not found:
        raise ValueError("`segments` is empty")
    return found


def _segment(one: dict[str, Any] | None, name: str) -> tuple[float, float, NDArray[np.float64]]:
    if one is None:
        raise ValueError(f"`{name}` is null")
    start_s, end_s = (_seconds(one[key], f"{name}.{key}") for key in ("start_s", "end_s"))
    return start_s, end_s, _vector(one["vector"], f"{name}.vector")


def _seconds(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is not a number") from None


def _vector(value: Any, name: str) -> NDArray[np.float64]:
    try:
        vector = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is not made of numbers") from None
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError(f"`{name}` is not one list of finite numbers")
    return vector


def _metadata(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = from_json(value)
        except ValueError:
            raise ValueError("`metadata` is not JSON") from None
    if isinstance(value, list) and all(isinstance(one, tuple) for one in value):  # a map column
        value = dict(value)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("`metadata` is not an object")
    # A struct column has every field in every row; and a shard of clips of which nothing is known says so with none.
    return {key: one for key, one in value.items() if one is not None} or None


def _opened(file: IO[bytes], name: str) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(INSTALL, field="kind") from error
    with _reading(name):
        file.seek(0)
        opened = pq.ParquetFile(file)
    _check_columns(opened.schema_arrow, name)
    return opened


def _check_columns(schema: Any, name: str) -> None:
    """Raise SourceError where no row of such columns could be read."""
    present = schema.names
    missing = [one for one in NEEDED if one not in present]
    if not set(VECTORS) & set(present):
        missing.append("embedding (or segments)")
    if missing:
        raise SourceError(f"{name} has no column {', '.join(missing)}")
    types = dict(zip(present, schema.types, strict=True))
    if not _is_text(types["id"]):
        raise SourceError(f"{name}: `id` is {types['id']}; it has to be a string")
    if "segments" in types and not _fields(types["segments"]).issuperset(SEGMENT):
        wanted = ", ".join(SEGMENT)
        raise SourceError(f"{name}: `segments` is {types['segments']}; it has to be a list of structs of {wanted}")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return str(kind) in _TEXT


def _fields(kind: Any) -> set[str]:
    """The names in the structs that a list is of."""
    from pyarrow import types

    inner = getattr(kind, "value_type", None)
    return {one.name for one in inner} if inner is not None and types.is_struct(inner) else set()


class _reading:  # noqa: N801  (a context manager, used like a function)
    """What pyarrow raises for a damaged file, as a SourceError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError | ValueError) and not isinstance(error, SourceError):
            raise SourceError(f"{self._name} cannot be read as Parquet: {str(error)[:300]}") from error
