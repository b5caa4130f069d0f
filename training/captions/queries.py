"""Short searches in the words of users, for what is known of a clip: single adjectives, idioms, questions, requests."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

from training.captions.lexicon import join, load_words, variants_in, with_article
from training.captions.writer import NOUNS, Caption

FORMS = ("adj", "phrase")
ASK = ("find me {}", "show me {}", "i'm looking for {}", "any clip of {}?", "{} please", "we need {}", "{}", "{}", "{}")


@cache
def bank() -> dict[str, dict[str, dict[str, list[str]]]]:
    """attribute -> value -> form (adj: before "voice"; phrase: stands alone) -> variants, of `queries.yaml`."""
    return {
        attribute: {
            value: {form: variants_in(forms[form]) for form in FORMS if form in forms}
            for value, forms in values.items()
        }
        for attribute, values in load_words("queries.yaml").items()
    }


def write_queries(facts: Mapping[str, str], *, seed: str, count: int = 4) -> list[Caption]:
    """Up to `count` searches that are true of a clip, each with its claims. Of several values the first is meant."""
    rng = random.Random(f"query {seed}")
    known = {a: v.partition("|")[0] for a, v in facts.items()}
    told = [(a, v) for a, v in known.items() if v in bank().get(a, {})]
    found: dict[str, Caption] = {}
    for _ in range(3 * count if told else 0):
        if len(found) >= count:
            break
        picked = rng.sample(told, min(len(told), rng.choice((1, 1, 1, 2))))
        text, claims = _phrase(picked, known.get("gender") if facts.get("speech") != "no" else None, rng)
        found.setdefault(text, Caption(text, "query", claims))
    return list(found.values())


def _phrase(picked: list[tuple[str, str]], gender: str | None, rng: random.Random) -> tuple[str, dict[str, str]]:
    claims = dict(picked)
    forms = [bank()[attribute][value] for attribute, value in picked]
    if len(picked) == 1 and (rng.random() < 0.5 or "adj" not in forms[0]):
        own = rng.choice(forms[0].get("phrase") or forms[0]["adj"])
        return _asked(own, rng) if rng.random() < 0.3 else own, claims
    words = [rng.choice(form.get("adj") or form["phrase"]) for form in forms]
    if rng.random() < 0.3:
        return rng.choice([join(words), f"sounds {join(words)}", f"who sounds {join(words)}?"]), claims
    said = gender if gender in ("male", "female") and "child" not in claims and rng.random() < 0.4 else None
    if said:
        claims["gender"] = said
    noun = rng.choice(NOUNS[said]) if said or rng.random() < 0.5 else "voice"
    adjectives = [w for w, form in zip(words, forms, strict=True) if "adj" in form]
    others = [w for w, form in zip(words, forms, strict=True) if "adj" not in form]
    text = with_article(f"{', '.join(adjectives)} {noun}".strip()) + (f", {join(others)}" if others else "")
    return _asked(text, rng), claims


def _asked(text: str, rng: random.Random) -> str:
    return rng.choice(ASK).format(text)
