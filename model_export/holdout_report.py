"""Figures of models that were trained without a corpus, or a sex of it, in a bundle's provenance and on its card."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from model_export.amend import amend
from model_export.bundle import Bundle

KEY = "left_out"
"""Where a bundle's provenance has them."""
TITLE = "## Strangers: a whole corpus, or a sex of it, left out"


class LeftOut(BaseModel):
    """What `training.evaluation.holdout_report --out` writes: reports on clips left out, by condition."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    version: str
    steps: int
    recipe_steps: int
    seeds: list[int] = []
    by_seed: dict[str, dict[str, list[float]]] = {}
    mean: list[float] = []
    left_out: dict[str, dict[str, Any]]


def read_left_out(path: Path) -> LeftOut:
    """Read such a file. Raises OSError, or ValueError naming what is missing."""
    return LeftOut.model_validate_json(path.read_bytes())


def strangers_section(found: Mapping[str, Any] | None) -> list[str]:
    """The card's section, a row for each condition, task and measure; nothing where nobody left anything out."""
    if not found:
        return []
    told = LeftOut.model_validate(found)
    length = f"{told.steps}" if told.steps == told.recipe_steps else f"{told.steps} of its {told.recipe_steps}"
    lines = [
        "",
        TITLE,
        "",
        f"The recipe of {told.recipe} {told.version}, trained anew without the clips named, nor any other of their "
        f"speakers, in {length} steps, and asked about them. Many clips are copies of one recording by few speakers: "
        "the truth is wider than the intervals, which are over clips.",
        "",
        "| left out | task | clips | measure | % | 95 % interval | chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    if told.mean:
        each = ", ".join(f"{value:g}" for value in told.mean)
        lines[5:5] = [f"Mean over all of it, of each task's UAR: {each} % (seeds {told.seeds}).", ""]
    for condition, tasks in told.left_out.items():
        for task, values in tasks.items():
            for measure, one in values.items() if isinstance(values, dict) else ():
                if isinstance(one, dict) and "value" in one:
                    interval = f"{one['low']} to {one['high']}"
                    cells = [condition, task, values["clips"], measure, one["value"], interval, one["chance"]]
                    lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def add_left_out(bundle: Bundle, found: LeftOut) -> Bundle:
    """Write figures into a bundle on disk, in place of older ones. Raises OSError where that can't be done."""

    def rewritten(card: str) -> str:
        kept = re.sub(rf"\n*{re.escape(TITLE)}\n.*?(?=\n## |\Z)", "\n", card, flags=re.S)
        before, calibration, after = kept.partition("\n## Calibration\n")
        lines = "\n".join(strangers_section(found.model_dump()))
        return before.rstrip("\n") + "\n" + lines + "\n" + calibration + after

    provenance = bundle.manifest.provenance | {KEY: found.model_dump()}
    return amend(bundle, rewritten, provenance=provenance)
