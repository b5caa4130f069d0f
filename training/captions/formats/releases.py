"""Captions in the layout of the public FCaps and ParaSpeechCaps releases, married to audio that a team has.

FCaps (`fcaps-*.jsonl.gz`): one Lhotse MonoCut a line; `supervisions[0].custom` holds `short_captions` and
`long_captions`, the recording's source names the file. ParaSpeechCaps (Parquet): `relative_audio_path`, `source`,
`text_description` (a list of captions), `transcription`, `intrinsic_tags`, `situational_tags`, `basic_tags`,
`all_tags`, `speakerid`, `name`, `duration`, `gender`, `accent`, `pitch`, `speaking_rate`, `noise` and measures.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.captions.formats import cuts, jsonl, parquet, read_rows
from training.captions.formats.rows import FormatError, Row, normalise

Layout = Literal["fcaps", "paraspeechcaps"]
BY_ID = 1000  # surer than a path of however many folders
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass
class Matching:
    """What an import matched; `missing` hears the id of every line without audio.

    `doubtful` are those of the unmatched whose file's name is here, but in folders of other names or for several lines.
    """

    missing: Callable[[str], object] = lambda identifier: None
    matched: int = 0
    captions: int = 0
    unmatched: int = 0
    doubtful: int = 0
    unused_audio: int = 0


@dataclass(frozen=True)
class Wanted:
    """The audio of a line: its path in the release without ending, names that are paths, and its id where it has one.

    Names come longest first.
    """

    path: str
    names: Sequence[str]
    identifier: str | None = None


class AudioIndex:
    """Which audio a team has, on disk rather than in memory: by id, by path without ending, by bare name if unique."""

    def __init__(self, scratch: Path) -> None:
        """`scratch` is removed by `close`."""
        self._path = scratch
        scratch.unlink(missing_ok=True)
        self._db = sqlite3.connect(scratch, isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE audio (id INTEGER PRIMARY KEY, path TEXT, place TEXT, duration_s REAL, "
            "used INTEGER DEFAULT 0, claim TEXT, sureness INTEGER DEFAULT 0)"
        )
        self._db.execute("CREATE TABLE name (name TEXT, audio INTEGER, PRIMARY KEY (name, audio)) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, path: str, place: str, *names: str, duration_s: float | None = None) -> None:
        """One audio file, its path in its collection without ending, and the names that captions may call it by."""
        told = (path, place, duration_s)
        row = self._db.execute("INSERT INTO audio (path, place, duration_s) VALUES (?, ?, ?)", told)
        rows = [(name, row.lastrowid) for name in {*names, place, Path(path).stem}]
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
        """Every row of a manifest, by its id and its path, from the manifest's folder where it lies there."""
        folder = manifest.parent.absolute()
        for row in read_rows(manifest):
            path = Path(row["path"])
            place = path.relative_to(folder) if path.is_relative_to(folder) else path
            self.add(row["path"], _bare(str(place)), row["id"], _bare(row["path"]), duration_s=row.get("duration_s"))

    def claim(self, wanted: Wanted) -> None:
        """Hears of every line before any is served: of lines that mean different files, the surest gets this one."""
        if (hit := self._hit(wanted)) is None:
            return
        audio, sureness = hit
        claim, before = self._db.execute("SELECT claim, sureness FROM audio WHERE id = ?", (audio,)).fetchone()
        if sureness > before:
            self._db.execute("UPDATE audio SET claim = ?, sureness = ? WHERE id = ?", (wanted.path, sureness, audio))
        elif sureness == before and claim != wanted.path:
            self._db.execute("UPDATE audio SET claim = NULL WHERE id = ?", (audio,))

    def find(self, wanted: Wanted) -> tuple[str, float | None] | None:
        """(path, duration) of the one file that the first known name calls; None for none, or for several.

        None, too, where a line with another path has as good a claim to the file.
        """
        if (hit := self._hit(wanted)) is None:
            return None
        mine = "UPDATE audio SET used = 1 WHERE id = ? AND claim = ? RETURNING path, duration_s"
        return next(iter(self._db.execute(mine, (hit[0], wanted.path)).fetchall()), None)

    def knows(self, wanted: Wanted) -> bool:
        """Whether files of that bare name are here, wherever."""
        name = Path(wanted.path).name
        return self._db.execute("SELECT 1 FROM name WHERE name = ? LIMIT 1", (name,)).fetchone() is not None

    def _hit(self, wanted: Wanted) -> tuple[int, int] | None:
        """(audio, how sure it is) by the first name that one file alone has."""
        names = [(wanted.identifier, BY_ID)] if wanted.identifier else []
        for name, sureness in [*names, *((name, len(Path(name).parts)) for name in wanted.names)]:
            rows = self._db.execute(
                "SELECT a.id, a.place FROM name n JOIN audio a ON a.id = n.audio WHERE n.name = ? LIMIT 2", (name,)
            ).fetchall()
            # A bare name in other folders is another recording: every folder of VoxCeleb has a 00001.wav.
            if len(rows) == 1 and (sureness > 1 or _one_place(wanted.path, rows[0][1])):
                return rows[0][0], sureness
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
    for _, wanted in _told(path, layout):
        index.claim(wanted)
    for row, wanted in _told(path, layout):
        audio = index.find(wanted)
        if audio is None:
            found.unmatched += 1
            found.doubtful += index.knows(wanted)
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


def _told(path: Path, layout: Layout) -> Iterator[tuple[Row, Wanted]]:
    """(row, which audio it wants) of each line."""
    if layout == "fcaps":
        for number, cut in jsonl.objects(path):
            try:
                row = cuts.row_of(cut, Path())
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise FormatError(f"{path}:{number}: not a cut of FCaps: {error!r}") from error
            yield row, Wanted(_bare(row["path"]), _tails(row["path"]), row["id"])
        return
    for number, line in enumerate(parquet.lines(path), 1):
        try:
            yield _paraspeechcaps(line)
        except (KeyError, ValueError, TypeError) as error:
            raise FormatError(f"{path}, row {number}: not of ParaSpeechCaps: {error!r}") from error


def _paraspeechcaps(line: dict[str, Any]) -> tuple[Row, Wanted]:
    texts = line.pop("text_description")
    told = str(line["relative_audio_path"])
    row = normalise(line, Path())
    # Noise is of the recording, and pitch words are percentiles of another corpus: neither is a fact of ours.
    row["short_captions"] = [texts] if isinstance(texts, str) else list(texts)
    row["long_captions"] = []
    source = str(line.get("source") or "")
    return row, Wanted(_bare(told), [_bare(f"{source}/{told}"), *_tails(told)])


def _bare(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


def _tails(path: str) -> list[str]:
    """A path without its ending, then ever less of its beginning: releases and teams unpack at different depths."""
    parts = Path(_bare(path)).parts
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _one_place(told: str, place: str) -> bool:
    """Whether two paths agree as far as both go: one may begin deeper, say below `wavs/`."""
    a, b = Path(told).parts, Path(place).parts
    shared = min(len(a), len(b))
    return a[-shared:] == b[-shared:]
