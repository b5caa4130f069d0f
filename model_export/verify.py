"""Proof that a bundle is its checkpoint: ONNX Runtime against the torch modules, by length, batch and rank."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_export.presets import PRESETS, REFERENCE_CAPTIONS
from model_export.runtime import BundleRuntime, TokenizedText
from training.model import Clsp

LENGTHS_S = (0.25, 0.37, 0.5, 1.0, 2.0, 3.3, 5.0, 10.0, 20.0, 30.0)
BATCH = 8
FLOORS = {
    "fp32": 0.99999,
    "int16": 0.9999,
    "fp16": 0.9995,
    "int8": 0.99,
}  # cosine to float32 torch, at the 1st percentile
BATCH_FLOOR = 0.99999  # cosine of a clip alone to the same clip in a mixed batch
LIBRARY = 300  # clips that the rank agreement searches in
TOP = 10
LISTED = 12  # cases that a refusal names
CAPTIONS = (
    "A calm man.",
    "A woman speaks quickly in a high, bright voice.",
    "An older speaker with a low and creaky voice talks slowly, pausing often, and grows quieter towards the end.",
    "Whispered speech, " + ", ".join(["soft and breathy", "close to the microphone"] * 12) + ".",
)

Wave = NDArray[np.float32]
Report = dict[str, Any]


class VerificationError(ValueError):
    """The exported graphs are further from the torch modules than the precision's floor allows."""


@dataclass
class Cosines:
    """Agreement of one tower with torch, case by case."""

    rows: list[tuple[str, float]] = field(default_factory=list)
    largest_difference: float = 0.0
    norm_error: float = 0.0

    def add(self, names: Sequence[str], theirs: Wave, ours: Wave) -> None:
        """Compare embeddings [N, D], one name a row. Raises VerificationError, naming those that are not finite."""
        for side, vectors in (("torch modules give", theirs), ("exported graphs give", ours)):
            odd = [name for name, row in zip(names, vectors, strict=True) if not np.isfinite(row).all()]
            if odd:
                raise VerificationError(f"the {side} embeddings that are not finite: {'; '.join(_listed(odd))}")
        self.rows += zip(names, _cosines(theirs, ours).tolist(), strict=True)
        self.largest_difference = max(self.largest_difference, float(np.abs(theirs - ours).max()))
        self.norm_error = max(self.norm_error, float(np.abs(np.linalg.norm(ours, axis=1) - 1).max()))

    def report(self) -> Report:
        """Percentile, minimum and where it is, largest difference."""
        where, least = min(self.rows, key=lambda row: row[1])
        return {
            "cases": len(self.rows),
            "p1_cosine": round(self.percentile(), 7),
            "min_cosine": round(least, 7),
            "min_at": where,
            "max_abs_difference": float(f"{self.largest_difference:.3g}"),
            "norm_error": float(f"{self.norm_error:.3g}"),
        }

    def percentile(self) -> float:
        """The 1st percentile, taken as one of the values: with few cases the lowest."""
        return float(np.percentile([cosine for _, cosine in self.rows], 1, method="lower"))

    def below(self, floor: float) -> list[str]:
        """The cases under a floor, lowest first."""
        low = sorted((cosine, name) for name, cosine in self.rows if not cosine >= floor)
        return _listed([f"{name}: {cosine:.6f}" for cosine, name in low])


