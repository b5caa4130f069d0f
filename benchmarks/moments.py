"""How far off is the moment at which a style changes? Clips whose style changes at a known second, by resynthesis.

    python benchmarks/moments.py [--shared ../shared/data] [--clips 12]

Each clip is a stretch of real speech by speakers that the bundle's training held out (or, without the corpora, of the
example library) in two styles with the change at a random moment between 25 % and 75 % of it. Its caption has two
sentences. Asked is `find_turns`, as POST /v1/score does with `sentences`. Beside it stand two baselines: always saying
the middle, and the most dissimilar pair of neighbouring windows, which does not read the caption.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from results import BUNDLE, LIBRARY, ROOT, report

from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from model_export.windows import plan_windows
from service.style.claims import read_claims, subject
from service.style.moments import find_turns, split_caption
from training.captions.acoustic import measure
from training.captions.gender import estimate_gender
from training.corpus.data import DataRecipe
from training.corpus.resynthesis import Style, change_halfway
from training.corpus.sources import clips
from training.corpus.world import SAMPLE_RATE, analyse

Wave = NDArray[np.float32]
WINDOWS_S = (1.0, 2.0, 3.0, 5.0, 10.0)
LENGTH_S = 14.0
CLEAR = 1.0


@dataclass(frozen=True)
class Change:
    """A change of style: two renderings, and the sentences that describe them after the subject."""

    name: str
    first: Style
    second: Style
    words: tuple[str, str]

    def caption(self, who: str) -> str:
        return f"{who} {self.words[0]}. Then {'he' if who == 'A man' else 'she'} {self.words[1]}."


CHANGES = (
    Change("whisper", Style(), Style(whisper=True), ("speaks in a clear voice", "whispers")),
    Change("rate", Style(tempo=0.65), Style(tempo=1.6), ("speaks very slowly", "speaks very fast")),
    Change("pitch", Style(pitch_st=-5), Style(pitch_st=6), ("speaks in a low, deep voice", "speaks in a high voice")),
    Change("loudness", Style(effort=-1), Style(effort=1), ("speaks softly", "speaks loudly and forcefully")),
    Change("melody", Style(melody=0.05), Style(melody=2.2), ("speaks in a monotone", "speaks in a very lively voice")),
    Change("creak", Style(), Style(creaky=1.0), ("speaks in a clear voice", "speaks in a creaky voice")),
)


def held_out(shared: Path, count: int) -> Iterator[tuple[str, Wave]]:
    """(gender, stretch of LENGTH_S) of the test split, or of the example library where there are no corpora.

    Who cannot be told for a man or a woman is left out, since the captions say so.
    """
    if (shared / "manifest.jsonl").exists():
        recipe = DataRecipe.load(ROOT / "training" / "recipes" / "data_small.yaml")
        seen: set[str] = set()
        for clip in sorted(clips(shared, recipe), key=lambda one: one.id):
            if clip.split != "test" or clip.source != "librispeech" or clip.speaker in seen:
                continue
            wave, _ = soundfile.read(shared / clip.files[0][0], dtype="float32")
            if len(wave) < LENGTH_S * SAMPLE_RATE:
                continue
            stretch = wave[: int(LENGTH_S * SAMPLE_RATE)]
            gender = clip.gender or estimate_gender(measure(stretch))
            if gender is None:
                continue
            seen.add(clip.speaker)
            yield gender, stretch
            if len(seen) == count:
                return
        return
    rows = [json.loads(line) for line in (LIBRARY / "manifest.jsonl").read_text("utf-8").splitlines()]
    for row in [row for row in rows if row["metadata"].get("rate") == "normal"][:count]:
        wave, rate = soundfile.read(LIBRARY / row["file"], dtype="float32")
        short = soxr.resample(wave, rate, SAMPLE_RATE)
        samples = int(LENGTH_S * SAMPLE_RATE)
        yield row["metadata"]["gender"], np.tile(short, samples // len(short) + 1)[:samples]


def windows_of(runtime: BundleRuntime, wave: Wave, window_s: float) -> tuple[list[tuple[float, float]], Wave]:
    """Embeddings in windows of a length, a quarter of it apart: (seconds, [n, D])."""
    ranges = plan_windows(len(wave), sample_rate=SAMPLE_RATE, window_s=window_s, hop_s=window_s / 4, min_s=0.25)
    vectors = np.concatenate(
        [runtime.embed_speech([wave[a:b] for a, b in ranges[i : i + 16]]) for i in range(0, len(ranges), 16)]
    )
    return [(a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in ranges], vectors


def least_alike(windows: list[tuple[float, float]], vectors: Wave) -> float:
    """The moment between the two halves whose mean embeddings differ most, without any caption."""
    best, at = -np.inf, windows[0][1]
    for cut in range(1, len(vectors)):
        left, right = vectors[:cut].mean(0), vectors[cut:].mean(0)
        gain = cut * (len(vectors) - cut) / len(vectors) * float(np.sum((left - right) ** 2))
        if gain > best:
            best = gain
            at = (sum(windows[cut - 1]) + sum(windows[cut])) / 4
    return at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--clips", type=int, default=12)
    args = parser.parse_args()
    bundle = Bundle.load(BUNDLE)
    runtime = BundleRuntime(bundle, threads=1)
    scale = bundle.manifest.logit_scale
    errors: dict[tuple[str, str], list[float]] = {}
    clear: dict[tuple[str, str], list[bool]] = {}
    for number, (gender, wave) in enumerate(held_out(args.shared, args.clips)):
        voice = analyse(wave)
        who = "A man" if gender == "male" else "A woman"
        for change in CHANGES:
            rng = np.random.default_rng([7, number])
            cut_s = float(rng.uniform(0.25, 0.75) * voice.seconds)
            made, truth_s = change_halfway(voice, change.first, change.second, cut_s, rng)
            seconds = len(made) / SAMPLE_RATE
            errors.setdefault((change.name, "always the middle"), []).append(abs(seconds / 2 - truth_s))
            caption = change.caption(who)
            sentences = split_caption(caption, subject(read_claims(caption)))
            texts = runtime.embed_text([sentence.prompt for sentence in sentences])
            for window_s in WINDOWS_S:
                windows, vectors = windows_of(runtime, made, window_s)
                if len(windows) < 2:
                    continue
                (turn,) = find_turns(texts @ vectors.T, windows, scale)
                key = (change.name, f"caption, {window_s:g} s")
                errors.setdefault(key, []).append(abs(turn.at_s - truth_s))
                clear.setdefault(key, []).append(turn.strength >= CLEAR)
                blind = (change.name, f"no caption, {window_s:g} s")
                errors.setdefault(blind, []).append(abs(least_alike(windows, vectors) - truth_s))
        print(f"clip {number + 1}", flush=True)
    rows = []
    for method in dict.fromkeys(method for _, method in errors):
        pooled = np.array([value for (_, name), values in errors.items() if name == method for value in values])
        sure = [one for (_, name), values in clear.items() if name == method for one in values]
        medians = {kind: float(np.median(values)) for (kind, name), values in errors.items() if name == method}
        rows.append(
            {
                "method": method,
                "clips": len(pooled),
                "median s": float(np.median(pooled)),
                "90th pct s": float(np.quantile(pooled, 0.9)),
                "within 1 s %": float(100 * np.mean(pooled <= 1)),
                "clear %": float(100 * np.mean(sure)) if sure else "",
                **medians,
            }
        )
    columns = ["method", "clips", "median s", "90th pct s", "within 1 s %", "clear %", *(c.name for c in CHANGES)]
    report("moments", "Error of the moment of change, seconds (columns by change: medians)", columns, rows)


if __name__ == "__main__":
    main()
