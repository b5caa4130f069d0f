"""Which profiles of prosody a clip fits, which it is far from, and which its label rules out: facts for the loss.

Without them nobody knows of any clip that it does not sound calm, and a caption that says so is never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from training.captions.lexicon import load_words, variants_in

ORDER = ("very_low", "low", "medium", "high", "very_high")
FAR = 2  # bands between a measure and the nearest that a profile needs, from which on the profile is denied
PREFIX = "profile."


@dataclass(frozen=True)
class Profile:
    """The bands that a profile needs, the hedged words for it, and the emotion labels that contradict it."""

    needs: Mapping[str, list[str]]
    words: list[str]
    against: list[str]


@cache
def profiles() -> dict[str, Profile]:
    """The profiles of `emotions.yaml`, by name."""
    table = load_words("emotions.yaml")["profiles"]
    return {name: Profile(p["needs"], variants_in(p["words"]), p["against"]) for name, p in table.items()}


def profile_facts(attributes: Mapping[str, str], emotion: str | None) -> dict[str, str]:
    """`profile.calm` and the like -> yes or no; what nobody can tell is left out.

    Yes where every need is measured and met, no where one is missed by two bands or more. Under a label only what it
    contradicts is told: an angry clip is not calm, whether it is agitated its label does not say.
    """
    facts: dict[str, str] = {}
    for name, profile in profiles().items():
        if emotion is not None:
            if emotion in profile.against:
                facts[PREFIX + name] = "no"
            continue
        gaps = [_gap(attributes.get(attribute), bands) for attribute, bands in profile.needs.items()]
        if any(gap is not None and gap >= FAR for gap in gaps):
            facts[PREFIX + name] = "no"
        elif all(gap == 0 for gap in gaps):
            facts[PREFIX + name] = "yes"
    return facts


def fitting(facts: Mapping[str, str]) -> list[str]:
    """Names of the profiles that `profile_facts` affirms, in the file's order."""
    return [name.removeprefix(PREFIX) for name, told in facts.items() if name.startswith(PREFIX) and told == "yes"]


def _gap(band: str | None, bands: list[str]) -> int | None:
    """Bands from `band` to the nearest of `bands`; None where nothing, or another scale, was measured."""
    return min(abs(ORDER.index(band) - ORDER.index(b)) for b in bands) if band in ORDER else None
