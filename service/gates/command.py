"""The use case behind `clsp score`: read the set, judge it, hold it against the gates, write what was found."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clsp_client import AUDIO_SUFFIXES
from service.gates.report.junit import junit
from service.gates.report.markdown import markdown
from service.gates.report.page import page
from service.gates.report.selection import worst_rows
from service.gates.report.sound import Sound, read_sound
from service.gates.rows import Case, Row, Run, Unjudged, dump, read_rows, write_rows
from service.gates.runner import Earlier, judge_set, read_earlier
from service.gates.scorer import Detail, Scorer, in_process, remote
from service.gates.sources import ONE_GROUP, SourceError, read_cases
from service.gates.verdict import Gates, Verdict, judge
from service.gates.voice import with_voices

ROWS, PARTIAL, UNJUDGED = "scores.jsonl", "scores.partial.jsonl", "unjudged.jsonl"
JUNIT, REPORT, SUMMARY, COMMENT = "junit.xml", "report.html", "run.json", "summary.md"


@dataclass(frozen=True)
class Options:
    """What `clsp score` was asked for."""

    source: Path
    caption: str | None
    out: Path | None
    baseline: Path | None
    audio_root: Path | None
    group_by: tuple[str, ...]
    detail: Detail
    gates: Gates
    measure_voice: bool
    players: int
    in_flight: int
    fresh: bool
    url: str | None
    api_key: str | None
    bundle: Path | None
    patience_s: float


@dataclass
class Result:
    """A finished run."""

    cases: list[Case]
    run: Run
    verdict: Verdict
    scoring: str | None
    written: list[Path] = field(default_factory=list)

    def run_as_json(self) -> Iterator[dict[str, Any]]:
        """The rows as JSON objects, judged ones first."""
        yield from (json.loads(dump(row)) for row in self.run.rows)
        yield from (json.loads(dump(one)) for one in self.run.unjudged)


async def run_score(options: Options, on_progress: Callable[[int, int], None]) -> Result:
    """Do it. Raises SourceError, RowsError, ClspError, OSError, and ImportError without the inference packages."""
    _check_places(options)
    if options.out is not None and options.out.is_dir():
        _withdraw(options.out)
    cases = _cases(options)
    baseline = read_rows(_rows_of(options.baseline)) if options.baseline is not None else None
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    finished = 0

    def on_done(_: Row | Unjudged) -> None:
        nonlocal finished
        finished += 1
        on_progress(finished, len(cases))

    on_progress(0, len(cases))
    async with _connect(options) as scorer:
        scoring = scorer.scoring
        run = await judge_set(
            cases,
            scorer,
            options.detail,
            earlier=_earlier(options, scoring),
            journal=None if options.out is None else options.out / PARTIAL,
            in_flight=options.in_flight,
            on_done=on_done,
        )
    if options.gates.voice or options.measure_voice:
        paths = {case.id: case.audio for case in cases}
        run.rows = await asyncio.to_thread(lambda: [*with_voices(run.rows, paths)])
    verdict = judge(run, options.gates, baseline)
    result = Result(cases, run, verdict, scoring)
    if options.out is not None:
        _write(options, options.out, result)
    return result


def _check_places(options: Options) -> None:
    """A run that overwrites its own baseline would compare the next one with itself."""
    if options.baseline is None or options.out is None:
        return
    if _rows_of(options.baseline).resolve() == (options.out / ROWS).resolve():
        raise SourceError(
            f"{options.baseline} is the baseline and would be overwritten: name another folder with --out"
        )


def _cases(options: Options) -> list[Case]:
    source = options.source
    if options.caption is not None:
        return [Case(source.name, source, options.caption, ONE_GROUP, str(source))]
    if source.is_file() and source.suffix.lower() in AUDIO_SUFFIXES:
        raise SourceError(f"{source} is one clip: give its caption after it")
    return read_cases(source, audio_root=options.audio_root, group_by=options.group_by)


def _connect(options: Options) -> AbstractAsyncContextManager[Scorer]:
    if options.url:
        return remote(options.url, options.api_key, patience_s=options.patience_s)
    return in_process(options.bundle)


def _rows_of(baseline: Path) -> Path:
    return baseline / ROWS if baseline.is_dir() else baseline


def _withdraw(out: Path) -> None:
    """Take an earlier verdict away: this run may end before it has one, and what lies there would be taken for it."""
    for name in (JUNIT, REPORT, COMMENT, UNJUDGED):
        (out / name).unlink(missing_ok=True)
    told = _told(out)
    _unfinished(out, {name: told.get(name) for name in ("detail", "scoring")})


def _told(out: Path) -> dict[str, Any]:
    """What `run.json` says; nothing where there is none that can be read."""
    try:
        told = json.loads((out / SUMMARY).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _unfinished(out: Path, made_with: dict[str, Any]) -> None:
    (out / SUMMARY).write_text(json.dumps({"outcome": "unfinished", **made_with}, indent=2) + "\n", "utf-8")


def _earlier(options: Options, scoring: str | None) -> Earlier:
    """What may be reused: rows that this folder holds, if they were made with the same detail and the same scoring.

    Others are taken away, or this run, once interrupted, would leave them under its own name.
    """
    if options.out is None:
        return Earlier({})
    wanted = {"detail": asdict(options.detail), "scoring": scoring}
    told = _told(options.out)
    same = scoring is not None and {name: told.get(name) for name in wanted} == wanted
    if options.fresh or not same:
        for name in (ROWS, PARTIAL):
            (options.out / name).unlink(missing_ok=True)
        _unfinished(options.out, wanted)
        return Earlier({})
    return read_earlier([options.out / ROWS, options.out / PARTIAL])


def _write(options: Options, out: Path, result: Result) -> None:
    run, verdict = result.run, result.verdict
    write_rows(out / ROWS, run.rows)
    (out / PARTIAL).unlink(missing_ok=True)
    if run.unjudged:
        write_rows(out / UNJUDGED, run.unjudged)
    else:
        (out / UNJUDGED).unlink(missing_ok=True)
    name = options.source.name or str(options.source)
    (out / JUNIT).write_text(junit(run, verdict, name=name), "utf-8")
    paths = {case.id: case.audio for case in result.cases}

    def sounds(row: Row) -> Sound | None:
        return read_sound(paths[row.id])

    shown = worst_rows(run, verdict, options.players)
    html = page(run, verdict, name=name, shown=shown, sounds=sounds, gates=describe(options))
    (out / REPORT).write_text(html, "utf-8")
    (out / SUMMARY).write_text(json.dumps(_summary(options, result), indent=2, ensure_ascii=False) + "\n", "utf-8")
    comment = markdown(run, verdict, gates=describe(options))
    (out / COMMENT).write_text(comment, "utf-8")
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(step_summary).open("a", encoding="utf-8") as file:
            file.write(comment)
    names = [ROWS, *([UNJUDGED] if run.unjudged else []), JUNIT, REPORT, COMMENT, SUMMARY]
    result.written = [out / written for written in names]


def _summary(options: Options, result: Result) -> dict[str, Any]:
    run, verdict = result.run, result.verdict
    return {
        "outcome": verdict.outcome.name.lower(),
        "judged": len(run.rows),
        "unjudged": len(run.unjudged),
        "coverage": round(run.coverage, 6),
        "truncated": sum(row.truncated for row in run.rows),
        "identity": run.rows[0].identity if run.rows else None,
        "undecided": verdict.undecided,
        "would_have_seen": verdict.would_have_seen,
        "breaches": [asdict(breach) for breach in verdict.breaches],
        "gates": asdict(options.gates),
        "detail": asdict(options.detail),
        "scoring": result.scoring,
    }


def describe(options: Options) -> str:
    """The gates in words."""
    gates = options.gates
    named = (
        ("match of a clip", gates.min_match),
        ("cosine of a clip", gates.min_cosine),
        ("percentile of a clip", gates.min_percentile),
        ("mean match of a group", gates.min_group_match),
    )
    words = [f"{name} at least {value:g}" for name, value in named if value is not None]
    if options.baseline is not None:
        tolerated = f" by more than {gates.max_drop:g}" if gates.max_drop else ""
        words.append(f"no drop{tolerated} since the baseline at {gates.confidence:.2%} confidence")
        if gates.voice:
            words.append(f"measured {', '.join(gates.voice)} as in the baseline")
        if gates.max_clip_drop is not None:
            words.append(f"cosine of a clip at most {gates.max_clip_drop:g} below the baseline")
    words.append(f"coverage {gates.min_coverage:.0%}")
    return "; ".join(words)
