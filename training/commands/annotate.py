"""`clsp annotate`: a manifest in, the same manifest with short and long captions out."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from training.captions import cost
from training.captions.annotator import Kind
from training.captions.console import FAILED_SOME, INTERRUPTED, Watch, facts, plain_errors, say
from training.captions.endpoint import EndpointSettings
from training.captions.formats import FormatError, Row, read_rows
from training.captions.formats.training import Shares
from training.captions.job import Job, Pools, lengths_of
from training.captions.llm_annotator import KNOWN
from training.captions.pipeline import Pipeline, Plan
from training.captions.run import Outcome, Source
from training.captions.sampling import smallest
from training.captions.shards import manifests_of
from training.captions.utterance import Utterance
from training.commands.captions import captions
from training.commands.judge import judge

FIT_CLIPS = 700


def annotate(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL, Lhotse cuts or Parquet; with --ray-workers a folder of them, too")
    ],
    out: Annotated[
        Path, typer.Option(help="x.jsonl[.gz], x_cuts.jsonl[.gz] or x.parquet; with --ray-workers a folder")
    ],
    annotator: Annotated[
        Literal["acoustic", "endpoint"], typer.Option(help="measures, offline; or an audio model behind an endpoint")
    ] = "acoustic",
    short: Annotated[int, typer.Option(min=0, help="short (global) captions a clip, each with a seed of its own")] = 1,
    long: Annotated[int, typer.Option(min=0, help="long (fine-grained) captions a clip")] = 2,
    seed: Annotated[int, typer.Option(help="first seed")] = 0,
    base_url: Annotated[
        list[str] | None, typer.Option(help="API root; repeat for several (CLSP_ANNOTATOR_BASE_URL)")
    ] = None,
    model: Annotated[str | None, typer.Option(help="model name (CLSP_ANNOTATOR_MODEL)")] = None,
    concurrency: Annotated[int | None, typer.Option(help="requests at once for each base URL")] = None,
    verify: Annotated[bool, typer.Option(help="have a reasoning model check each caption (CLSP_VERIFIER_*)")] = False,
    verifier_url: Annotated[list[str] | None, typer.Option(help="API root of the verifier")] = None,
    verifier_model: Annotated[str | None, typer.Option(help="model name of the verifier")] = None,
    prompts: Annotated[Path | None, typer.Option(help="folder of prompts that replace ours")] = None,
    tell: Annotated[bool, typer.Option(help="tell the model the labels that the manifest has")] = True,
    bands: Annotated[
        Path | None, typer.Option(help="bands.json of an earlier build; otherwise fitted and kept")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes that measure")] = 1,
    short_chars: Annotated[tuple[int, int] | None, typer.Option(help="least and most characters")] = None,
    long_chars: Annotated[tuple[int, int] | None, typer.Option(help="least and most characters")] = None,
    audio_root: Annotated[
        Path | None, typer.Option(help="where relative paths start; else beside the manifest")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="answers that are paid for; OUT.ledger.sqlite by default")] = None,
    forget: Annotated[bool, typer.Option("--replace", help="drop captions that the manifest already has")] = False,
    dev: Annotated[float, typer.Option(help="share of speakers for dev, where rows have no split")] = 0.1,
    test: Annotated[float, typer.Option(help="share of speakers for test, where rows have no split")] = 0.1,
    estimate: Annotated[bool, typer.Option(help="tell what it would cost and stop")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="start without asking")] = False,
    ray_workers: Annotated[int, typer.Option(min=0, help="workers of a Ray job; 0 runs here")] = 0,
    shards: Annotated[int, typer.Option(min=1, help="pieces of the manifest in a Ray job")] = 64,
) -> None:
    """Caption a manifest's clips.

    Started again after a stop or a kill, it goes on where it stood and pays for nothing twice. Exit codes: 0 all done,
    3 some captions failed (run it again for those), 4 an endpoint stopped the run, 130 interrupted.
    """
    with plain_errors():
        counts: dict[Kind, int] = {"short": short, "long": long}
        plan = Plan(
            counts, lengths_of(annotator == "acoustic", short=short_chars, long=long_chars), seed, replace=forget
        )
        job = Job(
            plan,
            prompts=prompts,
            tell=tuple(KNOWN) if tell else (),
            workers=workers,
            shares=Shares(dev, test),
        )
        if annotator == "endpoint":
            options = EndpointSettings.of("annotator", base_url=base_url, model=model, concurrency=concurrency)
            job = replace(job, annotator=options.require("annotator"))
        if verify:
            options = EndpointSettings.of("verifier", base_url=verifier_url, model=verifier_model)
            job = replace(job, verifier=options.require("verifier"))
        if manifest.is_dir() and not ray_workers:
            raise FormatError(f"{manifest} is a folder: only a job with --ray-workers takes one")
        total = tell_estimate(job, manifest, audio_root)
        if estimate:
            return
        if job.annotator and _priced(job) and not yes:
            typer.confirm("Start?", abort=True, err=True)
        if annotator == "acoustic":
            job = replace(job, bands=bands or fitted(manifest, out, audio_root, workers))
        if ray_workers:
            _scale(job, manifest, out, audio_root, ray_workers, shards)
            return
        book = ledger or out.with_name(f"{out.name}.ledger.sqlite")
        with Watch(total) as watch:
            done = asyncio.run(_run(job, Source.of(manifest, audio_root=audio_root), out, book, watch))
        finish(done, out, watch)


async def _run(job: Job, source: Source, out: Path, ledger: Path, watch: Watch) -> Outcome:
    """One run that a first Ctrl-C ends in good order and a second at once."""
    loop = asyncio.get_running_loop()
    running: list[tuple[Pipeline, Pools]] = []

    def interrupt() -> None:
        if not running or running[0][0].stopped:
            raise KeyboardInterrupt
        pipeline, pools = running[0]
        pipeline.stop()
        # What waits for its turn, or out a pause of an hour that a server named, is not under way.
        pools.interrupt()
        say("Finishing what is under way; once more to stop at once.")

    def begin(pipeline: Pipeline, resumed: int, pools: Pools) -> None:
        running.append((pipeline, pools))
        watch.begin(pipeline, resumed, pools)

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, interrupt)
    try:
        return await job.run(source, out, ledger, watch=begin, tick=watch.tick)
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)


def tell_estimate(job: Job, manifest: Path, audio_root: Path | None) -> int:
    """Prints what the run may take -> clips of the manifest, or of a folder's manifests together."""
    rows = _rows(manifest, audio_root)
    clips, audio_s = cost.measure_manifest(rows, job.annotator.max_audio_s if job.annotator else 30.0)
    if job.annotator is not None:
        made = cost.of_annotation(clips, audio_s, job.plan.counts, job.annotator)
        facts(f"Captions by {job.annotator.model}", cost.lines(made, job.annotator))
    if job.verifier is not None:
        tokens = job.annotator.answer_tokens if job.annotator else 40
        checked = cost.of_verification(clips, job.plan.counts, tokens, job.verifier)
        facts(f"Checks by {job.verifier.model}", cost.lines(checked, job.verifier))
    if job.annotator is None:
        say(f"{clips} clips, {audio_s / 60:.1f} minutes; measured here, free of charge")
    return clips


