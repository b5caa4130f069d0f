"""Any annotated manifest as the trainer's: captions by kind, a split by speaker, stretches of long files cut out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from training.captions.annotator import KINDS, TRAINER_KIND
from training.captions.formats import read_rows
from training.captions.formats.rows import FormatError, Row
from training.captions.utterance import SAMPLE_RATE, AudioError, Utterance
from training.objective.examples import TrainCaption, TrainClip, facts_of


@dataclass(frozen=True)
class Shares:
    """Shares of speakers that are held out where a manifest has no splits of its own."""

    dev: float = 0.1
    test: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for shares that leave nobody to train on, unless one split is meant to have all."""
        whole = {self.dev, self.test} == {0.0, 1.0}
        if not (self.dev >= 0 and self.test >= 0 and (self.dev + self.test < 1 or whole)):
            raise ValueError(
                f"shares of {self.dev:g} for dev and {self.test:g} for test: together they are less than 1, "
                "so that speakers are left to train on; or one is 1 and the other 0"
            )

    def split(self, speaker: str) -> str:
        """The split of a speaker, the same in every run and shard; nothing has to be counted first."""
        draw = int.from_bytes(hashlib.sha256(f"{self.seed}|{speaker}".encode()).digest()[:8], "big") / 2**64
        return "test" if draw < self.test else "dev" if draw < self.test + self.dev else "train"


def for_training(rows: Iterable[Row], source: str, shares: Shares | None = None) -> Iterator[Row]:
    """Rows with what the trainer reads: split, source, speaker, and `captions` that hold every caption once."""
    shares = shares or Shares()
    for row in rows:
        speaker = str(row.get("speaker") or row["id"])
        captions = list(row.get("captions") or [])
        told = {(caption["kind"], caption["text"]) for caption in captions}
        for kind in KINDS:
            captions += [
                {"text": text, "kind": TRAINER_KIND[kind], "claims": {}}
                for text in row.get(f"{kind}_captions") or []
                if (TRAINER_KIND[kind], text) not in told
            ]
        yield {
            **row,
            "speaker": speaker,
            "source": str(row.get("source") or source),
            "split": row.get("split") if row.get("split") in ("train", "dev", "test") else shares.split(speaker),
            "captions": captions,
        }


def cut_out(rows: Iterable[Row], folder: Path) -> Iterator[Row]:
    """Rows whose audio is a whole file: stretches and single channels are written to `folder` as FLAC, once each.

    Raises FormatError naming the row whose audio cannot be read.
    """
    for row in rows:
        clip = Utterance.of(row)
        if clip.whole:
            yield row
            continue
        told = f"{clip.audio}|{clip.start_s:.6f}|{clip.duration_s}|{clip.channel}"
        file = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.flac"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            try:
                soundfile.write(partial, clip.load(), SAMPLE_RATE, format="FLAC")
            except AudioError as error:
                raise FormatError(f"{clip.id}: {error}") from error
            partial.replace(file)
        whole = {k: v for k, v in row.items() if k not in ("start_s", "channel", "cut")}
        yield {**whole, "path": str(file.absolute())}


def read_clips(manifest: Path, *, audio_root: Path | None = None, shares: Shares | None = None) -> list[TrainClip]:
    """Clips with captions for the trainer, from JSONL, Lhotse cuts or Parquet. Raises FormatError naming the line."""
    name = manifest.name.split(".")[0]
    rows = for_training(read_rows(manifest, audio_root=audio_root), name, shares)
    clips = []
    for row in cut_out(rows, manifest.with_name(f"{name}.audio")):
        try:
            captions = [TrainCaption(c["text"], c["kind"], c.get("claims") or {}) for c in row["captions"]]
        except (KeyError, TypeError) as error:
            raise FormatError(f"{manifest}, {row['id']}: not a caption: {error!r}") from error
        if captions:
            clips.append(
                TrainClip(Path(row["path"]), row["split"], row["source"], row["speaker"], facts_of(row), captions)
            )
    return clips
