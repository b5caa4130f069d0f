"""Reads what a caption claims about a voice: attribute by attribute, with negations, and whom it speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from service.style.family import Family
from service.style.lexicon import FAMILIES

_INTENSITY = r"(?:(?:very|extremely|unusually|quite|rather|slightly|fairly|really|so|too|a bit) )?"
_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely)\b)|no|never|neither|nor|without|nothing|cannot|less|rather than|instead of"
    r"|(?:is|are|was|were|does|do|did|ca|wo|should|would|must)n't)"
    r"(?:\W+[\w'-]+){0,3}\W*$",
    re.IGNORECASE,
)
_APOSTROPHES = re.compile("[\u2018\u2019\u02bc]")
# A negation reaches no further than its own clause: "not fast, but loud" claims loud.
_CLAUSE = re.compile(r"[.,;:!?]|\bbut\b|\band then\b|\bthen\b", re.I)


@dataclass(frozen=True)
class Claim:
    """A caption says `value` of `family` in the words `phrase`; `negated` where it says that it is not so."""

    family: str
    value: str
    phrase: str
    negated: bool = False


@cache
def _pattern(family: Family, value: str) -> re.Pattern[str]:
    words = "|".join(family.value(value).words)
    return re.compile(rf"(?<![\w-]){_INTENSITY}(?:{words})(?![\w-])", re.IGNORECASE)


def read_claims(caption: str) -> list[Claim]:
    """The claims of a caption, in its order; each family's value once.

    Where two values of a family match the same words, the longer match counts ("a high, clear voice" is about pitch
    once). Words that no family knows claim nothing: see the limits in docs/gates.md.
    """
    caption = _APOSTROPHES.sub("'", caption)
    found: list[tuple[int, int, Claim]] = []
    for family in FAMILIES:
        matches = [
            (match.start(), match.end(), value.name, match[0])
            for value in family.values
            for match in _pattern(family, value.name).finditer(caption)
            if not _is_elsewhere(family, caption[: match.start()])
        ]
        matches.sort(key=lambda match: (match[0] - match[1], match[0]))
        taken: list[tuple[int, int]] = []
        for start, end, name, phrase in matches:
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            taken.append((start, end))
            found.append((start, end, Claim(family.name, name, phrase, _is_negated(caption[:start]))))
    distinct: dict[tuple[str, str, bool], Claim] = {}
    for _, _, claim in sorted(found, key=lambda one: one[:2]):
        distinct.setdefault((claim.family, claim.value, claim.negated), claim)
    return list(distinct.values())


def _is_elsewhere(family: Family, before: str) -> bool:
    """Whether what follows is said of something else: "Volume: low"."""
    label = rf"\b(?:{family.elsewhere})(?:\s+(?:is|was|stays|remains))?\W*$"
    return bool(family.elsewhere) and re.search(label, before, re.IGNORECASE) is not None


def _is_negated(before: str) -> bool:
    clause = _CLAUSE.split(before)[-1]
    return _NEGATION.search(clause) is not None


def subject(claims: Iterable[Claim]) -> str:
    """Whom the caption speaks of, so that prompts speak of the same: "A woman", "A man" or "A person"."""
    genders = {claim.value for claim in claims if claim.family == "gender" and not claim.negated}
    if len(genders) != 1:
        return "A person"
    return "A woman" if genders == {"female"} else "A man"


def prompts(family: Family, who: str) -> dict[str, list[str]]:
    """Sentences to ask the model with, by value of the family."""
    if family.name == "gender":  # the subject would give the answer away
        return {"female": ["A female speaker.", "A woman speaks."], "male": ["A male speaker.", "A man speaks."]}
    return {value.name: [f"{who} {predicate}." for predicate in value.predicates] for value in family.values}
