"""The bundle's README.md: what the weights saw, what they can hear, and the figures, from the checkpoint's card."""

from collections.abc import Mapping
from typing import Any

from model_export.bundle import Calibration
from model_export.holdout_report import KEY, strangers_section
from training.model.checkpoint import Card

ORDER = ("text_to_speech", "gender", "child", "emotion", "pitch", "rate")


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
    lines += strangers_section(provenance.get(KEY))
    lines += calibration_section(Calibration.model_validate(card.calibration))
    return "\n".join(lines) + "\n"


def calibration_section(fitted: Calibration) -> list[str]:
    """What a match probability is worth, or that nobody has measured it."""
    lines = ["", "## Calibration", ""]
    error = fitted.expected_calibration_error
    if error is None:
        return [
            *lines,
            "Nothing is recorded of pairs behind the match probability: read it as a rank, or run `clsp calibrate`.",
        ]
    lines += [
        "The probability that a text describes a clip, fitted on held-out pairs of which half mismatch. The error is "
        "the expected calibration error on clips left out of the fit, with its 95 % interval.",
        "",
        "| texts | sigmoid of | pairs | error, % | 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in (("captions", fitted), ("labels", fitted.labels)):
        if one is not None and (error := one.expected_calibration_error) is not None:
            lines.append(
                f"| {name} | {one.scale:g} x cosine {one.bias:+g} | {one.pairs} | {100 * error.value:.2f} | "
                f"{100 * error.low:.2f} to {100 * error.high:.2f} |"
            )
    return lines


def figures(report: Mapping[str, Any]) -> list[str]:
    """A table row for each source and measure, next to chance, with its 95 % bootstrap interval.

    Sources stay apart: one figure over corpora that have nothing in common says nothing.
    """
    lines = [
        "| source | task | clips | measure | % | 95 % interval | chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source, tasks in report.items():
        for task in ORDER if source != "all" else ():
            for measure, value in tasks.get(task, {}).items():
                if isinstance(value, dict) and "value" in value:
                    interval = f"{value['low']} to {value['high']}"
                    cells = [source, task, tasks[task]["clips"], measure, value["value"], interval, value["chance"]]
                    lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
