"""Captions in the layout of the public FCaps and ParaSpeechCaps releases, married to audio that a team has.

FCaps (`fcaps-*.jsonl.gz`): one Lhotse MonoCut a line; `supervisions[0].custom` holds `short_captions` and
`long_captions`, the recording's source names the file. ParaSpeechCaps (Parquet): `relative_audio_path`, `source`,
`text_description` (a list of captions), `transcription`, `intrinsic_tags`, `situational_tags`, `basic_tags`,
`all_tags`, `speakerid`, `name`, `duration`, `gender`, `accent`, `pitch`, `speaking_rate`, `noise` and measures.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.captions.formats import cuts, jsonl, parquet, read_rows
from training.captions.formats.rows import FormatError, Row, normalise

Layout = Literal["fcaps", "paraspeechcaps"]
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass
class Matching:
    """What an import matched; `missing` hears the id of every line without audio."""

    missing: Callable[[str], object] = lambda identifier: None
    matched: int = 0
    captions: int = 0
    unmatched: int = 0
    unused_audio: int = 0


class AudioIndex:
    """Which audio a team has, on disk rather than in memory: by id, by path without ending, by bare name if unique."""

    def __init__(self, scratch: Path) -> None:
        """`scratch` is removed by `close`."""
        self._path = scratch
        scratch.unlink(missing_ok=True)
        self._db = sqlite3.connect(scratch, isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE audio (id INTEGER PRIMARY KEY, path TEXT, duration_s REAL, used INTEGER)")
        self._db.execute("CREATE TABLE name (name TEXT, audio INTEGER, PRIMARY KEY (name, audio)) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, path: str, *names: str, duration_s: float | None = None) -> None:
        """One audio file and the names that captions may call it by."""
        row = self._db.execute("INSERT INTO audio (path, duration_s, used) VALUES (?, ?, 0)", (path, duration_s))
        rows = [(name, row.lastrowid) for name in {*names, Path(path).stem}]
        self._db.executemany("INSERT OR IGNORE INTO name VALUES (?, ?)", rows)

    def add_folder(self, folder: Path) -> None:
        """Every audio file under a folder, by its path in it. Raises FormatError for a folder that is none."""
        if not folder.is_dir():
            raise FormatError(f"{folder} is not a folder of audio")
        for root, _, names in os.walk(folder):
            for name in names:
                if name.lower().endswith(AUDIO):
                    path = os.path.join(root, name)  # noqa: PTH118 - a million times faster matters here
                    self.add(path, _bare(os.path.relpath(path, folder)))

    def add_manifest(self, manifest: Path) -> None:
        """Every row of a manifest, by its id and its path."""
        for row in read_rows(manifest):
            self.add(row["path"], row["id"], _bare(row["path"]), duration_s=row.get("duration_s"))

    def find(self, *names: str) -> tuple[str, float | None] | None:
        """(path, duration) of the one file that the first known name calls; None for none, or for several."""
        for name in names:
            rows = self._db.execute(
                "SELECT a.id, a.path, a.duration_s FROM name n JOIN audio a ON a.id = n.audio WHERE n.name = ? LIMIT 2",
                (name,),
            ).fetchall()
            if len(rows) == 1:
                self._db.execute("UPDATE audio SET used = 1 WHERE id = ?", (rows[0][0],))
                return rows[0][1], rows[0][2]
        return None

    def unused(self) -> int:
        """Files that nothing matched."""
        return int(self._db.execute("SELECT count(*) FROM audio WHERE used = 0").fetchone()[0])

    def close(self) -> None:
        """Removes the scratch file."""
        self._db.close()
        self._path.unlink(missing_ok=True)


def import_release(path: Path, layout: Layout, index: AudioIndex, found: Matching) -> Iterator[Row]:
    """Rows with captions whose audio is there; `found` is filled in on the way. Raises FormatError naming the line."""
    for row, names in _told(path, layout):
        audio = index.find(*names)
        if audio is None:
            found.unmatched += 1
            found.missing(str(row["id"]))
            continue
        found.matched += 1
        found.captions += len(row.get("short_captions") or []) + len(row.get("long_captions") or [])
        row.pop("cut", None)  # its recording tells of another place
        yield {**row, "path": os.path.abspath(audio[0])}  # noqa: PTH100
    found.unused_audio = index.unused()


def layout_of(path: Path) -> Layout:
    """By its ending and its first line. Raises FormatError for neither."""
    if path.suffix == ".parquet":
        return "paraspeechcaps"
    if cuts.looks_like(jsonl.first_object(path)):
        return "fcaps"
    raise FormatError(f"{path} is neither Lhotse cuts (FCaps) nor Parquet (ParaSpeechCaps)")


def _told(path: Path, layout: Layout) -> Iterator[tuple[Row, list[str]]]:
    """(row, names that its audio may have) of each line."""
    if layout == "fcaps":
        for number, cut in jsonl.objects(path):
            try:
                row = cuts.row_of(cut, Path())
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise FormatError(f"{path}:{number}: not a cut of FCaps: {error!r}") from error
            yield row, [row["id"], *_tails(row["path"])]
        return
    for number, line in enumerate(parquet.lines(path), 1):
        try:
            yield _paraspeechcaps(line)
        except (KeyError, ValueError, TypeError) as error:
            raise FormatError(f"{path}, row {number}: not of ParaSpeechCaps: {error!r}") from error


def _paraspeechcaps(line: dict[str, Any]) -> tuple[Row, list[str]]:
    texts = line.pop("text_description")
    told = str(line["relative_audio_path"])
    row = normalise(line, Path())
    # Noise is of the recording, and pitch words are percentiles of another corpus: neither is a fact of ours.
    row["short_captions"] = [texts] if isinstance(texts, str) else list(texts)
    row["long_captions"] = []
    source = str(line.get("source") or "")
    return row, [_bare(f"{source}/{told}"), *_tails(told)]


def _bare(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


def _tails(path: str) -> list[str]:
    """A path without its ending, then ever less of its beginning: releases and teams unpack at different depths."""
    parts = Path(_bare(path)).parts
    return ["/".join(parts[i:]) for i in range(len(parts))]
