"""Parquet: named columns for what people query, one JSON column for the rest, a row group at a time in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from training.captions.formats.rows import FormatError, Row, normalise, portable, written_whole

BATCH = 1024
TEXT = ("id", "path", "split", "source", "speaker", "gender", "emotion", "accent", "language", "text", "licence")
NUMBERS = ("start_s", "duration_s")
LISTS = ("short_captions", "long_captions")
REST = "extra"  # a JSON object: captions with their claims, what was rejected, measures, fields of other manifests


def read(path: Path, root: Path, skip: int) -> Iterator[Row]:
    """Rows of a Parquet file, ours or of any layout with a column that names the audio. Raises FormatError."""
    for number, line in enumerate(lines(path, skip), skip + 1):
        try:
            yield normalise(line, root)
        except ValueError as error:
            raise FormatError(f"{path}, row {number}: {error}") from error


def lines(path: Path, skip: int = 0) -> Iterator[dict[str, Any]]:
    """Rows as they stand, our JSON column unfolded, nulls left out. Whole row groups that are skipped are not read."""
    pq = _pyarrow(path)
    try:
        with pq.ParquetFile(path) as file:
            left = skip
            groups: list[int] = []
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if left >= rows and not groups:
                    left -= rows
                else:
                    groups.append(group)
            batches = file.iter_batches(batch_size=BATCH, row_groups=groups)
            for line in islice((line for batch in batches for line in batch.to_pylist()), left, None):
                rest = line.pop(REST, None)
                yield {k: v for k, v in line.items() if v is not None} | (json.loads(rest) if rest else {})
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: {error}") from error


def count(path: Path) -> int:
    """Rows, from the file's footer. Raises FormatError."""
    try:
        return int(_pyarrow(path).read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error


def write(path: Path, rows: Iterable[Row]) -> int:
    """Writes our columns, `BATCH` rows a group."""
    pq = _pyarrow(path)
    import pyarrow as pa

    schema = pa.schema(
        [(name, pa.string()) for name in TEXT]
        + [(name, pa.float64()) for name in NUMBERS]
        + [(name, pa.list_(pa.string())) for name in LISTS]
        + [(REST, pa.string())]
    )
    written, left = 0, iter(rows)
    with written_whole(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as file:
        while group := [_columns(portable(row, path.parent)) for row in islice(left, BATCH)]:
            file.write_table(pa.Table.from_pylist(group, schema))
            written += len(group)
    return written


def _columns(row: Row) -> Row:
    named = {name: row.get(name) for name in (*TEXT, *NUMBERS, *LISTS)}
    rest = {k: v for k, v in row.items() if k not in named}
    for name in TEXT:
        if named[name] is not None and not isinstance(named[name], str):
            rest[name], named[name] = named[name], None
    return named | {REST: json.dumps(rest, ensure_ascii=False, separators=(",", ":")) if rest else None}


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise FormatError(f"{path}: Parquet needs pyarrow: pip install 'clsp-service[train]'") from error
    return pq
