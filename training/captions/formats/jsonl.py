"""JSON lines, plain or gzipped: the working format."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from training.captions.formats.rows import FormatError, Row, normalise, portable, written_whole
from training.captions.unicode import scrubbed


@contextmanager
def open_text(path: Path, mode: Literal["r", "w"] = "r") -> Iterator[IO[str]]:
    """A text file, gzipped or not by its name; a mark of byte order, as Windows' editors write it, is passed over."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if not path.name.removeprefix(".").removesuffix(".partial").endswith(".gz"):
        with path.open(mode, encoding=encoding, newline="\n") as file:
            yield file
        return
    # Neither the time nor a name in the header: the same rows make the same bytes.
    with (
        path.open(f"{mode}b") as raw,
        gzip.GzipFile(filename="", mode=f"{mode}b", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding=encoding, newline="\n") as file,
    ):
        yield file


def lines(path: Path, skip: int = 0) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of the lines that are not blank, after the first `skip` of them. Raises FormatError.

    Lines end where JSON's do, at a newline: within a text stand other characters at which `str.splitlines` cuts.
    """
    try:
        with open_text(path) as file:
            passed = 0
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                passed += 1
                if passed > skip:
                    yield number, line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: {error}") from error


def first_object(path: Path) -> dict[str, Any]:
    """The first line's object; empty for an empty file. Raises FormatError."""
    for number, line in lines(path):
        return _object(path, number, line)
    return {}


def objects(path: Path, skip: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line. Raises FormatError."""
    for number, line in lines(path, skip):
        yield number, _object(path, number, line)


def read(path: Path, root: Path, skip: int) -> Iterator[Row]:
    """Rows of a JSONL manifest. Raises FormatError naming the line."""
    for number, line in objects(path, skip):
        try:
            yield normalise(line, root)
        except ValueError as error:
            raise FormatError(f"{path}:{number}: {error}") from error


def write(path: Path, rows: Iterable[Row]) -> int:
    """Writes rows with paths relative to the file."""
    count = 0
    with written_whole(path) as partial, open_text(partial, "w") as file:
        for row in rows:
            file.write(dump(portable(row, path.parent)))
            count += 1
    return count


def loads(line: str) -> Any:
    """A line's value, in letters that can be written again. Raises ValueError."""
    found = json.loads(line)
    return scrubbed(found) if "\\u" in line else found


def dump(row: Row) -> str:
    """One line."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = loads(line)
    except ValueError as error:
        raise FormatError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}:{number}: a line is a JSON object")
    return found
