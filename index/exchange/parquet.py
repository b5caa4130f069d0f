"""Embedded clips as Parquet: the exchange between a machine that embeds and an index that loads.

One row a clip. The file's own metadata says what the vectors are, so that vectors of another identity are refused
before a row is read. pyarrow belongs to the `scale` extra and is imported when a file is touched.

    id               string                             as in the collection
    content_sha256   string                             of the clip's bytes
    duration_s       double
    filename         string, may be null
    metadata         string                             a JSON object
    segments         list<struct<start_s: double, end_s: double, vector: fixed_size_list<float, D>>>, at least one

    file metadata    clsp.format = "1", clsp.identity, clsp.dim
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index.errors import DimensionMismatch, IdentityMismatch, IndexingError, InvalidInput
from index.storage.durable_files import fsync_folder
from index.types import NewItem, NewSegment, Vector

FORMAT = "1"
_FORMAT, _IDENTITY, _DIM = b"clsp.format", b"clsp.identity", b"clsp.dim"


class ParquetUnavailable(IndexingError):  # noqa: N818
    """pyarrow is not installed; the message says how to get it."""


@dataclass(frozen=True)
class ShardFacts:
    """What a file says of itself, read without its rows: `bytes` of the file."""

    identity: str
    dim: int
    rows: int
    bytes: int


def schema(dim: int, identity: str) -> Any:
    """The pyarrow schema of a file of vectors [D] of one identity. Raises ParquetUnavailable."""
    pa, _ = _arrow()
    segment = pa.struct(
        [_field("start_s", pa.float64()), _field("end_s", pa.float64()), _field("vector", _vector(dim))]
    )
    fields = [
        _field("id", pa.string()),
        _field("content_sha256", pa.string()),
        _field("duration_s", pa.float64()),
        pa.field("filename", pa.string()),
        _field("metadata", pa.string()),
        _field("segments", pa.list_(segment)),
    ]
    return pa.schema(fields, {_FORMAT: FORMAT.encode(), _IDENTITY: identity.encode(), _DIM: str(dim).encode()})


def write(path: Path, items: Sequence[NewItem], *, dim: int, identity: str) -> int:
    """Write items as one file, whole and synced or not at all; returns its bytes. Media do not travel.

    Raises:
        DimensionMismatch: a vector is not [D].
        ParquetUnavailable: pyarrow is missing.
    """
    pa, pq = _arrow()
    segments = [one for item in items for one in item.segments]
    vectors = np.array([_checked(one.vector, dim) for one in segments], dtype=np.float32).reshape(len(segments), dim)
    flat = pa.StructArray.from_arrays(
        [
            pa.array([one.start_s for one in segments], pa.float64()),
            pa.array([one.end_s for one in segments], pa.float64()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=_vector(dim)),
        ],
        fields=list(schema(dim, identity).field("segments").type.value_type),
    )
    ends = np.cumsum([0, *(len(item.segments) for item in items)], dtype=np.int32)
    columns = [
        pa.array([item.id for item in items], pa.string()),
        pa.array([item.content_sha256 for item in items], pa.string()),
        pa.array([item.duration_s for item in items], pa.float64()),
        pa.array([item.filename for item in items], pa.string()),
        pa.array([json.dumps(dict(item.metadata), ensure_ascii=False) for item in items], pa.string()),
        pa.ListArray.from_arrays(pa.array(ends), flat, type=schema(dim, identity).field("segments").type),
    ]
    # A name that no reader looks for, until all of it is on the disk.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            # A dictionary of floats that never repeat would only be written and thrown away.
            pq.write_table(
                pa.Table.from_arrays(columns, schema=schema(dim, identity)),
                file,
                compression="zstd",
                use_dictionary=False,
            )
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        fsync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return path.stat().st_size


def facts(path: Path) -> ShardFacts:
    """What the file holds, from its footer. Raises InvalidInput if it is no file of ours, ParquetUnavailable."""
    with _reading(path) as file:
        return _facts(path, file)


def names(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, content_sha256, metadata) of every row, without the vectors. Raises InvalidInput, ParquetUnavailable."""
    with _reading(path) as file:
        _facts(path, file)
        table = file.read(columns=["id", "content_sha256", "metadata"])
    ids, hashes, metadata = (table[name].to_pylist() for name in table.column_names)
    parsed = [_parsed(text, f"{path.name}: row {i}") for i, text in enumerate(metadata)]
    return list(zip(ids, hashes, parsed, strict=True))


