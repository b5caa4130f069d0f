"""Corpora to clips worth training on: long readings cut at quiet moments, a speaker's single words joined."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from training.corpus.data import DataRecipe, SourceRecipe, Split, split_of, split_units, stable_seed
from training.corpus.labels import accent_of, json_lines, labels_of

Wave = NDArray[np.float32]
SAMPLE_RATE = 16_000
ORDER: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Clip:
    """One clip to build rows from: stretches of files played one after the other, or a text for espeak-ng to speak."""

    id: str
    source: str
    speaker: str
    split: Split
    licence: str
    files: tuple[tuple[str, float, float | None], ...] = ()  # path below the corpora's folder, start s, stop s
    gender: str | None = None
    age: int | None = None
    emotion: str | None = None
    accent: str | None = None
    language: str | None = None
    voices: tuple[str, ...] = ()
    phonation: str | None = None
    espeak: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # more that is known of it


def clips(shared: Path, recipe: DataRecipe) -> list[Clip]:
    """Every clip of the recipe's corpora, in a shuffled order that the seed decides.

    `shared` holds `manifest.jsonl`, `manifest_more.jsonl` where there is more, and the audio. Raises FileNotFoundError
    when it does not. A speaker of several corpora whose splits differ is held out of all.
    """
    rows = json_lines(shared / "manifest.jsonl")
    if (more := shared / "manifest_more.jsonl").exists():
        rows += json_lines(more)
    made: list[Clip] = []
    texts: list[str] = []
    for name, source in recipe.sources.items():
        mine = [r for r in rows if r["source"] == name]
        splits = _splits(mine, source, recipe.seed)
        kept = [(r, s) for r in mine if (s := splits[r["path"]]) is not None]
        texts += [r["text"] for r, s in kept if s == "train" and r.get("text") and len(r["text"]) > 25]
        kept = [({**r, **labels_of(r, source, shared)}, s) for r, s in kept]
        made += _joined(kept, source, recipe.seed) if source.join_s else _cut(kept, source, shared)
    made = _one_split_a_speaker(made) + _espeak_clips(sorted(set(texts)), recipe)
    return sorted(made, key=lambda c: stable_seed(recipe.seed, "order", c.id))


def _one_split_a_speaker(made: Sequence[Clip]) -> list[Clip]:
    strict: dict[str, Split] = {}
    for clip in made:
        if ORDER.index(clip.split) > ORDER.index(strict.get(clip.speaker, "train")):
            strict[clip.speaker] = clip.split
    return [replace(clip, split=strict.get(clip.speaker, clip.split)) for clip in made]


def load(clip: Clip, shared: Path) -> Wave:
    """The clip's samples at 16 kHz. Raises soundfile.LibsndfileError or FileNotFoundError when a file can't be read."""
    if clip.espeak:
        return speak(**clip.espeak)
    pieces: list[Wave] = []
    rng = np.random.default_rng(stable_seed("gap", clip.id))
    for path, start_s, stop_s in clip.files:
        stop = None if stop_s is None else round(stop_s * SAMPLE_RATE)
        wave, rate = soundfile.read(shared / path, dtype="float32", start=round(start_s * SAMPLE_RATE), stop=stop)
        if rate != SAMPLE_RATE:
            raise ValueError(f"{path}: the corpora are at 16 kHz, this file is at {rate} Hz")
        if pieces:
            pieces.append(np.zeros(int(rng.uniform(0.06, 0.15) * SAMPLE_RATE), np.float32))
        pieces.append(wave)
    return np.concatenate(pieces)


def speak(voice: str, rate_wpm: int, pitch: int, text: str) -> Wave:
    """espeak-ng's reading of a text at 16 kHz. Raises FileNotFoundError where espeak-ng is not installed."""
    command = ["espeak-ng", "-v", voice, "-s", str(rate_wpm), "-p", str(pitch), "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - arguments, not a shell line
    # The header of a streamed WAV states no length: read what follows its 44 bytes.
    samples = np.frombuffer(done.stdout[44:][: (len(done.stdout) - 44) // 2 * 2], np.int16).astype(np.float32) / 32768
    return np.asarray(soxr.resample(samples, 22050, SAMPLE_RATE), np.float32)


def _splits(rows: Sequence[dict[str, Any]], source: SourceRecipe, seed: int) -> dict[str, Split | None]:
    if source.split_by == "voices":
        # Second letter of a voice's name: f or m.
        units = {v: "female" if v[1] == "f" else "male" for r in rows for v in r["voices"]}
        splits = split_units(units, dev=source.dev, test=source.test, seed=seed)
        return {r["path"]: split_of(r["voices"], splits) for r in rows}
    genders = {r["speaker"]: r["gender"] for r in rows}
    splits = split_units(genders, dev=source.dev, test=source.test, seed=seed)
    return {r["path"]: splits[r["speaker"]] for r in rows}


def _facts(row: dict[str, Any], split: Split) -> dict[str, Any]:
    return {
        "source": row["source"],
        "speaker": row["speaker"],
        "split": split,
        "licence": row["licence"],
        "gender": row["gender"],
        "age": row["age"],
        "emotion": row["emotion"],
        "accent": accent_of(row["accent"]) if row["language"] == "en" else None,
        "language": row["language"],
        "voices": tuple(row.get("voices") or ()),
        "facts": row.get("facts") or {},
        "phonation": "whisper" if row.get("phonation") == "whispery" else None,
    }


def _name(path: str) -> str:
    return path.rpartition(".")[0].replace("/", "-")


def _cut(rows: Sequence[tuple[dict[str, Any], Split]], source: SourceRecipe, shared: Path) -> list[Clip]:
    made: list[Clip] = []
    for row, split in rows:
        length = row["duration_s"]
        if length <= source.max_s:
            made.append(Clip(id=_name(row["path"]), files=((row["path"], 0.0, None),), **_facts(row, split)))
            continue
        count = min(source.pieces, -(-int(length * 100) // int(source.piece_s * 100)))
        wave, _ = soundfile.read(shared / row["path"], dtype="float32")
        start = 0.0
        for piece in range(count):
            aim = min(start + min(source.piece_s, length / count), length)
            stop = length if aim > length - 0.3 else _quiet(wave, aim - 1.0, aim)
            files = ((row["path"], round(start, 3), round(stop, 3)),)
            made.append(Clip(id=f"{_name(row['path'])}-p{piece}", files=files, **_facts(row, split)))
            start = stop
    return made


def _quiet(wave: Wave, low_s: float, high_s: float) -> float:
    """The quietest 50 ms between two times (s), by its middle."""
    hop = SAMPLE_RATE // 100
    first = int(low_s * 100)
    energy = [float(np.square(wave[i * hop : (i + 5) * hop]).sum()) for i in range(first, int(high_s * 100) - 4)]
    return (first + int(np.argmin(energy)) + 2.5) / 100


def _joined(rows: Sequence[tuple[dict[str, Any], Split]], source: SourceRecipe, seed: int) -> list[Clip]:
    """Words of one speaker in a shuffled row, up to `join_s` together; what is left over is a clip of its own."""
    by_speaker: dict[str, list[tuple[dict[str, Any], Split]]] = defaultdict(list)
    for row, split in rows:
        by_speaker[row["speaker"]].append((row, split))
    made: list[Clip] = []
    for speaker, mine in sorted(by_speaker.items()):
        mine.sort(key=lambda pair: stable_seed(seed, "join", pair[0]["path"]))
        batch: list[dict[str, Any]] = []
        for number, (row, split) in enumerate(mine):
            batch.append(row)
            if sum(r["duration_s"] + 0.1 for r in batch) >= source.join_s or number == len(mine) - 1:
                files = tuple((r["path"], 0.0, None) for r in batch)
                made.append(Clip(id=f"{speaker}-j{number:04d}", files=files, **_facts(row, split)))
                batch = []
    return made


def _espeak_clips(texts: Sequence[str], recipe: DataRecipe) -> list[Clip]:
    plan = recipe.espeak
    voices = [(v, g) for g, names in (("female", plan.female), ("male", plan.male)) for v in names]
    if plan.clips and not (voices and texts):
        raise ValueError("espeak clips need voices in the recipe and texts in the corpora")
    made: list[Clip] = []
    for number in range(plan.clips):
        rng = np.random.default_rng(stable_seed(recipe.seed, "espeak", number))
        variant, gender = voices[int(rng.integers(len(voices)))]
        language = plan.languages[int(rng.integers(len(plan.languages)))]
        spoken = {
            "voice": f"{language}+{variant}",
            "rate_wpm": int(rng.integers(*plan.rates_wpm)),
            "pitch": int(rng.integers(*plan.pitches)),
            "text": texts[int(rng.integers(len(texts)))],
        }
        phonation = "whisper" if variant in plan.whisper else "creaky" if variant in plan.creaky else None
        made.append(
            Clip(
                id=f"espeak-{number:05d}",
                source="espeak",
                speaker=f"espeak-{variant}",
                split="train",
                licence="output own synthesis (espeak-ng, GPL-3.0 engine)",
                gender=gender,
                language="en",
                phonation=phonation,
                espeak=spoken,
            )
        )
    return made