def voiced_sound(seconds: float, seed: int, rate: int = 16000) -> Wave:
    """A deterministic speech-like sound: gliding harmonics in syllables, with breath noise. [samples] float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(80, 260) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase) / k ** rng.uniform(0.8, 1.6) for k in range(1, 25))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(2.5, 6) * time + rng.uniform(0, 6))
    sound = voice * syllables + 0.05 * rng.standard_normal(len(time))
    scaled: Wave = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class Scope:
    """How much is compared: synthetic sounds of these lengths, and a library of so many clips to rank."""

    lengths_s: tuple[float, ...] = LENGTHS_S
    library: int = LIBRARY


EVERYTHING = Scope()


def verify(
    model: Clsp, runtime: BundleRuntime, precision: str, speech: Sequence[Wave] = (), *, scope: Scope = EVERYTHING
) -> Report:
    """Compare both towers and their rankings; returns the report that the bundle carries.

    `speech` are real clips (16 kHz): each is compared, and they come first in the library, which synthetic sounds of
    1 to 3 s fill up. Raises VerificationError, saying where, when a cosine is below the floor.
    """
    floor, lengths = FLOORS[precision], scope.lengths_s
    spoken, written = Cosines(), Cosines()
    clips = [voiced_sound(seconds, seed) for seed, seconds in enumerate(lengths)]
    theirs = _torch_speech(model, clips)
    alone = np.concatenate([runtime.embed_speech([clip]) for clip in clips])
    spoken.add([f"{seconds} s alone" for seconds in lengths], theirs, alone)
    turned = []
    for start in range(0, len(clips), 3):
        places = [(start + i) % len(clips) for i in range(BATCH)]
        mixed = runtime.embed_speech([clips[i] for i in places])
        spoken.add([f"{lengths[i]} s in a batch of mixed lengths" for i in places], theirs[places], mixed)
        turned.append(_cosines(mixed, alone[places]))
    twins = [voiced_sound(1.3, seed) for seed in range(3)]  # one length: a batch without padding
    turned.append(
        _cosines(runtime.embed_speech(twins), np.concatenate([runtime.embed_speech([clip]) for clip in twins]))
    )
    alone_vs_batch = float(np.concatenate(turned).min())

    shelf = [*speech, *(voiced_sound(1 + seed % 5 / 2, 100 + seed) for seed in range(scope.library - len(speech)))]
    kinds = ["speech" if i < len(speech) else "synthetic sound" for i in range(len(shelf))]
    torch_shelf = _torch_speech(model, shelf)
    our_shelf = np.concatenate([runtime.embed_speech([clip]) for clip in shelf])
    names = [f"{kind} {i}, {len(clip) / 16000:.2f} s" for i, (kind, clip) in enumerate(zip(kinds, shelf, strict=True))]
    spoken.add(names, torch_shelf, our_shelf)

    texts = list(dict.fromkeys([*CAPTIONS, *_prompts(), *REFERENCE_CAPTIONS]))
    tokens = runtime.tokenize(texts)
    torch_texts = _torch_text(model, tokens)
    our_texts = runtime.embed_tokens(tokens)
    written.add([f"text of {len(row.ids)} tokens" for row in tokens], torch_texts, our_texts)
    report = {
        "precision": precision,
        "floor": floor,
        "lengths_s": list(lengths),
        "real_speech_clips": len(speech),
        "speech": spoken.report(),
        "text": written.report(),
        "alone_vs_batch_min_cosine": round(alone_vs_batch, 7),
        "rank_agreement": {
            "library": len(shelf),
            "text_to_speech_top10": top_overlap(torch_texts @ torch_shelf.T, our_texts @ our_shelf.T),
            "speech_to_speech_top10": top_overlap(_others(torch_shelf), _others(our_shelf)),
        },
    }
    refuse_below({"speech": spoken, "text": written}, floor, alone_vs_batch, precision)
    return report


def refuse_below(towers: dict[str, Cosines], floor: float, alone_vs_batch: float, precision: str) -> None:
    """Raise VerificationError, naming the cases, when a tower's 1st percentile or the batch's cosine is too low.

    What is no number is below any floor.
    """
    low = []
    for tower, cosines in towers.items():
        if not cosines.percentile() >= floor:
            where = "; ".join(cosines.below(floor))
            low.append(f"{tower} has cosine {cosines.percentile():.6f} at the 1st percentile ({where})")
    if not alone_vs_batch >= BATCH_FLOOR:
        low.append(f"alone against batch: cosine {alone_vs_batch:.7f} below {BATCH_FLOOR}")
    if low:
        raise VerificationError(f"below the floor {floor} for {precision}: " + "; ".join(low))


def top_overlap(theirs: NDArray[np.floating], ours: NDArray[np.floating], top: int = TOP) -> float:
    """Mean share of each query's `top` best that two score tables [queries, clips] have in common."""
    pairs = zip(np.argsort(-theirs, axis=1)[:, :top], np.argsort(-ours, axis=1)[:, :top], strict=True)
    shares = [len(np.intersect1d(a, b)) / min(top, theirs.shape[1]) for a, b in pairs]
    return round(float(np.mean(shares)), 4)


def _listed(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return lines[:LISTED] + more


def _cosines(a: Wave, b: Wave) -> Wave:
    """Row by row: [N, D], [N, D] -> [N]."""
    cosines: Wave = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return cosines


def _others(vectors: Wave) -> NDArray[np.floating]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return scores


def _prompts() -> list[str]:
    return [prompt for labels in PRESETS.values() for prompts in labels.values() for prompt in prompts]


@torch.no_grad()
def _torch_speech(model: Clsp, clips: Sequence[Wave]) -> Wave:
    rows = [model.embed_speech(torch.from_numpy(clip)[None], torch.tensor([len(clip)])) for clip in clips]
    out: Wave = torch.cat(rows).numpy()
    return out


@torch.no_grad()
def _torch_text(model: Clsp, rows: Sequence[TokenizedText]) -> Wave:
    ids = [torch.tensor([row.ids]) for row in rows]
    out: Wave = torch.cat([model.embed_text(row, torch.ones_like(row)) for row in ids]).numpy()
    return out