def read(path: Path, *, dim: int, identity: str, batch: int = 256) -> Iterator[list[NewItem]]:
    """The file's items, `batch` at a time, for a collection of this dimension and identity.

    Raises:
        IdentityMismatch, DimensionMismatch: the file is of another kind; before any row.
        InvalidInput: not a file of ours, or damaged; `field` names the file and the row or column.
        ParquetUnavailable: pyarrow is missing.
    """
    with _reading(path) as file:
        found = _facts(path, file)
        if found.identity != identity:
            raise IdentityMismatch(identity, found.identity)
        if found.dim != dim:
            raise DimensionMismatch(dim, found.dim, path.name)
        row = 0
        for part in file.iter_batches(batch_size=batch):
            yield _items(part, dim, f"{path.name}: row", row)
            row += part.num_rows


def _items(part: Any, dim: int, where: str, first: int) -> list[NewItem]:
    lists = part.column("segments")
    flat = lists.flatten()
    vectors = np.asarray(flat.field("vector").flatten()).reshape(len(flat), dim)
    starts, ends = flat.field("start_s").to_pylist(), flat.field("end_s").to_pylist()
    counts = lists.value_lengths().to_pylist()
    columns = (part.column(name).to_pylist() for name in ("id", "content_sha256", "duration_s", "filename", "metadata"))
    items, place = [], 0
    for i, ((item_id, sha256, duration_s, filename, metadata), count) in enumerate(
        zip(zip(*columns, strict=True), counts, strict=True)
    ):
        parsed = _parsed(metadata, f"{where} {first + i}")
        segments = [NewSegment(starts[j], ends[j], vectors[j]) for j in range(place, place + count)]
        items.append(NewItem(item_id, segments, parsed, duration_s, sha256, filename))
        place += count
    return items


def _parsed(metadata: str, where: str) -> Any:
    try:
        return json.loads(metadata)
    except ValueError as error:
        raise InvalidInput(f"{where}: metadata", "is not JSON") from error


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(str(path), f"cannot be read as Parquet ({error})") from error


def _facts(path: Path, file: Any) -> ShardFacts:
    told = file.schema_arrow.metadata or {}
    if told.get(_FORMAT) != FORMAT.encode() or _IDENTITY not in told or not told.get(_DIM, b"").isdigit():
        raise InvalidInput(str(path), f"holds no embedded clips of format {FORMAT} (its metadata lacks clsp.format)")
    identity, dim = told[_IDENTITY].decode(), int(told[_DIM])
    wanted = schema(dim, identity)
    if not file.schema_arrow.equals(wanted):
        names = [name for name in wanted.names if name not in file.schema_arrow.names]
        raise InvalidInput(
            str(path), f"lacks the columns {', '.join(names)}" if names else "has columns of other types"
        )
    return ShardFacts(identity, dim, file.metadata.num_rows, path.stat().st_size)


def _checked(vector: Vector, dim: int) -> Vector:
    if vector.shape != (dim,):
        raise DimensionMismatch(dim, vector.shape[-1])
    return vector


def _vector(dim: int) -> Any:
    pa, _ = _arrow()
    return pa.list_(_field("element", pa.float32()), dim)


def _field(name: str, kind: Any) -> Any:
    return _arrow()[0].field(name, kind, nullable=False)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ParquetUnavailable("this needs pyarrow: pip install 'clsp-service[scale]'") from error
    return pyarrow, pyarrow.parquet
