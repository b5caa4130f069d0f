"""Captions of vocal bursts: laughs, sighs, cries and gasps are told as what they are, never as speech."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from training.captions import lexicon
from training.captions.lexicon import join, load_words, sentence, variants_in, with_article
from training.captions.writer import Caption

BURST = "burst"
WHO = ("a person", "someone", "somebody", "a voice")
FRAMES = (
    "{who} {sound} in {feeling}",
    "{who} {sound}, sounding {adj}",
    "{who} {sound}",
    "a vocal burst of {feeling}",
    "{who} makes a sound of {feeling}",
    "a wordless sound, {adj}",
    "{adj}",
    "a cry, laugh or sigh that tells of {feeling}",
)


@dataclass(frozen=True)
class Category:
    """A kind of burst: its words, and what it says of the emotion labels (see `bursts.yaml`)."""

    emotion: str
    sound: tuple[str, ...]
    feeling: tuple[str, ...]
    adj: tuple[str, ...]


@cache
def categories() -> dict[str, Category]:
    """The categories of `bursts.yaml`, by name."""
    return {
        name: Category(
            emotion=str(words["emotion"]), **{k: tuple(variants_in(words[k])) for k in ("sound", "feeling", "adj")}
        )
        for name, words in load_words("bursts.yaml").items()
    }


def burst_facts(category: str) -> dict[str, str]:
    """What is known of a burst: that it is one, of which category, and the labels that it may have."""
    return {BURST: category, "emotion": categories()[category].emotion, "speech": "no"}


def write_bursts(category: str, *, seed: str, count: int = 5) -> list[Caption]:
    """`count` captions of a category, and the label's own prompts where one label is surely true."""
    rng = random.Random(seed)
    words = categories()[category]
    found: dict[str, Caption] = {}
    claims = {BURST: category}
    for _ in range(count * 4):
        if len(found) >= count:
            break
        frame = rng.choice(FRAMES)
        text = frame.format(
            who=rng.choice(WHO),
            sound=rng.choice(words.sound),
            feeling=rng.choice(words.feeling),
            adj=join(rng.sample(words.adj, min(len(words.adj), rng.choice((1, 1, 2))))),
        )
        found.setdefault(sentence(text), Caption(sentence(text), "burst", dict(claims)))
    for text in _prompts(words.emotion, rng):
        found.setdefault(text, Caption(text, "prompt", {"emotion": words.emotion.partition("|")[0]}))
    return list(found.values())


def _prompts(emotion: str, rng: random.Random) -> list[str]:
    told = emotion.partition("|")[0]
    known: Mapping[str, Mapping[str, list[str]]] = lexicon.emotion_words()
    if told not in known:
        return []
    words = known[told]
    adjective = rng.choice(words["adj"])
    return [
        f"A speaker in {with_article(words['prompt'][0])} tone.",
        f"{with_article(adjective).capitalize()} voice.",
        rng.choice([f"Somebody who sounds {rng.choice(words['adj'])}.", f"A tone of {rng.choice(words['noun'])}."]),
    ]
