"""Figures of a model on a held-out split: retrieval and zero-shot classes, by source, next to chance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from training.evaluation.calibrate import embed_captions, embed_split
from training.evaluation.evaluate import distinct_captions
from training.evaluation.metrics import classification, retrieval
from training.model import Clsp
from training.objective.examples import TrainClip

# Prompts a class: the paper's where it has them.
EMOTION = {
    "angry": "angry",
    "sad": "sad",
    "happy": "happy",
    "fearful": "fear",
    "disgust": "disgust",
    "neutral": "neutral",
    "calm": "calm",
    "surprised": "surprised",
}
PROMPTS: dict[str, dict[str, str]] = {
    "gender": {"male": "A male speaker.", "female": "A female speaker."},
    "child": {"yes": "A child or young teenager speaker.", "no": "An adult speaker."},
    "emotion": {label: f"A speaker in a {word} tone." for label, word in EMOTION.items()},
    "pitch": {
        "low": "A speaker with a low-pitched voice.",
        "medium": "A speaker with a medium-pitched voice.",
        "high": "A speaker with a high-pitched voice.",
    },
    "rate": {
        "low": "A speaker talking slowly.",
        "medium": "A speaker talking at a moderate pace.",
        "high": "A speaker talking quickly.",
    },
}


@torch.no_grad()
def held_out_report(model: Clsp, clips: Sequence[TrainClip], tokenizer: Tokenizer, cache: Path) -> dict[str, Any]:
    """All clips, then each source: R@1/R@10 text-to-speech with one global caption a clip, and zero-shot classes.

    Captions that read alike ask once, and each of their clips is right.

    Five bands are merged into three: `very_low` with `low`, `very_high` with `high`.
    """
    speech = embed_split(model, clips, cache).numpy()
    captions = [next((c.text for c in clip.captions if c.kind == "global"), None) for clip in clips]
    told = [i for i, text in enumerate(captions) if text]
    text = embed_captions(model, tokenizer, [str(captions[i]) for i in told]).numpy()
    tables = {
        field: embed_captions(model, tokenizer, list(prompts.values())).numpy() for field, prompts in PROMPTS.items()
    }
    report: dict[str, Any] = {}
    for source in ["all", *sorted({clip.source for clip in clips})]:
        members = {i for i, clip in enumerate(clips) if source in ("all", clip.source)}
        rows: dict[str, Any] = {"clips": len(members)}
        chosen = [place for place, i in enumerate(told) if i in members]
        if len(chosen) >= 20:
            _, owner = distinct_captions([str(captions[told[place]]) for place in chosen])
            first = [int(np.flatnonzero(owner == column)[0]) for column in range(int(owner.max()) + 1)]
            similarity = text[[chosen[i] for i in first]] @ speech[[told[place] for place in chosen]].T
            found = retrieval(similarity, owner[None, :] == np.arange(len(first))[:, None])
            rows["text_to_speech"] = {"clips": len(chosen), **{k: asdict(found[k]) for k in ("R@1", "R@10")}}
        for field, prompts in PROMPTS.items():
            labels = list(prompts)
            truth = {i: three_bands(clips[i].facts).get(field) for i in sorted(members)}
            judged = [i for i, label in truth.items() if label in prompts]
            if len(judged) >= 10 and len({truth[i] for i in judged}) > 1:
                guesses = [labels[int(k)] for k in (speech[judged] @ tables[field].T).argmax(1)]
                scores = classification(guesses, [str(truth[i]) for i in judged], labels)
                rows[field] = {"clips": len(judged), **{name: asdict(e) for name, e in scores.items()}}
                rows[field]["classes"] = class_shares(guesses, [str(truth[i]) for i in judged], labels)
        report[source] = rows
    return report


def class_shares(guesses: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each class its recall and its share of all answers, in percent: which ones starve, which flood."""
    told: dict[str, dict[str, float]] = {}
    for label in labels:
        own = [guess for guess, real in zip(guesses, truth, strict=True) if real == label]
        told[label] = {"share": round(100 * sum(guess == label for guess in guesses) / len(guesses), 1)}
        if own:
            told[label]["recall"] = round(100 * sum(guess == label for guess in own) / len(own), 1)
    return told


def three_bands(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts with the outer bands merged into low and high; of several values a fact's first, which is the sure one."""
    return {key: value.partition("|")[0].removeprefix("very_") for key, value in facts.items()}
