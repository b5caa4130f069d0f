"""The paper's classification prompts and close paraphrases, for labels that are known."""

from __future__ import annotations

import random
from typing import Any

from training.captions import lexicon
from training.captions.lexicon import with_article

GENDER: dict[str, list[str]] = {
    "male": ["A male speaker.", "A man is speaking.", "A male voice.", "The speaker is male.", "A man's voice."],
    "female": [
        "A female speaker.",
        "A woman is speaking.",
        "A female voice.",
        "The speaker is female.",
        "A woman's voice.",
    ],
}
MINOR = "minor"  # boys are no men: whether a child is male or female is a fact apart from gender
CHILD_UNDER, GROWN_FROM = 13, 18  # years; between them nobody is surely one or the other
CHILD = [
    "A child's voice.", "A child is speaking.", "A kid talking.", "A young child speaks.", "A child speaker.",
]  # fmt: skip
CHILD_OF = {
    "male": ["A boy.", "A little boy is speaking.", "A boy's voice."],
    "female": ["A young girl.", "A small girl is speaking.", "A girl's voice."],
}
# Upper age (exclusive) -> the paper's prompt and paraphrases.
AGE: list[tuple[int, str, list[str]]] = [
    (20, "young", ["A child or young teenager speaker.", "A child's voice.", "A very young speaker."]),
    (
        40,
        "adult",
        ["An adult speaker.", "An adult voice.", "A speaker in early adulthood.", "A young adult is speaking."],
    ),
    (60, "middle_aged", ["A middle-aged speaker.", "A middle-aged voice.", "A speaker of middle age."]),
    (
        200,
        "elder",
        ["An older or elder speaker.", "An elderly voice.", "A senior speaker.", "An old person is speaking."],
    ),
]


def years_of(label: Any) -> int | None:
    """Whole years of an age label; None for what tells none: a word, NaN, zero or less, 200 or more."""
    known = isinstance(label, int | float) and not isinstance(label, bool) and 0 < label < AGE[-1][0]
    return int(label) if known else None


def age_band(age: int) -> str:
    """young (under 20), adult (20-39), middle_aged (40-59) or elder: the paper's four bands."""
    return next(name for limit, name, _ in AGE if age < limit)


def prompts(
    gender: str | None, age: int | None, emotion: str | None, rng: random.Random, minor: str | None = None
) -> list[tuple[str, dict[str, str]]]:
    """(prompt, claims) for each known label: the paper's own wording and one paraphrase."""
    made: list[tuple[str, dict[str, str]]] = []
    if emotion is not None:
        claims = {"emotion": emotion}
        words = lexicon.emotion_words()[emotion]
        adjective = rng.choice(words["adj"])
        made.append((f"A speaker in {with_article(words['prompt'][0])} tone.", claims))
        made.append((f"A speaker in {with_article(rng.choice(words['adj']))} tone.", claims))
        paraphrases = [
            f"{with_article(adjective).capitalize()} speaker.",
            f"Someone speaking {rng.choice(words['adv'])}.",
            f"The speaker sounds {adjective}.",
            f"{with_article(adjective).capitalize()} voice.",
            f"The tone of voice expresses {rng.choice(words['noun'])}.",
        ]
        made.append((rng.choice(paraphrases), claims))
        if gender is not None:
            person = rng.choice(["man", "male speaker"] if gender == "male" else ["woman", "female speaker"])
            both = [
                f"A {person} in {with_article(rng.choice(words['adj']))} tone.",
                f"{with_article(rng.choice(words['adj'])).capitalize()} {person}.",
                f"A {person} speaking {rng.choice(words['adv'])}.",
            ]
            made.append((rng.choice(both), {"emotion": emotion, "gender": gender}))
    child = age is not None and age < CHILD_UNDER
    if child:
        made += [(text, {"child": "yes"}) for text in rng.sample(CHILD, 2)]
        if minor is not None:
            made.append((rng.choice(CHILD_OF[minor]), {"child": "yes", MINOR: minor}))
    if gender is not None:
        paper, *others = GENDER[gender]
        made += [(paper, {"gender": gender}), (rng.choice(others), {"gender": gender})]
    if age is not None:
        _, band, texts = next(row for row in AGE if age < row[0])
        made += [(texts[0], {"age": band}), (rng.choice(texts[1:]), {"age": band})]
    return made
