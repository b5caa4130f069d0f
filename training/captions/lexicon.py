"""The words of `lexicon.yaml` and `emotions.yaml`, read once and checked, and the few rules of English they need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FORMS = ("adj", "adv", "np", "clause")
_HERE = Path(__file__).parent

# What captions never say: a statement of absence teaches a contrastive model nothing about the voice it hears.
NEGATION = re.compile(
    r"\b(no|not|cannot|none|nothing|nobody|nowhere|never|neither|nor|without|lacks?|lacking|absent|absence|hardly|\w+n't)\b",
    re.IGNORECASE,
)


@cache
def attribute_words() -> dict[str, dict[str, dict[str, list[str]]]]:
    """attribute -> value -> form (adj, adv, np, clause) -> variants. Raises ValueError for a missing form."""
    table = {
        attribute: {value: {form: variants_in(text) for form, text in forms.items()} for value, forms in values.items()}
        for attribute, values in load_words("lexicon.yaml")["attributes"].items()
    }
    for attribute, values in table.items():
        for value, forms in values.items():
            if tuple(forms) != FORMS:
                raise ValueError(f"lexicon: {attribute}.{value} needs the forms {', '.join(FORMS)}")
    return table


@cache
def change_words() -> dict[str, dict[str, list[str]]]:
    """attribute -> direction -> clauses that tell of a change."""
    changes = load_words("lexicon.yaml")["changes"]
    return {a: {direction: variants_in(text) for direction, text in values.items()} for a, values in changes.items()}


@cache
def emotion_words() -> dict[str, dict[str, list[str]]]:
    """label -> prompt, adj, adv, noun -> variants."""
    labels = load_words("emotions.yaml")["labels"]
    return {label: {form: variants_in(text) for form, text in forms.items()} for label, forms in labels.items()}


def with_article(phrase: str) -> str:
    """'deep voice' -> 'a deep voice'."""
    vowel = phrase[:1].lower() in "aeiou" and not re.match("uni|use|eu|one", phrase.lower())
    return f"{'an' if vowel else 'a'} {phrase}"


def join(parts: Iterable[str], last: str = " and ") -> str:
    """'x', 'x and y', 'x, y and z'."""
    items = list(parts)
    return last.join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def sentence(text: str) -> str:
    """First letter raised, one full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('. ')}."


def load_words(name: str) -> Any:
    """The YAML file of that name beside this module."""
    return yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))


def variants_in(text: str) -> list[str]:
    """'deep|low' -> ['deep', 'low']."""
    return [part.strip() for part in text.split("|")]
