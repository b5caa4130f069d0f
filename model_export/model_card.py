"""The bundle's README.md: what the weights saw, what they can hear, and the figures, from the checkpoint's card."""

from collections.abc import Mapping
from typing import Any

from training.checkpoint import Card

ORDER = ("text_to_speech", "gender", "emotion", "pitch", "rate")


def model_card(card: Card, precision: str, size_mb: float) -> str:
    """Markdown for a person who decides whether to use the bundle."""
    provenance = card.provenance
    lines = [
        f"# {card.name} {card.version}",
        "",
        provenance.get("summary", "A CLSP bundle: speech and captions in one space."),
        "",
    ]
    lines += [
        f"Licence: {card.licence}. Weights: {precision}, {size_mb:.1f} MB. "
        f"Windows of {card.window_s:g} s, hop {card.hop_s:g} s."
    ]
    for title, key in (("Towers", "towers"), ("Data", "data"), ("Training clips by source", "clips")):
        rows = provenance.get(key)
        if rows:
            lines += ["", f"## {title}", "", *(f"- {name}: {value}" for name, value in rows.items())]
    if provenance.get("limits"):
        lines += ["", "## What it can't hear well", "", *(f"- {line}" for line in provenance["limits"])]
    for split, report in provenance.get("held_out", {}).items():
        if split in ("dev", "test"):
            lines += ["", f"## Held-out figures, {split} split (speakers never trained on)", "", *figures(report)]
    error = provenance.get("held_out", {}).get("calibration", {}).get("expected_calibration_error")
    if error is not None:
        lines += ["", f"Expected calibration error of the match probability on dev pairs: {error}."]
    return "\n".join(lines) + "\n"


def figures(report: Mapping[str, Any]) -> list[str]:
    """A table row for each source and measure, next to chance, with its 95 % bootstrap interval."""
    lines = [
        "| source | task | clips | measure | % | 95 % interval | chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source, tasks in report.items():
        for task in ORDER:
            for measure, value in tasks.get(task, {}).items():
                if isinstance(value, dict):
                    interval = f"{value['low']} to {value['high']}"
                    cells = [source, task, tasks[task]["clips"], measure, value["value"], interval, value["chance"]]
                    lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
