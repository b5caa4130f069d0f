"""Evaluate any pair of towers: retrieval, zero-shot classes, style similarity, calibration, by source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from training.audio import load_clip
from training.evaluation.calibrate import LEAST_PAIRS, error_interval, reliability
from training.evaluation.clips import EvaluationClip
from training.evaluation.labels import ClassTask
from training.evaluation.metrics import Estimate, classification, confusion, correlation, retrieval
from training.evaluation.pairs import pair_up, reading
from training.model.frontend import SAMPLE_RATE

Vectors = NDArray[np.float32]
Resample = Literal["clips", "speakers"]
KINDS = ("global", "fine")
TEXT_KINDS = {"captions": KINDS, "labels": ("prompt",)}


class Embedder(Protocol):
    """Whatever embeds clips and captions into one space: a bundle, or a model in training."""

    def embed_clip(self, samples: Vectors) -> Vectors:
        """[samples] at 16 kHz -> [D], unit L2."""

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [N, D], unit L2."""


def embed_clips(embedder: Embedder, clips: Iterable[EvaluationClip]) -> tuple[Vectors, list[EvaluationClip], list[str]]:
    """Embed what can be read: vectors [N, D], the clips they are of, and a line for each clip that was refused."""
    vectors, kept, refused = [], [], []
    for clip in clips:
        try:
            vectors.append(embedder.embed_clip(_samples(clip)))
            kept.append(clip)
        except (RuntimeError, ValueError, OSError) as error:
            refused.append(str(error) if str(clip.path) in str(error) else f"{clip.path}: {error}")
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32), kept, refused


def _samples(clip: EvaluationClip) -> Vectors:
    samples = load_clip(clip.path)
    if clip.start_s is None:
        return samples
    start = round(clip.start_s * SAMPLE_RATE)
    stop = len(samples) if clip.duration_s is None else start + round(clip.duration_s * SAMPLE_RATE)
    if start < 0 or start >= min(stop, len(samples)):
        raise ValueError(f"{clip.path}: nothing lies at {clip.start_s:g} s")
    return samples[start:stop]


def evaluate_sources(
    embedder: Embedder,
    vectors: Vectors,
    clips: Sequence[EvaluationClip],
    tasks: Sequence[ClassTask],
    *,
    calibrations: Mapping[str, tuple[float, float]] | None = None,
    resample: Resample = "clips",
) -> dict[str, dict[str, Any]]:
    """Every figure that the clips allow, by source: never one average over corpora that have nothing in common.

    A source's gallery for retrieval is that source. `calibrations` are scale and bias, of captions and of
    labels, whose errors are asked for.
    """
    report = {}
    for source in sorted({clip.source for clip in clips}):
        own = [i for i, clip in enumerate(clips) if clip.source == source]
        part, table = [clips[i] for i in own], vectors[own]
        found = {
            **{f"retrieval_{kind}": evaluate_retrieval(embedder, table, part, kind, resample) for kind in KINDS},
            **{task.name: evaluate_classes(embedder, table, part, task, resample) for task in tasks},
            **evaluate_ratings(embedder, table, part, resample),
            **{
                f"calibration_{texts}": evaluate_calibration(embedder, table, part, one, TEXT_KINDS[texts])
                for texts, one in (calibrations or {}).items()
            },
        }
        report[source] = {"clips": len(part), "speakers": len({c.speaker for c in part if c.speaker})}
        report[source] |= {name: rows for name, rows in found.items() if rows}
    return report


def evaluate_retrieval(
    embedder: Embedder, vectors: Vectors, clips: Sequence[EvaluationClip], kind: str, resample: Resample = "clips"
) -> dict[str, Any]:
    """Both directions over the clips that have a caption of a kind, one caption a clip: its first.

    Captions that read alike are one caption: it asks once and each of its clips is right; from speech to text it is in
    the gallery once.
    """
    described = [i for i, clip in enumerate(clips) if clip.caption(kind)]
    texts, owner = distinct_captions([str(clips[i].caption(kind)) for i in described])
    if len(texts) < 2:
        return {}
    similarity = vectors[described] @ embedder.embed_text(texts).T
    mine = np.zeros(similarity.shape, bool)
    mine[np.arange(len(owner)), owner] = True
    speakers = groups([clips[i] for i in described], resample)
    first = [int(np.flatnonzero(owner == column)[0]) for column in range(len(texts))]
    asked = [speakers[i] for i in first] if speakers else None
    return {
        "clips": len(described),
        "captions": len(texts),
        "speech_to_text": told(retrieval(similarity, owner, groups=speakers)),
        "text_to_speech": told(retrieval(similarity.T, mine.T, groups=asked)),
    }


