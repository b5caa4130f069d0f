"""Judges a set, clip by clip: in parallel, resumable, and without losing one that fails."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.gates.rows import Case, Row, Run, Unjudged, dump, lines_of, load_row, row_of_answer
from service.gates.scorer import ClipRefusedError, Detail, Scorer

SHA256_CHARS = 16


@dataclass(frozen=True)
class Earlier:
    """Rows of an interrupted or earlier run, by id: reused for clips that have not changed since."""

    rows: Mapping[str, Row]

    def find(self, case: Case, sha256: str, identity: str) -> Row | None:
        """The row of a case, if audio, caption and model are those of now."""
        row = self.rows.get(case.id)
        if row is None or (row.sha256, row.caption, row.identity) != (sha256, case.caption, identity):
            return None
        return row


def read_earlier(paths: Iterable[Path]) -> Earlier:
    """What earlier runs left; a last line cut off by a kill is dropped, as is a file that is not there."""
    rows: dict[str, Row] = {}
    for path in paths:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in lines_of(path.read_text("utf-8")):
                with contextlib.suppress(ValueError):
                    row = load_row(line)
                    rows[row.id] = row
    return Earlier(rows)


async def judge_set(
    cases: Sequence[Case],
    scorer: Scorer,
    detail: Detail,
    *,
    earlier: Earlier,
    journal: Path | None,
    in_flight: int,
    on_done: Callable[[Row | Unjudged], None],
) -> Run:
    """Judge all cases; rows come in the cases' order, whatever the order in which they were done.

    Each row is appended to `journal` as soon as it is there. A clip that is missing, unreadable or refused becomes an
    Unjudged with the reason. Raises ClspError when the service goes away or refuses every clip alike.
    """
    done: dict[str, Row | Unjudged] = {}
    free = asyncio.Semaphore(in_flight)

    async def work(case: Case) -> None:
        async with free:
            found = await _judge(case, scorer, detail, earlier)
        done[case.id] = found
        if journal is not None and isinstance(found, Row):
            with journal.open("a", encoding="utf-8") as file:
                file.write(f"{dump(found)}\n")
        on_done(found)

    try:
        async with asyncio.TaskGroup() as tasks:
            for case in cases:
                tasks.create_task(work(case))
    except* Exception as failures:
        raise failures.exceptions[0] from None
    run = Run()
    for case in cases:
        found = done[case.id]
        if isinstance(found, Row):
            run.rows.append(found)
        else:
            run.unjudged.append(found)
    return run


async def _judge(case: Case, scorer: Scorer, detail: Detail, earlier: Earlier) -> Row | Unjudged:
    try:
        data = await asyncio.to_thread(case.audio.read_bytes)
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        return _unjudged(case, getattr(error, "strerror", None) or str(error))
    sha256 = hashlib.sha256(data).hexdigest()[:SHA256_CHARS]
    known = earlier.find(case, sha256, scorer.identity)
    if known is not None:
        return Row(**{**vars(known), "group": case.group, "audio": case.shown, "labels": case.labels})
    try:
        answer = await scorer.score(data, case.caption, detail)
    except ClipRefusedError as error:
        return _unjudged(case, str(error))
    return row_of_answer(case, sha256, answer)


def _unjudged(case: Case, reason: str) -> Unjudged:
    return Unjudged(case.id, case.group, case.caption, case.shown, reason)
