"""Captions of a manifest's row, from the row alone: words can change without building its audio anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from training.captions import writer
from training.captions.bursts import BURST, write_bursts
from training.captions.listeners import PREFIX, write_listeners
from training.captions.prompts import CHILD_UNDER, MINOR
from training.captions.queries import write_queries
from training.corpus.data import DataRecipe, Row, read_manifest, stable_seed
from training.objective.examples import facts_of

ADULT_BANDS = ("pitch", "brightness")  # told within the gender of grown-ups
RAISED = ("high", "very_high")


def captions_of(row: Row, recipe: DataRecipe) -> list[writer.Caption]:
    """All captions of a row, its own left aside: the same for the same facts and recipe."""
    seed = str(stable_seed(recipe.seed, "row", row.id))
    if category := row.facts.get(BURST):
        made = write_bursts(category, seed=seed)
    else:
        made = writer.write(_told(row), seed=seed, short=recipe.short_captions, fine=recipe.fine_captions)
        made += write_listeners(row.facts, row.gender, seed=seed)
    return made + write_queries(facts_of(asdict(row)), seed=seed, count=recipe.queries)


def known_facts(facts: dict[str, str], kind: str) -> dict[str, str]:
    """What is known of a clip that is also known of a version of this kind: listeners heard the voice as it was."""
    return {k: v for k, v in facts.items() if kind == "source" or not k.startswith(PREFIX)}


def child_attributes(attributes: dict[str, str], age: int | None) -> dict[str, str]:
    """A child's voice is high beside grown-ups': what says otherwise compares it with the wrong people."""
    if age is None or age >= CHILD_UNDER:
        return attributes
    return {k: v for k, v in attributes.items() if k not in ADULT_BANDS or v in RAISED}


def recaption(folder: Path, recipe: DataRecipe) -> int:
    """Write the captions of a build anew, in place; returns the number of rows."""
    rows = [replace(row, captions=[asdict(c) for c in captions_of(row, recipe)]) for row in _rows(folder)]
    fresh = folder / "manifest.tmp"
    text = (json.dumps(asdict(row), ensure_ascii=False, separators=(",", ":")) for row in rows)
    fresh.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    fresh.replace(folder / "manifest.jsonl")
    return len(rows)


def _rows(folder: Path) -> Iterator[Row]:
    return read_manifest(folder / "manifest.jsonl")


def _told(row: Row) -> writer.Facts:
    parts = row.parts or {}
    return writer.Facts(
        attributes=row.attributes,
        gender=row.gender,
        age=row.age,
        emotion=row.emotion,
        accent=row.accent,
        minor=row.facts.get(MINOR),
        **{k: parts[k] for k in ("first", "second", "change") if k in parts},
    )
