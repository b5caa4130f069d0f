"""Evaluate any pair of towers on a JSONL manifest: retrieval by caption, zero-shot classification by label."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.audio import load_clip
from training.metrics import classification, confusion, retrieval

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Whatever embeds clips and captions into one space: a bundle, or a model in training."""

    def embed_clip(self, samples: Vectors) -> Vectors:
        """[samples] at 16 kHz -> [D], unit L2."""

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [N, D], unit L2."""


@dataclass(frozen=True)
class EvaluationClip:
    """One row of a manifest: a file, its captions and its labels (any other field)."""

    path: Path
    captions: tuple[str, ...]
    labels: dict[str, Any]


class ManifestError(ValueError):
    """A manifest row can't be read; the message names the line."""


def read_manifest(path: Path) -> list[EvaluationClip]:
    """Rows of JSON with `path` or `file` (relative to the manifest) and `caption` or `captions`; the rest are labels.

    Raises ManifestError naming the line, OSError when the file can't be read.
    """
    clips = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            file = row.pop("path", None) or row.pop("file")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ManifestError(f"{path}, line {number}: not a JSON object with `path` or `file`") from error
        captions = row.pop("captions", None) or ([row["caption"]] if row.get("caption") else [])
        texts = tuple(c["text"] if isinstance(c, dict) else str(c) for c in captions)
        labels = {**row, **(row.get("metadata") or {})}
        clips.append(EvaluationClip(path.parent / file, texts, labels))
    return clips


def embed_clips(embedder: Embedder, clips: Iterable[EvaluationClip]) -> tuple[Vectors, list[EvaluationClip], list[str]]:
    """Embed what can be read: vectors [N, D], the clips they are of, and a line for each clip that was refused."""
    vectors, kept, refused = [], [], []
    for clip in clips:
        try:
            vectors.append(embedder.embed_clip(load_clip(clip.path)))
            kept.append(clip)
        except (RuntimeError, ValueError, OSError) as error:
            refused.append(f"{clip.path}: {error}")
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32), kept, refused


def evaluate_retrieval(embedder: Embedder, vectors: Vectors, clips: Sequence[EvaluationClip]) -> dict[str, Any]:
    """Both directions with one caption a clip (its first): `speech_to_text` and `text_to_speech`.

    Clips whose captions read alike are one another's positives nowhere: a tie counts against, as in the paper.
    """
    described = [i for i, clip in enumerate(clips) if clip.captions]
    if len(described) < 2:
        return {}
    texts = embedder.embed_text([clips[i].captions[0] for i in described])
    similarity = vectors[described] @ texts.T
    own = np.arange(len(described))
    return {
        "clips": len(described),
        "text_to_speech": {k: asdict(v) for k, v in retrieval(similarity.T, own).items()},
        "speech_to_text": {k: asdict(v) for k, v in retrieval(similarity, own).items()},
    }


def evaluate_classes(
    embedder: Embedder, vectors: Vectors, clips: Sequence[EvaluationClip], field: str, prompts: dict[str, list[str]]
) -> dict[str, Any]:
    """Zero-shot classification of the clips whose label `field` is one of the prompts'.

    A label's vector is the mean of its prompts'. Only labels that occur are candidates.
    """
    occurring = {str(clip.labels.get(field)) for clip in clips}
    labels = [label for label in prompts if label in occurring]
    judged = [i for i, clip in enumerate(clips) if str(clip.labels.get(field)) in labels]
    if len(labels) < 2:
        return {}
    table = np.stack([unit(embedder.embed_text(prompts[label]).mean(0)) for label in labels])
    guesses = [labels[int(k)] for k in (vectors[judged] @ table.T).argmax(1)]
    truth = [str(clips[i].labels[field]) for i in judged]
    scores = classification(guesses, truth, labels)
    return {
        "clips": len(judged),
        "labels": labels,
        "confusion": confusion(guesses, truth, labels).tolist(),
        **{name: asdict(estimate) for name, estimate in scores.items()},
    }


def unit(vector: Vectors) -> Vectors:
    """A vector brought to unit L2."""
    out: Vectors = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
    return out