def distinct_captions(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Captions that read differently, in the order of their first, and the place in them of each of `texts`."""
    places: dict[str, int] = {}
    kept: list[str] = []
    owner = []
    for text in texts:
        key = reading(text)
        if key not in places:
            places[key] = len(kept)
            kept.append(text)
        owner.append(places[key])
    return kept, np.array(owner, np.int64)


def evaluate_classes(
    embedder: Embedder,
    vectors: Vectors,
    clips: Sequence[EvaluationClip],
    task: ClassTask,
    resample: Resample = "clips",
) -> dict[str, Any]:
    """Zero-shot classification of the clips whose label is one of the task's. Nothing when fewer than two occur."""
    truth = {i: label for i, clip in enumerate(clips) if (label := task.label(clip)) is not None}
    labels = [label for label in task.prompts if task.fixed or label in set(truth.values())]
    if len(set(truth.values())) < 2:
        return {}
    judged = list(truth)
    cosines = class_cosines(embedder, vectors[judged], [task.prompts[label] for label in labels], task.pool)
    guesses = [labels[int(k)] for k in cosines.argmax(1)]
    real = [truth[i] for i in judged]
    scores = classification(guesses, real, labels, groups=groups([clips[i] for i in judged], resample))
    return {
        "clips": len(judged),
        "without_label": len(clips) - len(judged),
        "labels": labels,
        "prompts": {label: task.prompts[label] for label in labels},
        "confusion": confusion(guesses, real, labels).tolist(),
        **told(scores),
    }


def class_cosines(
    embedder: Embedder, vectors: Vectors, prompts: Sequence[Sequence[str]], pool: Literal["mean", "nearest"]
) -> Vectors:
    """Cosine of each clip with each class, [N, D] and the prompts of K classes -> [N, K]."""
    parts = [embedder.embed_text(list(own)) for own in prompts]
    if pool == "mean":
        return vectors @ np.stack([unit(part.mean(0)) for part in parts]).T
    nearest: Vectors = np.stack([(vectors @ part.T).max(1) for part in parts], 1)
    return nearest


def evaluate_ratings(
    embedder: Embedder, vectors: Vectors, clips: Sequence[EvaluationClip], resample: Resample = "clips"
) -> dict[str, Any]:
    """Pearson's r between cosines and people's ratings, for each kind of rating with at least three pairs."""
    rows = [(i, rating) for i, clip in enumerate(clips) for rating in clip.ratings]
    found = {}
    for kind in sorted({rating.kind for _, rating in rows}):
        pairs = [(i, rating) for i, rating in rows if rating.kind == kind]
        if len(pairs) < 3:
            continue
        texts, column = distinct_captions([rating.caption for _, rating in pairs])
        embedded = embedder.embed_text(texts)
        cosines = np.einsum("nd,nd->n", vectors[[i for i, _ in pairs]], embedded[column]).astype(np.float64)
        ratings = np.array([rating.rating for _, rating in pairs])
        names = groups([clips[i] for i, _ in pairs], resample) or [str(i) for i, _ in pairs]
        found[f"similarity_{kind}"] = {
            "clips": len({i for i, _ in pairs}),
            "pairs": [[round(float(c), 4), float(r)] for c, r in zip(cosines, ratings, strict=True)],
            **told(correlation(cosines, ratings, groups=names)),
        }
    return found


def evaluate_calibration(
    embedder: Embedder,
    vectors: Vectors,
    clips: Sequence[EvaluationClip],
    calibration: tuple[float, float],
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """Calibration error of sigmoid(scale * cosine + bias), in percent, on as many mismatched pairs as matched."""
    pairs = pair_up(clips, kinds=kinds)
    if pairs.false.any(0).sum() < LEAST_PAIRS:
        return {}
    scored = pairs.scored(vectors @ embedder.embed_text(pairs.texts).T)
    scale, bias = calibration
    probability = expit(scale * scored.cosines + bias)
    error = {name: 100 * x for name, x in error_interval(probability, scored.truth, scored.clips).items()}
    return {
        "clips": len(set(pairs.own.tolist())),
        "pairs": len(scored.truth),
        "mismatched_by": "claims" if pairs.known_false else "other clips' captions, some of them true by accident",
        "reliability": reliability(probability, scored.truth),
        "ECE": {name: round(x, 2) for name, x in error.items()},
    }


def groups(clips: Sequence[EvaluationClip], resample: Resample) -> list[str] | None:
    """What an interval draws: None for the queries themselves, or each one's speaker, in its absence the clip."""
    if resample == "clips":
        return None
    return [clip.speaker or str(clip.path) for clip in clips]


def told(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Estimates as JSON."""
    return {name: asdict(one) for name, one in estimates.items()}


def unit(vector: Vectors) -> Vectors:
    """A vector brought to unit L2."""
    out: Vectors = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
    return out
