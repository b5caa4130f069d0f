"""A manifest in pieces that machines can work on without knowing of each other: byte ranges, row groups or files."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from training.captions.formats import cuts, jsonl, kind_of, parquet, read_rows
from training.captions.formats.rows import FormatError, Row, normalise
from training.captions.run import Source


@dataclass(frozen=True)
class Shard:
    """Part `number` of a manifest: bytes [start, stop) of JSON lines, rows of Parquet, or a whole compressed file."""

    number: int
    path: str
    kind: str
    start: int
    stop: int | None

    @property
    def name(self) -> str:
        """The name of its output, without ending."""
        return f"part-{self.number:05d}"

    def source(self, audio_root: Path | None) -> Source:
        """Its rows, for a run."""
        path = Path(self.path)
        size, modified = path.stat().st_size, path.stat().st_mtime_ns
        mark = {**asdict(self), "bytes": size, "modified_ns": modified}
        return Source(path.name.split(".")[0], mark, lambda skip: islice(read_shard(self, audio_root), skip, None))


def manifests_of(path: Path) -> list[Path]:
    """The manifests of a folder in order, or the one that it is itself. Raises FormatError for a folder without any."""
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz", ".parquet")))
    if not files:
        raise FormatError(f"{path} holds no manifests")
    return files


def plan_shards(manifest: Path, count: int) -> list[Shard]:
    """About `count` shards of a file, or one a file of a folder that holds as many or more.

    A gzipped file cannot be entered in the middle: it is one shard. Raises FormatError.
    """
    files = manifests_of(manifest)
    each = max(1, -(-count // len(files)))
    pieces = [piece for file in files for piece in _pieces(file, each)]
    return [Shard(i, str(path.absolute()), kind, a, b) for i, (path, kind, a, b) in enumerate(pieces)]


def keep_plan(folder: Path, shards: list[Shard]) -> list[Shard]:
    """The plan that a folder was begun with, or this one from now on: outputs are named by it.

    Raises FormatError for a folder that was begun with another manifest.
    """
    file = folder / "shards.json"
    if file.exists():
        before = read_plan(folder)
        if _extent(before) != _extent(shards):
            raise FormatError(
                f"{folder} was begun with another manifest ({before[0].path if before else 'an empty one'}), "
                "or this one has changed since: choose another folder"
            )
        return before
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(shard) for shard in shards], indent=1), encoding="utf-8")
    return shards


def read_plan(folder: Path) -> list[Shard]:
    """The plan that a folder was begun with. Raises OSError where there is none."""
    return [Shard(**told) for told in json.loads((folder / "shards.json").read_text(encoding="utf-8"))]


def read_shard(shard: Shard, audio_root: Path | None = None) -> Iterator[Row]:
    """Rows of a shard. Raises FormatError."""
    path = Path(shard.path)
    root = (audio_root or path.parent).absolute()
    if shard.kind == "parquet":
        count = None if shard.stop is None else shard.stop - shard.start
        for number, told in enumerate(islice(parquet.lines(path, shard.start), count), shard.start + 1):
            try:
                yield normalise(told, root)
            except ValueError as error:
                raise FormatError(f"{path}, row {number}: {error}") from error
    elif shard.stop is None:
        yield from read_rows(path, audio_root=root)
    else:
        for at, line in _lines(path, shard.start, shard.stop):
            try:
                told = jsonl.loads(line.decode("utf-8"))
                yield cuts.row_of(told, root) if shard.kind == "cuts" else normalise(told, root)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise FormatError(f"{path}, byte {at}: {error!r}") from error


def _extent(shards: list[Shard]) -> dict[str, int | None]:
    """How far each file goes, however it is cut: rows that came later belong to no shard."""
    return {shard.path: shard.stop for shard in shards}


def _pieces(file: Path, count: int) -> list[tuple[Path, str, int, int | None]]:
    kind = kind_of(file)
    if kind == "parquet":
        rows = parquet.count(file)
        size = max(1, -(-rows // count))
        return [(file, kind, at, min(at + size, rows)) for at in range(0, rows, size)]
    if file.name.endswith(".gz"):
        return [(file, kind, 0, None)]
    whole = file.stat().st_size
    size = max(1, -(-whole // count))
    return [(file, kind, at, min(at + size, whole)) for at in range(0, whole, size)]


def _lines(path: Path, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """(place, line) of the lines that begin in [start, stop): each belongs to exactly one shard."""
    with path.open("rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line that begins before us, or the end of the one before
        while (at := file.tell()) < stop:
            line = file.readline()
            if not line:
                return
            if at == 0:
                line = line.removeprefix(BOM_UTF8)
            if not line.isspace():
                yield at, line
