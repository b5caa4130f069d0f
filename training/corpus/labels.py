"""What corpora say of their clips, in the vocabulary of captions: ages, accents, sexes, listeners' words, bursts."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from training.captions.attributes import Sample
from training.captions.bursts import burst_facts
from training.captions.gender import estimate_gender
from training.captions.listeners import listener_facts
from training.captions.prompts import CHILD_UNDER, GROWN_FROM, MINOR
from training.corpus.data import SourceRecipe

log = logging.getLogger(__name__)
DECADES = {
    "teens": 15, "twenties": 25, "thirties": 35, "forties": 45, "fifties": 55, "sixties": 65, "seventies": 75,
}  # fmt: skip
# How the accents that speakers or corpora state begin -> what listeners would call them. "English, Surrey" is British;
# accents of synthetic voices' homes are unchecked and left out.
ACCENTS = (
    ("USA/", "American"),
    ("American", "American"),
    ("United States", "American"),
    ("British", "British"),
    ("England", "British"),
    ("English,", "British"),
    ("Liverpool", "British"),
    ("Northumbrian", "British"),
    ("Scottish", "Scottish"),
    ("Irish", "Irish"),
    ("NorthernIrish", "Northern Irish"),
    ("Northern Irish", "Northern Irish"),
    ("Welsh", "Welsh"),
    ("Canadian", "Canadian"),
    ("Ontario", "Canadian"),
    ("Indian", "Indian"),
    ("India and", "Indian"),
    ("SouthAfrican", "South African"),
    ("Southern African", "South African"),
    ("Australian", "Australian"),
    ("NewZealand", "New Zealand"),
    ("New Zealand", "New Zealand"),
    ("Nigerian", "Nigerian"),
    ("Filipino", "Filipino"),
    ("Singaporean", "Singaporean"),
    ("Malaysian", "Malaysian"),
    ("West Indies", "Caribbean"),
    ("Hong Kong", "Chinese"),
    ("Mandarin", "Chinese"),
    ("French English", "French"),
    ("BEL/French", "French"),
    ("DEU/German", "German"),
    ("South German", "German"),
    ("GRC/Greek", "Greek"),
)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def accent_of(label: str | None) -> str | None:
    """A corpus's accent as listeners would name it; None for what they would not, or nobody checked."""
    return next((name for start, name in ACCENTS if label and label.startswith(start)), None)


def age_of(label: Any) -> int | None:
    """Years of an age label: a number, a decade's word, or the middle of a range such as 50-70."""
    if isinstance(label, str):
        low, dash, high = label.partition("-")
        if dash and low.isdigit() and high.isdigit():
            return (int(low) + int(high)) // 2
        return DECADES.get(label)
    return label if isinstance(label, int) else None


def labels_of(row: dict[str, Any], source: SourceRecipe, shared: Path) -> dict[str, Any]:
    """The labels of a clip that a corpus's recipe changes or adds: gender, age, emotion and further facts."""
    gender = row["gender"] if source.gender_labels else None
    if source.gender_table:
        gender = _genders(shared / source.gender_table).get(row["path"], gender)
    age = age_of(row["age"])
    facts: dict[str, str] = {}
    if source.adults or (age is not None and age >= GROWN_FROM):
        facts["child"] = "no"
    elif age is not None and age < CHILD_UNDER:
        facts["child"] = "yes"
        if gender is not None:
            facts[MINOR] = gender
        gender = None
    if source.listeners:
        facts |= listener_facts(_words(shared / source.listeners).get(row["speaker"], []))
    if source.bursts:
        facts |= burst_facts(row["emotion"])
    return {"gender": gender, "age": age, "emotion": None if source.bursts else row["emotion"], "facts": facts}


@cache
def _genders(table: Path) -> dict[str, str]:
    return {row["path"]: row["gender"] for row in json_lines(table)}


@cache
def _words(table: Path) -> dict[str, list[list[str]]]:
    """Each listener's words of each speaker, where the authors kept the speaker and the sex that was heard agrees."""
    rows = [row for row in json_lines(table) if not row["excluded_by_authors"]]
    return {row["speaker"]: row["words_by_annotator"] for row in rows if row["gender_heard"] == row["gender"]}


def warn_of_contradicted_labels(samples: Sequence[Sample]) -> None:
    """A speaker whose clips mostly measure as the other gender is worth a look at the corpus."""
    told: dict[str, list[bool]] = {}
    for sample in samples:
        guess = estimate_gender(sample.measures)
        if guess is not None and sample.gender is not None:
            told.setdefault(sample.speaker, []).append(guess != sample.gender)
    for speaker, wrong in told.items():
        if sum(wrong) >= 3 and sum(wrong) > len(wrong) / 2:
            log.warning("%s: labelled otherwise than %d of %d clips measure", speaker, sum(wrong), len(wrong))
