"""From cosine to the probability that a caption describes a clip, and where mismatched captions lie."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from tokenizers import Tokenizer
from torch import Tensor

from training.evaluation.clips import EvaluationClip
from training.evaluation.pairs import ScoredPairs, pair_up
from training.evaluation.resampling import Draws, centred_interval
from training.model import Clsp
from training.objective.examples import TrainClip
from training.trainer.heads.features import speech_features, text_features

DEFAULT = {"scale": 10.0, "bias": -3.0}
LEAST_PAIRS = 20
FOLDS = 5


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
) -> tuple[dict[str, Any], float | None]:
    """A bundle's `calibration` from a model and a split that it was not trained on, and its calibration error.

    Too few pairs give a default and None.
    """
    speech = embed_split(model, clips, cache)
    fitted = fit_kinds(clips, lambda texts: (speech @ embed_captions(model, tokenizer, texts).T).numpy())
    if fitted is None:
        return dict(DEFAULT), None
    return fitted, float(fitted["expected_calibration_error"]["value"])


def fit_kinds(
    clips: Sequence[TrainClip | EvaluationClip], cosines_of: Callable[[list[str]], NDArray[np.floating]]
) -> dict[str, Any] | None:
    """A bundle's `calibration`: of captions and, where clips have prompts that state one thing, of these as `labels`.

    `cosines_of` gives cosines [clips, texts]. None when there are too few captions, or none that mismatches.
    """
    pairs = pair_up(clips)
    if pairs.false.any(0).sum() < LEAST_PAIRS:
        return None
    fitted = fit_pairs(pairs.scored(cosines_of(pairs.texts)))
    prompts = pair_up(clips, kinds=("prompt",))
    # Another clip's prompt is so often true of this one that only a contradiction tells.
    if prompts.known_false and prompts.false.any(0).sum() >= LEAST_PAIRS:
        labels = fit_pairs(prompts.scored(cosines_of(prompts.texts)))
        del labels["mismatched_percentiles"]
        fitted["labels"] = labels
    return fitted


def fit_pairs(pairs: ScoredPairs) -> dict[str, Any]:
    """Platt's map (1999), the percentiles 0 to 100 of mismatched cosines, and the expected calibration error.

    The error is that of maps fitted without the clips that they are judged on (five folds), with a 95 % interval from
    drawing clips. Raises ValueError when there are too few pairs, or none that mismatch.
    """
    if len(pairs.cosines) < LEAST_PAIRS or not len(pairs.mismatched):
        raise ValueError(f"a calibration needs {LEAST_PAIRS} pairs, some mismatched; here are {len(pairs.cosines)}")
    scale, bias = platt(pairs.cosines, pairs.truth)
    table = np.percentile(pairs.mismatched, np.arange(101))
    held_out = cross_fitted(pairs)
    return {
        "scale": scale,
        "bias": bias,
        "mismatched_percentiles": [round(float(x), 5) for x in table],
        "expected_calibration_error": error_interval(held_out, pairs.truth, pairs.clips),
        "pairs": len(pairs.cosines),
    }


def cross_fitted(pairs: ScoredPairs) -> NDArray[np.float64]:
    """The probability of each pair by a map that saw none of its clip's pairs."""
    clips = np.unique(pairs.clips)
    fold_of = dict(zip(clips.tolist(), np.random.default_rng(0).permutation(len(clips)) % FOLDS, strict=True))
    folds = np.array([fold_of[clip] for clip in pairs.clips.tolist()])
    out = np.empty(len(pairs.cosines))
    for fold in range(FOLDS):
        seen, judged = folds != fold, folds == fold
        if judged.any():
            scale, bias = platt(pairs.cosines[seen], pairs.truth[seen])
            out[judged] = expit(scale * pairs.cosines[judged] + bias)
    return out


def platt(cosines: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Scale > 0 and bias that minimise the log loss of sigmoid(scale * cosine + bias)."""

    def loss(parameters: NDArray[np.float64]) -> float:
        logits = np.exp(parameters[0]) * cosines + parameters[1]
        return float(np.mean(np.logaddexp(0, logits) - truth * logits))

    best = minimize(loss, np.array([np.log(8.0), -2.0]), method="Nelder-Mead")
    return round(float(np.exp(best.x[0])), 4), round(float(best.x[1]), 4)


def calibration_error(probability: NDArray[np.float64], truth: NDArray[np.float64], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins, 0 to 1 (Guo et al., 2017)."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, probability, bins) - np.bincount(place, truth, bins))
    return float(gap[count > 0].sum() / len(probability))


def error_interval(
    probability: NDArray[np.float64], truth: NDArray[np.float64], clips: NDArray[np.int64]
) -> dict[str, float]:
    """The expected calibration error with its 95 % interval, from drawing whole clips, moved back by its bias."""
    draws = Draws(len(truth), [str(clip) for clip in clips])
    value, low, high = centred_interval(lambda index: calibration_error(probability[index], truth[index]), draws)
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def reliability(
    probability: NDArray[np.float64], truth: NDArray[np.float64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """For each bin that holds pairs: the mean probability, the share that match, how many there are."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    members = [place == b for b in range(bins)]
    return [
        (round(float(probability[own].mean()), 4), round(float(truth[own].mean()), 4), int(own.sum()))
        for own in members
        if own.any()
    ]
