"""One manifest annotated from end to end: resumed where it stood, finished whole, reported on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.captions.annotator import KINDS, Annotator
from training.captions.endpoint import EndpointStoppedError
from training.captions.filter_report import Report
from training.captions.formats import format_named, jsonl, read_rows, write_rows
from training.captions.formats.cuts import cut_can_be_made
from training.captions.formats.rows import FormatError, Row
from training.captions.formats.training import Shares, for_training
from training.captions.ledger import Ledger
from training.captions.llm_annotator import KNOWN
from training.captions.pipeline import Pipeline, Plan, Tally
from training.captions.run_state import RunState
from training.captions.utterance import Utterance
from training.captions.verifier import Verifier

Reader = Callable[[int], Iterator[Row]]


@dataclass(frozen=True)
class Source:
    """Where rows come from. `fingerprint` changes with the content; `read(skip)` gives rows after the first `skip`."""

    name: str
    fingerprint: Mapping[str, Any]
    read: Reader

    @classmethod
    def of(cls, manifest: Path, *, audio_root: Path | None = None) -> Source:
        """A whole manifest. Raises FormatError when it is not there."""
        try:
            told = manifest.stat()
        except OSError as error:
            raise FormatError(f"{manifest}: {error.strerror}") from error
        mark = {"manifest": str(manifest.absolute()), "bytes": told.st_size, "modified_ns": told.st_mtime_ns}
        return cls(
            manifest.name.split(".")[0],
            mark | {"audio_root": str(audio_root) if audio_root else None},
            lambda skip: read_rows(manifest, audio_root=audio_root, skip=skip),
        )


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `stopped` is a run that was asked to end early; it goes on when started again."""

    rows: int
    resumed_rows: int
    failed: int
    tally: Tally
    report: Report | None
    stopped: bool = False
    untouched: bool = False  # everything was there already
    left_out: int = 0  # rows that the output's format cannot hold without their audio; their captions have failed


async def annotate(
    source: Source,
    out: Path,
    annotator: Annotator,
    ledger: Ledger,
    plan: Plan,
    *,
    verifier: Verifier | None = None,
    shares: Shares | None = None,
    watch: Callable[[Pipeline, int], None] = lambda pipeline, resumed: None,
    tick: Callable[[Row], None] = lambda row: None,
) -> Outcome:
    """Annotates a source to `out`, whose name says the format, beside which its report and failures come to lie.

    `watch(pipeline, rows from before)` is called once work starts, `tick(row)` after each row. Raises FormatError,
    RunLockedError, or EndpointStoppedError when going on is pointless: what was made stays for the next run.
    """
    shares = shares or Shares()
    cuts = format_named(out) == "cuts"
    if source.fingerprint.get("manifest") == str(out.absolute()):
        raise FormatError(f"{out} is the manifest itself: a run that goes on needs both, choose another --out")
    state = RunState(out, _fingerprint(source, out, annotator, plan, verifier, shares))
    try:
        if state.complete and not state.failed:
            return Outcome(0, 0, 0, Tally(), None, untouched=True)
        pipeline = Pipeline(annotator, ledger, plan, verifier)
        resumed = state.begin()
        watch(pipeline, resumed)
        rows = for_training(source.read(resumed), source.name, shares)
        try:
            async with aclosing(pipeline.run(rows)) as made:
                async for row in made:
                    state.add(row, keep_cut=cuts)
                    tick(row)
        except EndpointStoppedError:
            if not pipeline.stopped:  # a run that is asked to end has its endpoints send nothing more
                raise
        state.sync()
        if pipeline.stopped:
            return Outcome(state.rows, resumed, pipeline.tally.failed, pipeline.tally, None, stopped=True)
        report, written = await asyncio.to_thread(_finish, state)
        failed = sum(report.failed.values())
        state.finish(failed)
        return Outcome(written, resumed, failed, pipeline.tally, report, left_out=state.rows - written)
    finally:
        state.close()


def _finish(state: RunState) -> tuple[Report, int]:
    """The output in its format, its report to read and to compare, its failures in a file of their own -> its rows."""
    out, partial = state.out, state.partial
    report = write_report(out, _own_rows(partial))
    if format_named(out) == "jsonl" and not out.name.endswith(".gz"):
        partial.replace(out)
        return report, state.rows
    rows = _own_rows(partial)
    # A cut tells of its recording: a row whose audio is not there becomes none, and is listed with the failures.
    written = write_rows(out, filter(cut_can_be_made, rows) if format_named(out) == "cuts" else rows)
    partial.unlink()
    return report, written


def write_report(out: Path, rows: Iterator[Row]) -> Report:
    """One pass over annotated rows: OUT.report.md, OUT.report.json, and OUT-failures.jsonl where any failed."""
    report = Report()
    failures = out.with_name(f"{out.name}-failures.jsonl")
    any_failed = False
    with failures.open("w", encoding="utf-8") as file:
        for row in rows:
            report.add(row)
            for caption in row.get("failed") or []:
                any_failed = True
                file.write(jsonl.dump({"id": row["id"], "path": row["path"], **caption}))
    if not any_failed:
        failures.unlink()
    out.with_name(f"{out.name}.report.md").write_text(report.to_markdown(), encoding="utf-8")
    told = json.dumps(report.to_json(), ensure_ascii=False, indent=1)
    out.with_name(f"{out.name}.report.json").write_text(told + "\n", encoding="utf-8")
    return report


def _own_rows(partial: Path) -> Iterator[Row]:
    """Rows of a partial output with absolute paths, cuts kept."""
    for _, row in jsonl.objects(partial):
        yield {**row, "path": os.path.normpath(partial.parent.absolute() / row["path"])}


def _fingerprint(
    source: Source, out: Path, annotator: Annotator, plan: Plan, verifier: Verifier | None, shares: Shares
) -> dict[str, Any]:
    """Everything that decides the rows. A run with another goes from the top, and still pays for nothing twice."""
    # Someone of whom everything is known: which labels are told to a model shows.
    anyone = Utterance("", Path(), fields=dict.fromkeys(KNOWN, "?"))
    who = {kind: asdict(annotator.identity(anyone, kind)) for kind in KINDS if plan.counts.get(kind)}
    told = {
        "source": dict(source.fingerprint),
        "out": out.name,
        "annotator": who,
        "plan": asdict(plan),
        "verifier": verifier.identity() if verifier else None,
        "shares": asdict(shares),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(told))
    return loaded
