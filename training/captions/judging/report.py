"""Judgements to figures: the paper's table of three criteria, differences, win rates, the judge's own reliability."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.captions.judging import statistics
from training.captions.judging.judge import CRITERIA
from training.captions.judging.session import Judgement, sets_of

Array = NDArray[np.float64]


def summarise(rows: Sequence[Judgement], *, seed: int = 0) -> dict[str, Any]:
    """All figures of a session. Only clips that every set has a grade of count, so that sets are compared fairly."""
    names = sets_of(rows)
    grades = {c: _grades(rows, names, c) for c in CRITERIA}
    fair = [i for i in _clips(rows) if names and all(i in grades[CRITERIA[0]][n] for n in names)]
    failed = [row for row in rows if row.get("failed")]
    told: dict[str, Any] = {
        "sets": names,
        "clips": len(fair),
        "coverage": {
            "asked": len(rows),
            "judged": len(rows) - len(failed),
            "clips_left_out": len(_clips(rows)) - len(fair),
        },
        "failures": sorted({str(row["failed"]) for row in failed})[:20],
    }
    if fair:
        told["grades"] = {
            n: {c: asdict(statistics.bootstrap(_means(grades[c][n], fair), seed=seed)) for c in CRITERIA} for n in names
        }
        told["agreement"] = {c: _agreement(grades[c], names, fair) for c in CRITERIA}
        told["caption_characters"] = {n: _characters(rows, n) for n in names}
        told["pairs"] = {f"{a} - {b}": _pair(rows, grades, fair, a, b, seed) for a, b in combinations(names, 2)}
    return told


def markdown(told: dict[str, Any]) -> str:
    """For people: the table first, then how far to trust it."""
    seen = told["coverage"]
    lines = [
        "# Judgement of captions",
        "",
        f"{told['clips']} clips; {seen['judged']} of {seen['asked']} judgements came back, "
        f"{seen['clips_left_out']} clips left out. Intervals: 95 %, bootstrap over clips.",
    ]
    if not told["clips"]:
        return "\n".join([*lines, "", *[f"- {text}" for text in told["failures"]]]) + "\n"
    lines += ["", f"| captions | {' | '.join(CRITERIA)} | characters |", "| --- |" + " ---: |" * (len(CRITERIA) + 1)]
    for name, by in told["grades"].items():
        cells = " | ".join(str(statistics.Interval(**by[c])) for c in CRITERIA)
        lines.append(f"| {name} | {cells} | {told['caption_characters'][name]:.0f} |")
    for pair, by in told["pairs"].items():
        lines += ["", f"## {pair}", "", "| criterion | difference | p |", "| --- | ---: | ---: |"]
        lines += [f"| {c} | {statistics.Interval(**d['difference'])} | {d['p']:.4f} |" for c, d in by["grades"].items()]
        if by.get("comparison"):
            won, first, same = (
                statistics.Interval(**by["comparison"][k]) for k in ("win_rate", "first_rate", "consistent")
            )
            lines += [
                "",
                f"Compared side by side in both orders, {pair.split(' - ')[0]} wins {won} (ties count half).",
                f"The first place wins {first} (0.5 is no bias); both orders agree in {same}; "
                f"ties {by['comparison']['ties']:.2f}.",
            ]
    lines += ["", "## The judge's own agreement", "", "| criterion | Krippendorff's alpha | same grade |"]
    lines += ["| --- | ---: | ---: |"]
    lines += [f"| {c} | {_number(a['alpha'])} | {_number(a['exact'])} |" for c, a in told["agreement"].items()]
    lines += [f"- failed: {text}" for text in told["failures"]]
    return "\n".join(lines) + "\n"


def _clips(rows: Sequence[Judgement]) -> list[str]:
    return list(dict.fromkeys(str(row["id"]) for row in rows))


def _grades(rows: Sequence[Judgement], names: Sequence[str], criterion: str) -> dict[str, dict[str, list[float]]]:
    """set -> clip -> grades of all repeats."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for row in rows:
        if row.get("task") == "grade" and criterion in row:
            found[row["set"]][str(row["id"])].append(float(row[criterion]))
    return found


def _means(by_clip: dict[str, list[float]], clips: Sequence[str]) -> Array:
    return np.array([np.mean(by_clip[i]) for i in clips])


def _agreement(
    grades: dict[str, dict[str, list[float]]], names: Sequence[str], clips: Sequence[str]
) -> dict[str, float | None]:
    """None, which JSON knows, where repeats tell nothing: there is one, or nothing varies."""
    units = [grades[name][i] for name in names for i in clips]
    longest = max(map(len, units))
    table = np.array([[*unit, *[np.nan] * (longest - len(unit))] for unit in units])
    told = {"alpha": statistics.krippendorff_alpha(table), "exact": statistics.exact_agreement(table)}
    return {name: None if np.isnan(value) else value for name, value in told.items()}


def _characters(rows: Sequence[Judgement], name: str) -> float:
    return float(np.mean([len(row["caption"]) for row in rows if row.get("set") == name]))


def _pair(
    rows: Sequence[Judgement], grades: dict[str, Any], clips: Sequence[str], a: str, b: str, seed: int
) -> dict[str, Any]:
    told: dict[str, Any] = {"grades": {}}
    for c in CRITERIA:
        step = _means(grades[c][a], clips) - _means(grades[c][b], clips)
        told["grades"][c] = {
            "difference": asdict(statistics.bootstrap(step, seed=seed)),
            "p": statistics.sign_flip_p(step, seed=seed),
        }
    outcomes = _outcomes(rows, a, b)
    if outcomes is not None:
        told["comparison"] = asdict(statistics.compare(*outcomes, seed=seed))
    return told


def _outcomes(rows: Sequence[Judgement], a: str, b: str) -> tuple[Array, Array] | None:
    """[clips, repeats] of A's outcome when first, and when second. Clips that lack one of the orders are left out."""
    found: dict[str, dict[tuple[bool, int], float]] = defaultdict(dict)
    for row in rows:
        if row.get("task") == "compare" and "better" in row and {row["first"], row["second"]} == {a, b}:
            won = 0.5 if not row["better"] else float(row["better"] == a)
            found[str(row["id"])][row["first"] == a, row["repeat"]] = won
    repeats = sorted({repeat for by in found.values() for _, repeat in by})
    tables = [
        np.array([[by.get((first, r), np.nan) for r in repeats] for by in found.values()]) for first in (True, False)
    ]
    if not found or not repeats:
        return None
    whole = ~np.isnan(tables[0]).all(axis=1) & ~np.isnan(tables[1]).all(axis=1)
    return (tables[0][whole], tables[1][whole]) if whole.any() else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
