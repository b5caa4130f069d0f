"""Lhotse cuts: captions live in the first supervision's `custom`, as the public FCaps release has them.

A row made from a cut keeps the cut, so that what we don't know of goes back as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import soundfile

from training.captions.formats.checks import checked
from training.captions.formats.jsonl import dump, objects, open_text
from training.captions.formats.rows import FormatError, Row, audio_channel, written_whole

CAPTIONS = ("short_captions", "long_captions")
# Supervision fields of Lhotse's own -> ours.
OWN = {"speaker": "speaker", "gender": "gender", "language": "language", "text": "text"}
EDGE_S = 0.01  # a cut this close to its recording's ends is the whole recording


def looks_like(line: Mapping[str, Any]) -> bool:
    """Whether a line of JSON is a cut."""
    return isinstance(line.get("recording"), Mapping) and "duration" in line


def read(path: Path, root: Path, skip: int) -> Iterator[Row]:
    """Rows of a cut set in JSONL. Raises FormatError naming the line of a cut whose audio is no file."""
    for number, cut in objects(path, skip):
        try:
            yield row_of(cut, root)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(f"{path}:{number}: not a cut of an audio file: {error!r}") from error


def row_of(cut: Mapping[str, Any], root: Path) -> Row:
    """One MonoCut (or MultiCut of one channel) as a row. Raises ValueError for audio that is no file."""
    recording = cut["recording"]
    source = recording["sources"][0]
    if source.get("type", "file") != "file":
        raise ValueError(f"the audio's source is of type {source.get('type')}; file is what can be read")
    supervision = (cut.get("supervisions") or [{}])[0]
    custom = supervision.get("custom") or {}
    row: Row = {"id": str(cut["id"]), "path": str(root / source["source"]), "duration_s": float(cut["duration"])}
    start, whole = float(cut.get("start") or 0.0), float(recording.get("duration") or cut["duration"])
    if start > EDGE_S or start + float(cut["duration"]) < whole - EDGE_S:
        row["start_s"] = start
    channels = cut.get("channel", 0)
    channels = channels if isinstance(channels, list) else [channels]
    if len(recording.get("channel_ids") or source.get("channels") or [0]) > 1 and len(channels) == 1:
        row["channel"] = channels[0]
    row |= {ours: supervision[name] for name, ours in OWN.items() if supervision.get(name) is not None}
    # What an annotation of ours put there comes back, in either place.
    for holder in (custom, cut.get("custom") or {}):
        row |= {name: value for name, value in holder.items() if name not in row}
    for name in CAPTIONS:
        if name in supervision and name not in row:
            row[name] = supervision[name]
    row["cut"] = dict(cut)
    return checked(row)


def write(path: Path, rows: Iterable[Row]) -> int:
    """Writes cuts that Lhotse reads lazily. Rows that were none get a recording from their file's header."""
    count = 0
    with written_whole(path) as partial, open_text(partial, "w") as file:
        for row in rows:
            file.write(dump(cut_of(row)))
            count += 1
    return count


def cut_of(row: Row) -> dict[str, Any]:
    """A row as a cut. Raises FormatError when its audio's header cannot be read."""
    placed = ["cut", "id", "path", "start_s", "duration_s"] + ["channel"] * (audio_channel(row) is not None)
    fields = {k: v for k, v in row.items() if k not in placed}
    own = {name: fields.pop(ours) for name, ours in OWN.items() if fields.get(ours) is not None}
    cut = _copied(row) if row.get("cut") else _new(row)
    supervisions = cut.get("supervisions") or []
    first = supervisions[0] if supervisions else _supervision(cut)
    custom = {**(first.get("custom") or {}), **{k: v for k, v in fields.items() if v is not None}}
    cut["supervisions"] = [{**first, **own, "custom": custom}, *supervisions[1:]]
    return cut


def cut_can_be_made(row: Row) -> bool:
    """Whether `cut_of` has what it needs: the cut that the row came from, or its file's header."""
    if row.get("cut"):
        return True
    try:
        soundfile.info(row["path"])
    except (OSError, RuntimeError, ValueError):
        return False
    return True


def _copied(row: Row) -> dict[str, Any]:
    """The cut as it came, its audio by an absolute path: Lhotse's relative paths start wherever it is run."""
    cut = row["cut"]
    first, *others = cut["recording"]["sources"]
    sources = [{**first, "source": row["path"]}, *others]
    return {**cut, "recording": {**cut["recording"], "sources": sources}}


def _new(row: Row) -> dict[str, Any]:
    # A recording's five fields are written here rather than by Lhotse, which would bring torch to every machine.
    try:
        header = soundfile.info(row["path"])
    except (OSError, RuntimeError, ValueError) as error:
        raise FormatError(f"{row['path']}: its header cannot be read: {error}") from error
    channels = list(range(header.channels))
    recording = {
        "id": row["id"],
        "sources": [{"type": "file", "channels": channels, "source": row["path"]}],
        "sampling_rate": header.samplerate,
        "num_samples": header.frames,
        "duration": header.frames / header.samplerate,
        "channel_ids": channels,
    }
    start = float(row.get("start_s") or 0.0)
    told = row.get("duration_s") if row.get("start_s") is not None else None
    duration = float(told) if told else recording["duration"] - start
    channel = audio_channel(row)
    return {
        "id": row["id"],
        "start": start,
        "duration": min(duration, recording["duration"] - start),
        "channel": channel if channel is not None else 0,
        "recording": recording,
        "type": "MonoCut",
    }


def _supervision(cut: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": cut["id"],
        "recording_id": cut["recording"]["id"],
        "start": 0.0,
        "duration": cut["duration"],
        "channel": cut.get("channel", 0),
    }
