"""Proof that a bundle is its checkpoint: ONNX Runtime against the torch modules, by length and batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_export.runtime import BundleRuntime
from training.model import Clsp

LENGTHS_S = (0.25, 0.37, 0.5, 1.0, 2.0, 3.3, 5.0, 10.0, 20.0, 30.0)
BATCH = 8
FLOORS = {"fp32": 0.99999, "fp16": 0.9995, "int8": 0.99}  # cosine to float32 torch
BATCH_FLOOR = 0.99999  # cosine of a clip alone to the same clip in a mixed batch
CAPTIONS = (
    "A calm man.",
    "A woman speaks quickly in a high, bright voice.",
    "An older speaker with a low and creaky voice talks slowly, pausing often, and grows quieter towards the end.",
    "Whispered speech, " + ", ".join(["soft and breathy", "close to the microphone"] * 12) + ".",
)

Wave = NDArray[np.float32]


class VerificationError(ValueError):
    """The exported graphs are further from the torch modules than the precision's floor allows."""


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


def verify(model: Clsp, runtime: BundleRuntime, precision: str, speech: Sequence[Wave] = ()) -> dict[str, Any]:
    """Compare both towers; `speech` adds real clips (16 kHz). Returns the report that the bundle carries.

    Raises VerificationError, saying where, when a cosine is below the floor.
    """
    report: dict[str, Any] = {"precision": precision, "floor": FLOORS[precision], "lengths_s": list(LENGTHS_S)}
    rows: dict[str, dict[str, float]] = {}
    clips = [voiced_sound(seconds, seed) for seed, seconds in enumerate(LENGTHS_S)]
    alone = []
    for seconds, clip in zip(LENGTHS_S, clips, strict=True):
        ours = runtime.embed_speech([clip])
        alone.append(ours[0])
        rows[f"{seconds} s, batch 1"] = _agreement(_torch_speech(model, [clip]), ours)
    for start in range(0, len(clips) - 1, 3):
        lengths = [clips[(start + i) % len(clips)][: 16000 * 30] for i in range(BATCH)]
        rows[f"mixed lengths from {LENGTHS_S[start]} s, batch {BATCH}"] = _agreement(
            np.concatenate([_torch_speech(model, [clip]) for clip in lengths]), runtime.embed_speech(lengths)
        )
    if speech:
        ours = np.concatenate([runtime.embed_speech([clip]) for clip in speech])
        theirs = np.concatenate([_torch_speech(model, [clip]) for clip in speech])
        rows[f"{len(speech)} clips of speech, batch 1"] = _agreement(theirs, ours)
    report["speech"] = rows
    mixed = runtime.embed_speech(clips[:BATCH])
    report["alone_vs_batch_min_cosine"] = round(float((mixed * np.stack(alone[:BATCH])).sum(1).min()), 7)
    report["text"] = {
        f"{len(CAPTIONS)} captions": _agreement(_torch_text(model, runtime), runtime.embed_text(CAPTIONS))
    }
    _refuse(report)
    return report


def _refuse(report: dict[str, Any]) -> None:
    low = [
        f"{tower}, {case}: cosine {row['min_cosine']}"
        for tower in ("speech", "text")
        for case, row in report[tower].items()
        if row["min_cosine"] < report["floor"]
    ]
    if report["alone_vs_batch_min_cosine"] < BATCH_FLOOR:
        low.append(f"alone against batch: cosine {report['alone_vs_batch_min_cosine']} below {BATCH_FLOOR}")
    if low:
        raise VerificationError(f"below the floor {report['floor']} for {report['precision']}: " + "; ".join(low))


def _agreement(theirs: Wave, ours: Wave) -> dict[str, float]:
    cosines = (theirs * ours).sum(1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(ours, axis=1)
    return {
        "min_cosine": round(float(cosines.min()), 7),
        "max_abs_difference": float(f"{np.abs(theirs - ours).max():.3g}"),
        "norm_error": float(f"{np.abs(np.linalg.norm(ours, axis=1) - 1).max():.3g}"),
    }


@torch.no_grad()
def _torch_speech(model: Clsp, clips: Sequence[Wave]) -> Wave:
    length = max(len(clip) for clip in clips)
    batch = torch.from_numpy(np.stack([np.pad(clip, (0, length - len(clip))) for clip in clips]))
    out: Wave = model.embed_speech(batch, torch.tensor([len(clip) for clip in clips])).numpy()
    return out


@torch.no_grad()
def _torch_text(model: Clsp, runtime: BundleRuntime) -> Wave:
    rows = []
    for row in runtime.tokenize(CAPTIONS):
        ids = torch.tensor([row.ids])
        rows.append(model.embed_text(ids, torch.ones_like(ids)).numpy())
    return np.concatenate(rows)
