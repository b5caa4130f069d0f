"""Builds the training set: `python -m training.corpus.build_data --shared CORPORA --out DIR --recipe RECIPE.yaml`.

Rows appear in DIR/manifest.jsonl as they are made, the same ones in the same order with any number of `--workers`. A
build that was stopped goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from training.captions import acoustic
from training.captions.attributes import Bands, Sample, changes, describe, describe_change, fit
from training.captions.gender import estimate_gender
from training.corpus.augment import DEFAULT_CHANCES, augment, opus
from training.corpus.build_workers import Each, each_clip
from training.corpus.captions import captions_of, child_attributes, known_facts, recaption
from training.corpus.data import DataRecipe, ManifestWriter, Row, SourceRecipe, stable_seed
from training.corpus.labels import warn_of_contradicted_labels
from training.corpus.sources import Clip, clips, load
from training.corpus.voices import Voice, voices_of

log = logging.getLogger("training.corpus.build_data")
SAMPLE_RATE = acoustic.SAMPLE_RATE
BANDS = "bands.json"
SYNTHESIS = SourceRecipe(styles=0, copies=0, style_copies=0, natural=False)


class RecipeChangedError(RuntimeError):
    """The folder holds a build of another recipe: going on would mix the two."""


class ToolMissingError(RuntimeError):
    """The recipe asks for clips that a program makes which is not installed."""


class Builder:
    """One build: fits the bands on natural clips, then makes the rows of one source clip after another.

    Raises RecipeChangedError, and ToolMissingError before anything is measured.
    """

    def __init__(self, shared: Path, out: Path, recipe: DataRecipe, *, workers: int = 1) -> None:
        self.shared, self.out, self.recipe, self.workers = shared, out, recipe, workers
        out.mkdir(parents=True, exist_ok=True)
        self._same_recipe()
        self.clips = clips(shared, recipe)[: recipe.limit]
        if any(clip.espeak for clip in self.clips) and not shutil.which("espeak-ng"):
            raise ToolMissingError(
                "the recipe has clips of espeak-ng, which is not installed: install it, or set espeak.clips to 0"
            )

    def run(self) -> Counter[str]:
        """Makes every row that is missing; returns counts by source, split and kind."""
        counts: Counter[str] = Counter()
        own = (self.shared, self.out, self.recipe)
        with ManifestWriter(self.out / "manifest.jsonl") as manifest, each_clip(Builder, own, self.workers) as each:
            self._fit_bands(each)
            already, started = len(manifest.done), time.monotonic()
            waiting = [clip for clip in self.clips if clip.id not in self._done_clips]
            for number, (clip, rows) in enumerate(zip(waiting, each(self.made, waiting), strict=True), 1):
                for row in rows:
                    if row.id not in manifest.done:
                        manifest.add(row)
                        counts[f"{row.source}/{row.split}/{row.kind}"] += 1
                if not rows:
                    counts[f"{clip.source}/too short"] += 1
                self._finish(clip)
                if number % 50 == 0 or number == len(waiting):
                    elapsed = time.monotonic() - started
                    log.info(
                        "%d of %d clips, %d rows (%d from before), %.0f s, about %.0f s to go",
                        number, len(waiting), len(manifest.done), already, elapsed,
                        elapsed / number * (len(waiting) - number),
                    )  # fmt: skip
        return counts

    def _same_recipe(self) -> None:
        mark = self.out / "recipe.json"
        now = {"fingerprint": self.recipe.fingerprint(), "recipe": self.recipe.model_dump()}
        if not mark.exists():
            mark.write_text(json.dumps(now, indent=1), encoding="utf-8")
        elif json.loads(mark.read_text(encoding="utf-8"))["fingerprint"] != now["fingerprint"]:
            raise RecipeChangedError(f"{self.out} was begun with another recipe: choose another folder or remove it")
        self._journal = self.out / "finished.txt"
        self._done_clips = set(self._journal.read_text("utf-8").split("\n")) if self._journal.exists() else set()

    def _finish(self, clip: Clip) -> None:
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{clip.id}\n")

    def _source(self, clip: Clip) -> SourceRecipe:
        return self.recipe.sources.get(clip.source, SYNTHESIS)

    @cached_property
    def bands(self) -> Bands:
        """What is low or fast, as fitted; read from the folder."""
        return Bands.from_json(json.loads((self.out / BANDS).read_text(encoding="utf-8")))

    def _fit_bands(self, each: Each) -> None:
        if (self.out / BANDS).exists():
            return
        train = [c for c in self.clips if c.split == "train"]
        natural = [c for c in train if self._source(c).natural][: self.recipe.fit_clips]
        others = [c for name in ("espeak", *self.recipe.sources) for c in train if c.source == name]
        few = [c for c in others if not self._source(c).natural and not self._source(c).bursts]
        few = [c for i, c in enumerate(few) if sum(o.source == c.source for o in few[:i]) < 40]
        log.info("measuring %d natural clips for the bands, %d others for their offsets", len(natural), len(few))
        samples = list(each(self.sample, natural))
        warn_of_contradicted_labels(
            [s for s, c in zip(samples, natural, strict=True) if c.emotion in (None, "neutral")]
        )
        bands = fit(samples, offset_samples=[s for s in each(self.sample, few) if s.measures.speech_s > 0])
        (self.out / BANDS).write_text(json.dumps(bands.to_json(), indent=1), encoding="utf-8")

    def sample(self, clip: Clip) -> Sample:
        """What the bands are fitted on: a clip's measures, and whose they are."""
        wave = load(clip, self.shared)  # single words may be shorter than what can be measured
        measures = acoustic.measure(np.pad(wave, (0, max(0, acoustic.SAMPLE_RATE // 4 - len(wave)))))
        return Sample(measures, clip.source, clip.speaker, self._gender(clip, measures)[0])

    def _gender(self, clip: Clip, measures: acoustic.Measures) -> tuple[str | None, Any]:
        if clip.gender is not None:
            return clip.gender, "label"
        found = estimate_gender(measures) if self._source(clip).estimate_gender else None
        return found, "estimate" if found else None

    def made(self, clip: Clip) -> list[Row]:
        """A clip's rows, their audio written; none where it is too short."""
        return list(self._rows(clip))

    def _rows(self, clip: Clip) -> Iterator[Row]:
        plan, wave = self._source(clip), load(clip, self.shared)
        if len(wave) < (plan.min_s or self.recipe.min_s) * SAMPLE_RATE:
            return
        if plan.bursts:
            yield from self._bursts(clip, wave, plan)
            return
        tracks = acoustic.analyse(wave)
        natural = acoustic.summarise(tracks)
        gender, gender_from = self._gender(clip, natural)
        rng = np.random.default_rng(stable_seed(self.recipe.seed, "plan", clip.id))
        training = clip.split == "train"
        for voice in voices_of(clip, wave, tracks, gender, plan, seed=self.recipe.seed):
            copies = plan.copies if voice.kind == "source" else plan.style_copies
            always = voice.variant is not None and plan.style_set == "keep_emotion"
            draws = rng.random(2)
            through = training and (always or draws[0] < self._own_channel(clip, voice, plan))
            again = training and not always and draws[1] < copies
            names = [(voice.id, through), *([(f"{voice.id}__c", True)] if again else [])]
            heard = tracks if voice.variant is None or voice.kind == "source" else None
            base = self._describe(clip, voice, heard, gender_from, natural.formant_spacing_hz)
            for name, channel in names:
                yield self._write(clip, voice, base, name=name, channel=channel)

    def _bursts(self, clip: Clip, wave: acoustic.Wave, plan: SourceRecipe) -> Iterator[Row]:
        """A burst as it is, and maybe once more through a channel; its measures would be those of no speech."""
        voice = Voice(clip.id, wave, "source", clip.gender, None)
        base: dict[str, Any] = {
            "measures": {},
            "attributes": {},
            "parts": None,
            "gender_from": "label" if clip.gender else None,
        }
        rng = np.random.default_rng(stable_seed(self.recipe.seed, "plan", clip.id))
        yield self._write(clip, voice, base, name=clip.id, channel=False)
        if clip.split == "train" and rng.random() < plan.copies:
            yield self._write(clip, voice, base, name=f"{clip.id}__c", channel=True)

    def _own_channel(self, clip: Clip, voice: Voice, plan: SourceRecipe) -> float:
        if clip.espeak:
            return self.recipe.espeak.channel
        return 0.0 if voice.kind == "source" else plan.style_channel

    def _describe(
        self, clip: Clip, voice: Voice, tracks: acoustic.Tracks | None, gender_from: Any, spacing: float | None
    ) -> dict[str, Any]:
        restyled = tracks is None
        tracks = tracks or acoustic.analyse(voice.wave, quality=False)
        whole = acoustic.summarise(tracks)
        if restyled and voice.variant is not None and voice.variant.second is None and spacing is not None:
            # Resonances move by the edit's own factor: no need to measure them again.
            whole = replace(whole, formant_spacing_hz=spacing * voice.variant.style.formant)

        def tell(stretch: acoustic.Measures, phonation: str | None) -> dict[str, str]:
            return describe(stretch, self.bands, gender=voice.gender, source=clip.source, phonation=phonation)

        attributes = tell(whole, voice.phonation)
        joined = len(clip.files) > 1
        if joined:  # gaps between joined words are ours
            attributes.pop("pauses", None)
        parts: dict[str, Any] | None = None
        if tracks.duration_s >= 2.4 and not joined and voice.phonation != "whisper":
            cut = voice.cut_s or acoustic.halving_point(tracks)
            halves = (acoustic.summarise(tracks, 0.0, cut), acoustic.summarise(tracks, cut))
            change = changes(*halves, self.bands)
            if change:
                sides = voice.sides()
                first, second = describe_change(tell(halves[0], sides[0]), tell(halves[1], sides[1]), change)
                parts = {"cut_s": round(cut, 3), "first": first, "second": second, "change": change}
                if "phonation" in change:
                    attributes = {}  # half a whisper measures as nothing in particular
        measures = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(whole).items()}
        return {
            "measures": measures,
            "attributes": child_attributes(attributes, clip.age),
            "parts": parts,
            "gender_from": gender_from if voice.gender else None,
        }

    def _write(self, clip: Clip, voice: Voice, base: dict[str, Any], *, name: str, channel: bool) -> Row:
        seed = stable_seed(self.recipe.seed, "row", name)
        wave, done = voice.wave, None
        if channel:
            wave, done = augment(wave, seed, self.recipe.channel or DEFAULT_CHANCES)
        if clip.split == "train" and not _arrived_in_opus(clip):
            rng = np.random.default_rng(stable_seed(self.recipe.seed, "opus", name))
            if rng.random() < self.recipe.opus:
                wave, told = opus(wave, rng)
                done = {**(done or {}), "opus": told}
        path = Path("audio") / clip.source / f"{name}.flac"
        (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(self.out / path, np.clip(wave, -1, 1), SAMPLE_RATE, subtype="PCM_16")
        edit = voice.variant.record() if voice.variant else None
        row = Row(
            id=name,
            path=path.as_posix(),
            duration_s=round(len(wave) / SAMPLE_RATE, 3),
            source=clip.source,
            speaker=clip.speaker,
            split=clip.split,
            group=clip.id,
            kind=voice.kind,
            gender=voice.gender,
            age=clip.age,
            emotion=clip.emotion,
            accent=clip.accent,
            language=clip.language,
            voices=list(clip.voices),
            captions=[],
            edit=edit or None,
            channel=done,
            licence=clip.licence,
            provenance="espeak-ng" if clip.espeak else ", ".join(f"{p} [{a}, {b}]" for p, a, b in clip.files),
            extra=dict(clip.espeak),
            facts=known_facts(clip.facts, voice.kind),
            **base,
        )
        return replace(row, captions=[asdict(caption) for caption in captions_of(row, self.recipe)])


def _arrived_in_opus(clip: Clip) -> bool:
    return any(path.endswith(".ogg") for path, _, _ in clip.files)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder of the corpora, with manifest.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder to write manifest.jsonl and audio/ to")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "recipes" / "data_small.yaml")
    parser.add_argument("--workers", type=int, default=1, help="processes; the rows are the same with any number")
    parser.add_argument(
        "--recaption", action="store_true", help="write a finished build's captions anew, not its audio"
    )
    options = parser.parse_args(arguments)
    if options.recaption:
        print(recaption(options.out, DataRecipe.load(options.recipe)), "rows")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(options.out / "build.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    try:
        builder = Builder(options.shared, options.out, DataRecipe.load(options.recipe), workers=options.workers)
    except (RecipeChangedError, ToolMissingError) as error:
        parser.error(str(error))
    for name, count in sorted(builder.run().items()):
        log.info("%-40s %d", name, count)


if __name__ == "__main__":
    main()
