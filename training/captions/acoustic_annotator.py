"""Captions from measures, offline: the same interface as an endpoint, no network, every statement measured or labelled.

Measuring runs in worker processes. What an attribute's bands are is fitted once on clips of the manifest itself, or
taken from an earlier build.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from training.captions import acoustic, lexicon, writer
from training.captions.annotator import AnnotatorError, Identity, Keep, Kind, Reply
from training.captions.attributes import Bands, Sample, changes, describe, describe_change, fit
from training.captions.gender import estimate_gender
from training.captions.ledger import Question
from training.captions.prompts import years_of
from training.captions.utterance import AudioError, Utterance
from training.corpus.labels import accent_of

VERSION = "1"  # of what is told from measures; a new one asks the ledger anew
MAX_S = 30.0


class BandsError(ValueError):
    """The clips given cannot tell where the bands lie."""


class AcousticAnnotator:
    """Measures a clip once and writes as many captions as there are seeds. Use as a context manager."""

    # The writer's fine-grained captions are shorter than an audio model's: the paper's band would drop half of them.
    lengths: Mapping[Kind, tuple[int, int]] = {"short": (8, 240), "long": (48, 768)}

    def __init__(self, bands: Bands, *, workers: int = 1) -> None:
        self.bands = bands
        self.concurrency = max(workers, 1) * 2
        told = json.dumps(bands.to_json(), sort_keys=True)
        self._model = f"acoustic-{VERSION}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self._workers = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def __enter__(self) -> AcousticAnnotator:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(cancel_futures=True)

    def identity(self, clip: Utterance, kind: Kind) -> Identity:
        """The bands, the lexicon and the clip's labels decide."""
        told = json.dumps([kind, _labels(clip), clip.fields.get("source"), _lexicon_hash()])
        return Identity(self._model, hashlib.sha256(told.encode()).hexdigest())

    async def prepare(self, clip: Utterance) -> dict[str, Any]:
        """The clip's facts: attributes, parts that differ, gender. Raises AudioError, AnnotatorError."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._workers, facts_of, _light(clip), self.bands)
        except ValueError as error:
            raise AnnotatorError(str(error)) from error

    async def caption(
        self, prepared: dict[str, Any], clip: Utterance, kind: Kind, question: Question, keep: Keep
    ) -> Reply:
        """One caption; empty where too little could be told of the voice."""
        reply = self._said(prepared, clip, kind, question.seed)
        await keep(reply)
        return reply

    def _said(self, prepared: dict[str, Any], clip: Utterance, kind: Kind, seed: int) -> Reply:
        parts = prepared["parts"] or {}
        labels = _labels(clip)
        facts = writer.Facts(
            attributes=prepared["attributes"],
            gender=prepared["gender"],
            age=labels["age"],
            emotion=labels["emotion"],
            accent=labels["accent"],
            **{k: parts[k] for k in ("first", "second", "change") if k in parts},
        )
        wanted = "global" if kind == "short" else "fine"
        counts = {"short": 1, "fine": 0} if kind == "short" else {"short": 0, "fine": 1}
        for caption in writer.write(facts, seed=f"{clip.id}/{kind}/{seed}", **counts):
            if caption.kind == wanted:
                return Reply(caption.text, claims=caption.claims, facts=prepared)
        return Reply("", facts=prepared)


def facts_of(clip: Utterance, bands: Bands) -> dict[str, Any]:
    """What can be told of a clip, for its row: measures, attributes, parts (or None), gender and where it is from.

    Raises AudioError, or ValueError for a clip too short to be measured.
    """
    tracks = acoustic.analyse(clip.load(MAX_S))
    whole = acoustic.summarise(tracks)
    labels = _labels(clip)
    gender = labels["gender"] or estimate_gender(whole)
    source = str(clip.fields.get("source") or "")

    def tell(stretch: acoustic.Measures) -> dict[str, str]:
        return describe(stretch, bands, gender=gender, source=source, phonation=labels["phonation"])

    attributes = tell(whole)
    parts: dict[str, Any] | None = None
    if tracks.duration_s >= 2.4 and attributes.get("phonation") != "whisper":
        cut = acoustic.halving_point(tracks)
        first, second = acoustic.summarise(tracks, 0.0, cut), acoustic.summarise(tracks, cut)
        change = changes(first, second, bands)
        if change:
            told = describe_change(tell(first), tell(second), change)
            parts = {"cut_s": round(cut, 3), "first": told[0], "second": told[1], "change": change}
            if "phonation" in change:
                attributes = {}  # half a whisper measures as nothing in particular
    return {
        "measures": {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(whole).items()},
        "attributes": attributes,
        "parts": parts,
        "gender": gender,
        "gender_from": "label" if labels["gender"] else "estimate" if gender else None,
    }


def fit_bands(clips: Iterable[Utterance], *, workers: int = 1) -> Bands:
    """Bands from natural clips. Raises BandsError where none, or voices of one gender only, can be measured."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        samples = [sample for sample in pool.map(_sample, map(_light, clips), chunksize=4) if sample is not None]
    try:
        return fit(samples)
    except (ValueError, IndexError) as error:
        told = {g: sum(s.gender == g for s in samples) for g in ("female", "male")}
        raise BandsError(
            f"{len(samples)} clips with {told['female']} female and {told['male']} male voices are too few to say what "
            f"is high or low, fast or slow: give the bands of an earlier build with --bands ({error})"
        ) from error


def read_bands(path: Path) -> Bands:
    """bands.json as a data build or an earlier run wrote it. Raises BandsError."""
    try:
        return Bands.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BandsError(f"{path} holds no bands: {error}") from error


def _sample(clip: Utterance) -> Sample | None:
    try:
        measures = acoustic.measure(clip.load(MAX_S))
    except (AudioError, ValueError):
        return None  # listed when its turn comes
    gender = _labels(clip)["gender"] or estimate_gender(measures)
    return Sample(measures, str(clip.fields.get("source") or ""), str(clip.fields.get("speaker") or clip.id), gender)


def _labels(clip: Utterance) -> dict[str, Any]:
    """What the manifest knows, in the writer's vocabulary; what it has no word for is left out."""
    fields = clip.fields
    accent = fields.get("accent")
    english = fields.get("language") in (None, "en")
    return {
        "gender": gender if (gender := clip.label("gender")) in ("female", "male") else None,
        "age": years_of(fields.get("age")),
        "emotion": fields.get("emotion") if fields.get("emotion") in lexicon.emotion_words() else None,
        "accent": accent_of(str(accent)) if english else None,
        "phonation": "whisper" if fields.get("phonation") in ("whisper", "whispery") else None,
    }


@cache
def _lexicon_hash() -> str:
    folder = Path(lexicon.__file__).parent
    return hashlib.sha256(b"".join((folder / n).read_bytes() for n in ("lexicon.yaml", "emotions.yaml"))).hexdigest()


def _light(clip: Utterance) -> Utterance:
    """A clip that travels to another process light: only the labels that are read there."""
    names = ("gender", "gender_from", "age", "emotion", "accent", "language", "phonation", "source", "speaker")
    return replace(clip, fields={n: clip.fields[n] for n in names if n in clip.fields})
