"""The training manifest: one JSON line a clip, its speaker-disjoint split, and the recipe that a build follows."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field

from training.yaml_file import read_yaml

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Row:
    """One clip of the manifest. `path` is relative to the manifest; null is what nobody told us or measured."""

    id: str
    path: str
    duration_s: float
    source: str
    speaker: str
    split: Split
    group: str  # the source clip this comes from: rows of a group share words and voice
    kind: Literal["source", "restyled", "changed", "synthesis"]
    gender: str | None
    gender_from: Literal["label", "estimate"] | None
    age: int | None
    emotion: str | None
    accent: str | None
    language: str | None
    voices: list[str]
    measures: dict[str, Any]
    attributes: dict[str, str]
    parts: dict[str, Any] | None  # cut_s, first, second, change: for clips whose style changes
    captions: list[dict[str, Any]]  # text, kind (global, fine, prompt, hedged), claims
    edit: dict[str, Any] | None  # the resynthesis, by its settings
    channel: dict[str, Any] | None  # the room, noise, codec ... laid over it
    licence: str
    provenance: str
    extra: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # more that is known: the burst's category, listeners' words


class SourceRecipe(BaseModel):
    """How one corpus is used. Shares below 1 are fractions of its speakers (or voices), from 1 on they are counts."""

    model_config = ConfigDict(extra="forbid")
    dev: float = 0.1
    test: float = 0.1
    split_by: Literal["speaker", "voices"] = "speaker"
    max_s: float = 9.0
    piece_s: float = 8.0
    pieces: int = 2
    join_s: float = 0.0  # single words of a speaker are joined up to this length; 0 leaves clips as they are
    styles: int = 2
    style_set: Literal["wide", "keep_emotion"] = "wide"
    style_channel: float = Field(0.5, ge=0, le=1)  # chance that a restyled clip itself goes through a channel
    copies: float = Field(0.9, ge=0, le=1)  # chance of one more copy of the source clip through a channel
    style_copies: float = Field(0.6, ge=0, le=1)  # the same for restyled clips
    gender_labels: bool = True  # off for a corpus whose labels its voices contradict
    estimate_gender: bool = False
    natural: bool = True  # its clips help to fit the bands
    min_s: float | None = None  # in place of the recipe's: bursts are shorter than speech
    bursts: bool = False  # its clips are laughs, sighs and cries, told as such, of which nothing is measured
    adults: bool = False  # its speakers are known to be grown up, whether or not their ages are told
    gender_table: str | None = None  # JSONL of path and gender, below the corpora's folder
    listeners: str | None = None  # JSONL of speakers with the words that listeners chose, below the corpora's folder


class SynthesisRecipe(BaseModel):
    """Formant synthesis with espeak-ng: coverage of extremes, a minority."""

    model_config = ConfigDict(extra="forbid")
    clips: int = 0
    channel: float = 0.6
    female: list[str] = []
    male: list[str] = []
    whisper: list[str] = []
    creaky: list[str] = []
    languages: list[str] = ["en-us"]
    rates_wpm: tuple[int, int] = (90, 290)
    pitches: tuple[int, int] = (15, 85)


class DataRecipe(BaseModel):
    """A build, whole: the same recipe and seed over the same corpora give the same clips and captions."""

    model_config = ConfigDict(extra="forbid")
    seed: int = 1
    min_s: float = 0.9
    fit_clips: int = 700
    limit: int | None = None  # source clips that are built, of their shuffled order; all unless named
    short_captions: int = 3
    fine_captions: int = 3
    queries: int = 0  # short searches in the words of users
    sources: dict[str, SourceRecipe]
    espeak: SynthesisRecipe = SynthesisRecipe()
    channel: dict[str, float] = {}
    opus: float = Field(0.0, ge=0, le=1)  # chance of one more pass through Opus, in which some corpora arrive

    @classmethod
    def load(cls, path: Path) -> DataRecipe:
        return cls.model_validate(read_yaml(path))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable, the same in every process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def split_units(units: Mapping[str, str | None], *, dev: float, test: float, seed: int) -> dict[str, Split]:
    """Speakers (or voices), given with their gender, to splits: balanced by gender, deterministic by seed."""
    by_gender: dict[str, list[str]] = defaultdict(list)
    for unit, gender in units.items():
        by_gender[gender or ""].append(unit)
    queues = [sorted(members, key=lambda u: stable_seed(seed, u)) for _, members in sorted(by_gender.items())]
    ranked: list[str] = []
    sizes = [len(queue) for queue in queues]
    while any(queues):
        # The group with the largest share left goes next: every prefix of the ranking has the genders' own proportions.
        shares = [len(queue) / size for queue, size in zip(queues, sizes, strict=True)]
        ranked.append(queues[shares.index(max(shares))].pop(0))
    held = round(test if test >= 1 else test * len(ranked))
    tuned = round(dev if dev >= 1 else dev * len(ranked))
    return {u: "test" if i < held else "dev" if i < held + tuned else "train" for i, u in enumerate(ranked)}


def split_of(members: Sequence[str], splits: Mapping[str, Split]) -> Split | None:
    """The split all members share, or None for a blend across splits, which must be left out."""
    found = {splits[m] for m in members}
    return found.pop() if len(found) == 1 else None


class ManifestWriter:
    """Appends rows as they are made, one durable line each, and knows what an earlier run already made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done: set[str] = set()
        if path.exists():
            whole = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
            self.done = {json.loads(line)["id"] for line in whole}
            # A run that was killed may have left half a line: write the whole ones back.
            fresh = path.with_suffix(".tmp")
            fresh.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
            fresh.replace(path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, row: Row) -> None:
        self._file.write(json.dumps(asdict(row), ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()
        self.done.add(row.id)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_manifest(path: Path, splits: Iterable[Split] = ("train", "dev", "test")) -> Iterator[Row]:
    """Rows of a manifest, in its order. Raises ValueError naming the line that does not parse."""
    wanted = set(splits)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = Row(**json.loads(line))
            except (TypeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path}:{number}: not a manifest row: {error}") from error
            if row.split in wanted:
                yield row
