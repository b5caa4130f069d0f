"""Words that listeners chose for a voice as facts and captions: two who agree make a fact, silence makes none."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from training.captions.lexicon import join, sentence, with_article
from training.captions.writer import NOUNS, Caption

PREFIX = "heard."
AGREED = 2  # listeners
# Opposites share an attribute, so that one denies the other; the words themselves are what listeners ticked.
OPPOSITES = {
    "thick": "body", "thin": "body", "soft": "touch", "hard": "touch", "bright": "light", "dark": "light",
    "powerful": "force", "weak": "force", "fluent": "flow", "halting": "flow", "tensed": "tension",
    "relaxed": "tension", "clear": "clarity", "muffled": "clarity", "young": "years", "middle-aged": "years",
    "old": "years",
}  # fmt: skip
# Listeners disagree about these, and nobody should search by them.
LEFT_OUT = {"sexy", "wild", "cute", "masculine", "feminine", "gender-neutral", "unique", "cool"}
SYNONYMS = {
    "adult-like": ("grown-up", "adult"), "calm": ("calm", "composed", "quiet-natured"),
    "friendly": ("friendly", "warm-hearted", "approachable"), "intellectual": ("intellectual", "educated", "learned"),
    "lively": ("lively", "spirited"), "tensed": ("tense", "strained"), "fluent": ("fluent", "flowing"),
    "clear": ("clear", "distinct"), "powerful": ("powerful", "strong", "commanding"), "sincere": ("sincere", "earnest"),
    "reassuring": ("reassuring", "trustworthy"), "kind": ("kind", "kindly", "good-natured"),
    "elegant": ("elegant", "refined", "graceful"), "bright": ("bright",), "refreshing": ("fresh", "refreshing"),
    "thick": ("thick", "full-bodied"), "thin": ("thin", "slight"), "mature": ("mature", "seasoned"),
    "soft": ("soft", "mild"), "raspy": ("raspy", "rasping", "rough"), "middle-aged": ("middle-aged",),
    "modest": ("modest", "unassuming"), "sharp": ("sharp", "keen"), "sweet": ("sweet",), "hard": ("hard", "firm"),
    "muffled": ("muffled", "dull"), "intense": ("intense", "passionate"), "weak": ("weak", "feeble"),
    "strict": ("strict", "stern", "severe"), "relaxed": ("relaxed", "easy-going"), "dark": ("dark", "sombre"),
    "young": ("young", "youthful"), "halting": ("halting", "faltering"), "light": ("light",), "old": ("old", "aged"),
    "nasal": ("nasal", "through the nose"),
}  # fmt: skip


def listener_facts(told: Sequence[Sequence[str]]) -> dict[str, str]:
    """`heard.calm: yes`, `heard.body: thick` and the like from each listener's words; contradictions tell nothing."""
    words = Counter(word for own in told for word in {w.removeprefix("slightly ").removeprefix("very ") for w in own})
    agreed = [word for word, count in words.items() if count >= AGREED and word not in LEFT_OUT]
    facts: dict[str, str] = {}
    twice = set()
    for word in agreed:
        attribute = PREFIX + OPPOSITES.get(word, word)
        twice |= {attribute} & facts.keys()
        facts[attribute] = word if word in OPPOSITES else "yes"
    return {attribute: value for attribute, value in sorted(facts.items()) if attribute not in twice}


def write_listeners(facts: Mapping[str, str], gender: str | None, *, seed: str, count: int = 3) -> list[Caption]:
    """Up to `count` captions of one to three words that listeners agreed on; none where there are no such words."""
    told = {k: v for k, v in facts.items() if k.startswith(PREFIX)}
    rng = random.Random(seed)
    found: dict[str, Caption] = {}
    for _ in range(count * 3 if told else 0):
        if len(found) >= count:
            break
        picked = rng.sample(sorted(told), min(len(told), rng.choice((1, 1, 2, 3))))
        claims = {name: told[name] for name in picked}
        adjectives = [_word(name, told[name], rng) for name in picked]
        said = gender if rng.random() < 0.6 else None
        if said:
            claims["gender"] = said
        noun = rng.choice(NOUNS[said])
        text = rng.choice(
            [
                f"{with_article(', '.join(adjectives))} {noun}",
                f"{with_article(noun)} that listeners call {join(adjectives)}",
                f"{with_article(noun)} who sounds {join(adjectives)}",
                f"{', '.join(adjectives)} voice" if said is None else f"{', '.join(adjectives)} {noun}",
                f"people hear {with_article(noun)} that is {join(adjectives)}",
            ]
        )
        found.setdefault(sentence(text), Caption(sentence(text), "listener", claims))
    return list(found.values())


def _word(name: str, value: str, rng: random.Random) -> str:
    word = name.removeprefix(PREFIX) if value == "yes" else value
    return rng.choice(SYNONYMS.get(word, (word,)))