def fitted(manifest: Path, out: Path, audio_root: Path | None, workers: int) -> Path:
    """bands.json beside the output: kept from an earlier run, or fitted on clips drawn from the manifest."""
    from training.captions.acoustic_annotator import fit_bands
    from training.captions.formats.rows import written_whole

    path = out.with_name(f"{out.name}.bands.json")
    if path.exists():
        return path
    drawn = smallest(_rows(manifest, audio_root), FIT_CLIPS)
    say(f"fitting the bands of pitch, pace and the rest on {len(drawn)} clips")
    found = fit_bands([Utterance.of(row) for row in drawn], workers=workers)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    return path


def finish(done: Outcome, out: Path, watch: Watch) -> None:
    """Says how it ended; raises typer.Exit where that was not well."""
    if done.untouched:
        say(f"{out} is complete: nothing to do")
        return
    if watch.line():
        say(watch.line())
    if done.stopped:
        say(f"Stopped after {done.rows} clips: the same command goes on from here.")
        raise typer.Exit(INTERRUPTED)
    say(f"{done.rows} clips written to {out}\nread {out}.report.md for what was kept and why the rest was not")
    if done.left_out:
        say(f"{done.left_out} clips whose audio cannot be read make no cuts and are left out")
    if done.failed:
        say(f"{done.failed} captions failed: see {out}-failures.jsonl; the same command tries those again")
        raise typer.Exit(FAILED_SOME)


def _scale(job: Job, manifest: Path, out: Path, audio_root: Path | None, workers: int, shards: int) -> None:
    from training.captions import ray_job

    report = ray_job.run(
        job,
        manifest,
        out,
        workers=workers,
        shards=shards,
        audio_root=audio_root,
        tick=lambda done, of: say(f"{done} of {of} shards"),
    )
    say(f"{report.clips} clips in {out}/part-*.jsonl; read {out}/all.report.md")
    if report.failed:
        raise typer.Exit(FAILED_SOME)


def _rows(manifest: Path, audio_root: Path | None) -> Iterator[Row]:
    return (row for file in manifests_of(manifest) for row in read_rows(file, audio_root=audio_root))


def _priced(job: Job) -> bool:
    return any(o and (o.input_price or o.audio_price or o.output_price) for o in (job.annotator, job.verifier))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
app.command()(annotate)
app.command()(judge)
app.add_typer(captions, name="captions")

__all__ = ["annotate", "app", "captions", "judge"]

if __name__ == "__main__":
    app()
