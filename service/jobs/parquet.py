"""Embeddings in Parquet: `id`, `embedding`, `duration_s`, and optionally `identity`, `metadata` and `filename`.

`identity` is a column, or a key of the file's metadata; `metadata` is a struct or a string of JSON. Needs pyarrow,
which is asked for only here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from service.jobs.errors import SourceError

NEEDED: Final = ("id", "embedding", "duration_s")
OPTIONAL: Final = ("identity", "metadata", "filename")
BATCH_ROWS: Final = 256
_IDENTITY_KEY: Final = b"identity"
INSTALL: Final = "reading Parquet needs pyarrow: pip install 'clsp-service[parquet]'"


@dataclass(frozen=True)
class Row:
    """One embedded clip. `error` says why it cannot be used; the rest is then of no use."""

    number: int
    id: str | None
    vector: NDArray[np.float64]
    duration_s: float
    identity: str | None
    metadata: dict[str, Any] | None
    filename: str | None
    error: str | None = None


def stated_identity(file: IO[bytes], name: str) -> str | None:
    """The embedding identity that the file's metadata states, and a check of its columns. Raises SourceError."""
    found = _opened(file, name).schema_arrow.metadata or {}
    stated = found.get(_IDENTITY_KEY)
    return None if stated is None else stated.decode(errors="replace")


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
    columns = [one for one in (*NEEDED, *OPTIONAL) if one in present]
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
    empty = np.zeros(0)
    found_id = values["id"]
    error = None
    try:
        vector = np.asarray(values["embedding"], np.float64)
        duration_s = float(values["duration_s"])
    except (TypeError, ValueError):
        return Row(number, found_id, empty, 0.0, None, None, None, "`embedding` or `duration_s` is not made of numbers")
    if vector.ndim != 1 or not np.isfinite(vector).all():
        error = "`embedding` is not one list of finite numbers"
    elif not (math.isfinite(duration_s) and duration_s > 0):
        error = "`duration_s` is not above 0"
    metadata: Any = values.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            error = "`metadata` is not JSON"
    if isinstance(metadata, list):  # a map column
        metadata = dict(metadata) if all(isinstance(one, tuple) for one in metadata) else metadata
    if metadata is not None and not isinstance(metadata, dict):
        error = error or "`metadata` is not an object"
    elif metadata is not None:
        # A struct column has every field in every row.
        metadata = {key: value for key, value in metadata.items() if value is not None}
    filename = values.get("filename")
    return Row(
        number, found_id, vector, duration_s, values.get("identity") or stated, metadata,
        filename if isinstance(filename, str) else None, error,
    )  # fmt: skip


def _opened(file: IO[bytes], name: str) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(INSTALL, field="kind") from error
    with _reading(name):
        file.seek(0)
        opened = pq.ParquetFile(file)
    missing = [one for one in NEEDED if one not in opened.schema_arrow.names]
    if missing:
        raise SourceError(f"{name} has no column {', '.join(missing)}")
    return opened


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
