"""How often do the style gates fail a build in which nothing changed, and how often do they miss one that drifted?

    python benchmarks/gate_alarms.py [--reruns 200]           # some minutes of one core

The sets are those of `examples/gates/`: six voices, twelve lines each, two takes of the same voices and one in which
two voices drifted. They are judged once, in this process; every rerun then draws lines anew with replacement. Without a
change, each drawn line's two takes are dealt to "before" and "after" at random. With one, "after" is the drifted take
of the two voices that have one; the other four are dealt as before.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from results import ROOT, report

from service.gates.rows import Row, Run, groups_of
from service.gates.runner import Earlier, judge_set
from service.gates.scorer import Detail, in_process
from service.gates.sources import read_cases
from service.gates.verdict import Gates, Outcome, judge

GATES = ROOT / "examples" / "gates"
DRIFTED = {"ben": "pitch", "cora": "rate"}
"""Voices that drifted, and in which attribute."""


async def judged(path: Path) -> dict[str, Row]:
    """A set's rows by id."""
    async with in_process() as scorer:
        run = await judge_set(
            read_cases(path),
            scorer,
            Detail(sentences=False),
            earlier=Earlier({}),
            journal=None,
            in_flight=4,
            on_done=lambda _: None,
        )
    assert run.coverage == 1.0, run.unjudged
    return {row.id: row for row in run.rows}


def rerun(
    before: dict[str, Row],
    after: dict[str, Row],
    lines: int,
    rng: np.random.Generator,
    *,
    drifted: Collection[str] = (),
) -> tuple[list[Row], list[Row]]:
    """Both runs, `lines` lines a voice drawn with replacement; takes of a voice that did not drift are shuffled."""
    then, now = [], []
    for group, rows in groups_of(list(before.values())).items():
        for number, place in enumerate(rng.integers(0, len(rows), lines)):
            pair = [before[rows[place].id], after[rows[place].id]]
            if group not in drifted and rng.random() < 0.5:
                pair.reverse()
            for side, row in zip((then, now), pair, strict=True):
                side.append(replace(row, id=f"{group}-{number}", audio=""))
    return then, now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reruns", type=int, default=200)
    args = parser.parse_args()
    takes = {name: asyncio.run(judged(GATES / f"{name}.jsonl")) for name in ("baseline", "good", "drifted")}
    rows = []
    for lines in (6, 12, 24):
        for confidence in (0.95, 0.99):
            gates = Gates(confidence=confidence, resamples=5000)
            alarms = found = named = explained = strangers = 0
            for number in range(args.reruns):
                rng = np.random.default_rng([lines, number])
                then, now = rerun(takes["baseline"], takes["good"], lines, rng)
                alarms += judge(Run(now), gates, then).outcome is not Outcome.PASSED
                then, now = rerun(takes["baseline"], takes["drifted"], lines, rng, drifted=DRIFTED)
                verdict = judge(Run(now), gates, then)
                groups = {breach.group for breach in verdict.breaches if breach.group}
                found += verdict.outcome is Outcome.FAILED
                named += DRIFTED.keys() <= groups
                explained += all(
                    any(one.group == voice and attribute in one.attributes for one in verdict.breaches)
                    for voice, attribute in DRIFTED.items()
                )
                strangers += bool(groups - DRIFTED.keys())
            rows.append(
                {
                    "lines a voice": lines,
                    "confidence": confidence,
                    "reruns": args.reruns,
                    "false alarms of 100": 100 * alarms / args.reruns,
                    "drift found %": 100 * found / args.reruns,
                    "both voices named %": 100 * named / args.reruns,
                    "pitch and rate named %": 100 * explained / args.reruns,
                    "another voice named %": 100 * strangers / args.reruns,
                }
            )
    report("gate_alarms", "Style gates on resampled sets", list(rows[0]), rows)


if __name__ == "__main__":
    main()
