"""A monotone map from cosine to the probability that a caption describes a clip, fitted on held-out pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from tokenizers import Tokenizer
from torch import Tensor

from training.examples import TrainClip
from training.features import speech_features, text_features
from training.matches import ClaimTable
from training.model import Clsp

KINDS = ("global", "fine")
DEFAULT = {"scale": 10.0, "bias": -3.0}


@torch.no_grad()
def embed_split(model: Clsp, clips: Sequence[TrainClip], cache: Path) -> Tensor:
    """Clips -> [N, D] unit vectors."""
    return model.project_speech(speech_features(model, [clip.path for clip in clips], cache))


@torch.no_grad()
def embed_captions(model: Clsp, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Texts -> [M, D] unit vectors."""
    return model.project_text(text_features(model, tokenizer, texts))


def fit_calibration(
    model: Clsp, clips: Sequence[TrainClip], tokenizer: Tokenizer, cache: Path
) -> tuple[dict[str, float], float]:
    """Platt's map (1999) on pairs of the split, as many mismatched as matched, and its expected calibration error.

    A pair counts as mismatched when a claim of the caption contradicts the clip's facts. Too few clips give a default.
    """
    pairs = [(i, caption) for i, clip in enumerate(clips) for caption in clip.captions if caption.kind in KINDS]
    if len(pairs) < 20:
        return dict(DEFAULT), float("nan")
    speech = embed_split(model, clips, cache)
    text = embed_captions(model, tokenizer, [caption.text for _, caption in pairs])
    cosine = (speech @ text.T).numpy()
    table = ClaimTable([clip.facts for clip in clips], [caption.claims for _, caption in pairs])
    everything = torch.arange(len(clips)), torch.arange(len(pairs))
    may_match = (table.match(*everything) > 0) | table.unknown(*everything)
    own = np.array([i for i, _ in pairs])
    rng = np.random.default_rng(0)
    matched = cosine[own, np.arange(len(pairs))]
    mismatched = []
    for column in range(len(pairs)):
        false = np.flatnonzero(~may_match[:, column].numpy())
        false = false[false != own[column]]
        if len(false):
            mismatched.append(cosine[rng.choice(false), column])
    values = np.concatenate([matched, np.array(mismatched)]).astype(np.float64)
    truth = np.concatenate([np.ones(len(matched)), np.zeros(len(mismatched))])
    scale, bias = platt(values, truth)
    return {"scale": scale, "bias": bias}, calibration_error(expit(scale * values + bias), truth)


def platt(cosines: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale > 0 and bias that minimise the log loss of sigmoid(scale * cosine + bias)."""

    def loss(parameters: NDArray[np.float64]) -> float:
        logits = np.exp(parameters[0]) * cosines + parameters[1]
        return float(np.mean(np.logaddexp(0, logits) - truth * logits))

    best = minimize(loss, np.array([np.log(8.0), -2.0]), method="Nelder-Mead")
    return round(float(np.exp(best.x[0])), 4), round(float(best.x[1]), 4)


def calibration_error(probability: NDArray[np.float64], truth: NDArray[np.float64], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al., 2017)."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        (place == b).mean() * abs(probability[place == b].mean() - truth[place == b].mean())
        for b in range(bins)
        if (place == b).any()
    ]
    return round(float(sum(gaps)), 4)
