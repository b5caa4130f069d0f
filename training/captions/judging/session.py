"""One judging from end to end: the same clips of every set, graded and compared, each judgement a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from training.captions.annotator import AnnotatorError, Kind
from training.captions.ask import NoVerdictError
from training.captions.endpoint import EndpointStoppedError
from training.captions.formats import read_rows
from training.captions.judging.judge import CRITERIA, Heard, Judge
from training.captions.sampling import draw_of, smallest
from training.captions.utterance import AudioError, Utterance

Judgement = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A clip and one caption of it from every set."""

    clip: Utterance
    captions: Mapping[str, str]


@dataclass(frozen=True)
class Schedule:
    """How often each question is asked."""

    grades: int = 2
    comparisons: int = 1


def pick(sets: Mapping[str, Path], *, kind: Kind, clips: int, seed: int, audio_root: Path | None = None) -> list[Item]:
    """`clips` clips that have captions of the kind in every set, and one caption a set, both drawn by the seed.

    Memory holds the drawn clips, and the ids of all sets but the first. Raises FormatError; fewer clips come back
    where fewer are shared.
    """
    names = list(sets)
    shared: set[str] | None = None
    for name in names[1:]:
        ids = {str(row["id"]) for row in read_rows(sets[name], audio_root=audio_root) if row.get(f"{kind}_captions")}
        shared = ids if shared is None else shared & ids
    first = read_rows(sets[names[0]], audio_root=audio_root)
    usable = (row for row in first if row.get(f"{kind}_captions") and (shared is None or str(row["id"]) in shared))
    drawn = {str(row["id"]): row for row in smallest(usable, clips, seed)}
    captions: dict[str, dict[str, str]] = {i: {} for i in drawn}
    for name in names:
        for row in drawn.values() if name == names[0] else read_rows(sets[name], audio_root=audio_root):
            identifier = str(row["id"])
            if identifier in captions and row.get(f"{kind}_captions"):
                texts = row[f"{kind}_captions"]
                captions[identifier][name] = min(texts, key=lambda text: draw_of(text, seed))
    return [Item(Utterance.of(row), captions[i]) for i, row in drawn.items()]


async def hold(
    judge: Judge,
    items: Iterable[Item],
    schedule: Schedule,
    *,
    at_once: int,
    tick: Callable[[], None] = lambda: None,
) -> list[Judgement]:
    """Every judgement of every clip, failed ones with their reason.

    The judge never learns which set a caption is from; sets are compared in both orders. Raises EndpointStoppedError
    once what is under way has ended: answers are in the ledger, so that a later start goes on.
    """
    gate = asyncio.Semaphore(at_once)
    stopped: list[EndpointStoppedError] = []

    async def one(item: Item) -> list[Judgement]:
        async with gate:
            if stopped:
                return []
            try:
                return await _clip(judge, item, schedule)
            except EndpointStoppedError as error:
                stopped.append(error)
                return []
            finally:
                tick()

    rows = await asyncio.gather(*(one(item) for item in items))
    if stopped:
        raise stopped[0]
    return [row for clip in rows for row in clip]


async def _clip(judge: Judge, item: Item, schedule: Schedule) -> list[Judgement]:
    base = {"id": item.clip.id}
    try:
        heard = await judge.hear(item.clip)
    except AudioError as error:
        return [{**base, "failed": str(error)}]
    work = [
        _graded(judge, heard, base, name, text, n)
        for name, text in item.captions.items()
        for n in range(schedule.grades)
    ]
    for a, b in combinations(item.captions, 2):
        for first, second in ((a, b), (b, a)):
            work += [
                _compared(judge, heard, base, (first, item.captions[first]), (second, item.captions[second]), n)
                for n in range(schedule.comparisons)
            ]
    # All end before one that stops the run is heard of: their answers are paid for.
    results = await asyncio.gather(*work, return_exceptions=True)
    rows: list[Judgement] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        rows.append(result)
    return rows


async def _graded(judge: Judge, heard: Heard, base: Judgement, name: str, caption: str, repeat: int) -> Judgement:
    row = {**base, "task": "grade", "set": name, "repeat": repeat, "caption": caption}
    try:
        grade = await judge.grade(heard, caption, repeat)
    except (AnnotatorError, NoVerdictError) as error:
        return {**row, "failed": str(error)}
    return {**row, **{c: getattr(grade, c) for c in CRITERIA}, "why": grade.why}


async def _compared(
    judge: Judge, heard: Heard, base: Judgement, first: tuple[str, str], second: tuple[str, str], repeat: int
) -> Judgement:
    row = {**base, "task": "compare", "first": first[0], "second": second[0], "repeat": repeat}
    try:
        told = await judge.prefer(heard, first[1], second[1], repeat)
    except (AnnotatorError, NoVerdictError) as error:
        return {**row, "failed": str(error)}
    return {**row, "better": ("", first[0], second[0])[told.better], "why": told.why}


def sets_of(rows: Sequence[Judgement]) -> list[str]:
    """Names of the sets, in the order that they came in."""
    return list(dict.fromkeys(row["set"] for row in rows if row.get("task") == "grade"))
