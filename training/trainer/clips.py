"""A manifest of any format as Lhotse cuts, one row at a time: only the sampler's buffer is ever in memory."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import soundfile
from lhotse import CutSet, MonoCut

from training.captions.formats import Row, read_rows
from training.captions.formats.rows import FormatError, audio_channel
from training.captions.formats.training import Shares, for_training
from training.corpus.data import stable_seed
from training.objective.examples import facts_of
from training.trainer.errors import NothingToTrainError
from training.trainer.recipe import AudioPart
from training.trainer.tasks import captions_of

KEPT = ("id", "path", "start_s", "duration_s", "captions", "source", "speaker")


@dataclass(frozen=True)
class Source:
    """A manifest and how it is read."""

    manifest: Path
    data: AudioPart
    audio_root: Path | None = None
    shares: Shares = field(default_factory=Shares)

    def rows(self) -> Iterator[Row]:
        """Rows with split, captions and seconds, in the manifest's order. Raises FormatError naming the line."""
        name = self.manifest.name.split(".")[0]
        read = read_rows(self.manifest, audio_root=self.audio_root)
        for row in for_training(read, name, self.shares):
            yield {**row, "duration_s": _seconds(row)}

    def why_not(self, row: Row) -> str | None:
        """Why a row is left out of training; None when it is not."""
        whole, fine = captions_of(row["captions"], self.data)
        if not whole and not fine:
            return "without captions"
        if row["duration_s"] < self.data.min_s:
            return f"under {self.data.min_s:g} s"
        return f"over {self.data.max_s:g} s" if row["duration_s"] > self.data.max_s else None


def _seconds(row: Row) -> float:
    if row.get("duration_s"):
        return float(row["duration_s"])
    try:
        return float(soundfile.info(row["path"]).duration) - float(row.get("start_s") or 0.0)
    except (OSError, RuntimeError) as error:
        raise FormatError(f"{row['id']}: neither the manifest nor the file tells its seconds: {error}") from error


class SplitCuts:
    """The usable rows of a split as cuts, read anew each time it is iterated; `cut.row` is what the row holds."""

    def __init__(self, source: Source, split: str) -> None:
        self.source, self.split = source, split

    def __iter__(self) -> Iterator[MonoCut]:
        for row in self.source.rows():
            if row["split"] == self.split and self.source.why_not(row) is None:
                yield cut_of(row)


def cut_of(row: Row) -> MonoCut:
    """A cut that tells the sampler its seconds and carries what is needed to load it; the audio is loaded later."""
    kept = {name: row[name] for name in KEPT if row.get(name) is not None}
    # Only claims are compared with facts: where no caption makes any, a row's other fields may mean anything.
    kept["facts"] = facts_of(row) if _claims_anything(row) else {}
    if (channel := audio_channel(row)) is not None:
        kept["channel"] = channel
    start = float(row.get("start_s") or 0.0)
    return MonoCut(id=row["id"], start=start, duration=row["duration_s"], channel=0, custom={"row": kept})


def _claims_anything(row: Row) -> bool:
    return any(caption.get("claims") for caption in row["captions"])


def lazy_cuts(source: Source, split: str) -> CutSet:
    """The split as a lazy cut set."""
    return CutSet(SplitCuts(source, split))


@dataclass(frozen=True)
class Survey:
    """What a manifest holds: clips and hours that are used, by split, and how many clips are left out, by reason."""

    clips: Counter[str]
    hours: dict[str, float]
    left_out: Counter[str]
    sources: Counter[str]  # training clips by source
    claiming: int = 0  # training clips with a caption that makes claims

    def lines(self) -> list[str]:
        """The survey in words."""
        splits = [s for s in ("train", "dev", "test") if self.clips[s]]
        told = [", ".join(f"{self.clips[s]} {s} clips ({self.hours[s]:.2f} h)" for s in splits)]
        return told + [f"left out: {count} {reason}" for reason, count in sorted(self.left_out.items())]


def survey(source: Source) -> Survey:
    """Read a manifest once, before anything is spent on it.

    Raises FormatError naming the line, NothingToTrainError.
    """
    found = Survey(Counter(), {"train": 0.0, "dev": 0.0, "test": 0.0}, Counter(), Counter())
    claiming = 0
    for row in source.rows():
        reason = source.why_not(row)
        if reason:
            found.left_out[reason] += 1
            continue
        found.clips[row["split"]] += 1
        found.hours[row["split"]] += row["duration_s"] / 3600
        if row["split"] == "train":
            found.sources[row["source"]] += 1
            claiming += _claims_anything(row)
    if found.clips["train"] < 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "nothing was left out"
        raise NothingToTrainError(f"{source.manifest} has {found.clips['train']} usable training clips; {reasons}")
    return replace(found, claiming=claiming)


def some_rows(source: Source, split: str, count: int) -> list[dict[str, Any]]:
    """At most `count` usable rows of a split, drawn by a hash of their ids: the same in every run."""
    usable = (row for row in source.rows() if row["split"] == split and source.why_not(row) is None)
    return heapq.nsmallest(count, usable, key=lambda row: stable_seed("some", row["id"]))
