"""Reads what a caption claims about a voice: attribute by attribute, with negations, and whom it speaks of."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from service.style.family import Family
from service.style.lexicon import FAMILIES

_INTENSITY = r"(?:(?:very|extremely|unusually|quite|rather|slightly|fairly|really|so|too|a bit) )?"
_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely)\b)|no|never|neither|nor|without|nothing|cannot|less|rather than|instead of"
    r"|(?:is|are|was|were|does|do|did|ca|wo|should|would|must)n't)(?!\w)",
    re.IGNORECASE,
)
_UP_TO_THREE_WORDS = re.compile(r"(?:\W+\w[\w'-]*){0,3}\W*")
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
    negated = _Zones(_negated(caption))
    found: list[tuple[int, int, Claim]] = []
    for family in FAMILIES:
        elsewhere = _Zones(_elsewhere(family, caption))
        matches = [
            (match.start(), match.end(), value.name, match[0])
            for value in family.values
            for match in _pattern(family, value.name).finditer(caption)
            if match.start() not in elsewhere
        ]
        matches.sort(key=lambda match: (match[0] - match[1], match[0]))
        taken = bytearray(len(caption))
        for start, end, name, phrase in matches:
            if any(taken[start:end]):
                continue
            taken[start:end] = b"\1" * (end - start)
            found.append((start, end, Claim(family.name, name, phrase, start in negated)))
    distinct: dict[tuple[str, str, bool], Claim] = {}
    for _, _, claim in sorted(found, key=lambda one: one[:2]):
        distinct.setdefault((claim.family, claim.value, claim.negated), claim)
    return list(distinct.values())


class _Zones:
    """Where in a caption a claim may begin to be under the sway of what stands before it.

    Found once a caption: looking back from each claim would read a caption as often as it has claims.
    """

    def __init__(self, zones: Iterable[tuple[int, int]]) -> None:
        """`zones`: first and last place of each, both ever further on."""
        found = list(zones)
        self._first, self._last = [first for first, _ in found], [last for _, last in found]

    def __contains__(self, place: int) -> bool:
        zone = bisect_right(self._first, place) - 1
        return zone >= 0 and place <= self._last[zone]


def _elsewhere(family: Family, caption: str) -> Iterator[tuple[int, int]]:
    """Where what follows is said of something else: "Volume: low"."""
    if family.elsewhere:
        label = rf"\b(?P<label>{family.elsewhere})(?:\s+(?:is|was|stays|remains))?\W*"
        for match in re.finditer(label, caption, re.IGNORECASE):
            yield match.end("label"), match.end()


def _negated(caption: str) -> Iterator[tuple[int, int]]:
    """Where what follows is denied: up to three words after the negation, in the same clause."""
    clauses = [match.end() for match in _CLAUSE.finditer(caption)]
    for match in _NEGATION.finditer(caption):
        reach = _UP_TO_THREE_WORDS.match(caption, match.end())
        assert reach is not None  # it matches nothing too
        clause = bisect_right(clauses, match.end())
        yield match.end(), reach.end() if clause == len(clauses) else min(reach.end(), clauses[clause] - 1)


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
