"""`clsp judge`: sets of captions of the same clips, graded and compared by an audio model, with intervals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from training.captions import cost
from training.captions.console import FAILED_SOME, console, facts, plain_errors, say
from training.captions.endpoint import EndpointPool, EndpointSettings
from training.captions.formats import FormatError, jsonl
from training.captions.judging.judge import Judge
from training.captions.judging.report import markdown, summarise
from training.captions.judging.session import Item, Judgement, Schedule, hold, pick
from training.captions.ledger import Ledger


def judge(
    manifests: Annotated[list[Path], typer.Argument(help="one or more manifests with captions of the same clips")],
    out: Annotated[Path, typer.Option(help="folder of the judgements and the report")],
    name: Annotated[list[str] | None, typer.Option(help="names of the sets, in order; else the files' names")] = None,
    kind: Annotated[Literal["short", "long"], typer.Option(help="which captions")] = "long",
    clips: Annotated[int, typer.Option(min=1, help="clips, drawn by the seed from those that all sets have")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="gradings of each caption; 2 or more tell agreement")] = 2,
    comparisons: Annotated[int, typer.Option(min=0, help="comparisons of each pair, each in both orders")] = 1,
    seed: Annotated[int, typer.Option(help="of the draw and of the judge")] = 0,
    base_url: Annotated[
        list[str] | None, typer.Option(help="API root; repeat for several (CLSP_JUDGE_BASE_URL)")
    ] = None,
    model: Annotated[str | None, typer.Option(help="model name (CLSP_JUDGE_MODEL)")] = None,
    concurrency: Annotated[int | None, typer.Option(help="requests at once for each base URL")] = None,
    prompts: Annotated[Path | None, typer.Option(help="folder of prompts that replace ours")] = None,
    audio_root: Annotated[
        Path | None, typer.Option(help="where relative paths start; else beside the manifest")
    ] = None,
    estimate: Annotated[bool, typer.Option(help="tell what it would cost and stop")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="start without asking")] = False,
) -> None:
    """Judge captions: correctness, coverage, naturalness from 1 to 5, and sets against each other.

    The judge hears the clip, never learns which set a caption is from, and compares in both orders. Started again, it
    pays for no judgement twice. Exit codes: 0 all judged, 3 some judgements failed, 4 the endpoint stopped the run.
    """
    with plain_errors():
        options = EndpointSettings.of("judge", base_url=base_url, model=model, concurrency=concurrency).require("judge")
        sets = dict(zip(named(manifests, name), manifests, strict=True))
        items = pick(sets, kind=kind, clips=clips, seed=seed, audio_root=audio_root)
        if not items:
            raise FormatError(f"no clip has {kind} captions in all of {', '.join(map(str, manifests))}")
        rounds = len(sets) * (len(sets) - 1) * comparisons
        heard, audio_s = cost.measure_manifest((item.clip.fields for item in items), options.max_audio_s)
        facts(
            f"Judging by {options.model}",
            cost.lines(cost.of_judging(heard, audio_s, len(sets) * repeats, rounds, options), options),
        )
        if estimate:
            return
        if (options.input_price or options.audio_price or options.output_price) and not yes:
            typer.confirm("Start?", abort=True, err=True)
        rows = asyncio.run(_judge(items, Schedule(repeats, comparisons), options, out, prompts, seed))
        told = summarise(rows, seed=seed)
        with (out / "judgements.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(map(jsonl.dump, rows))
        written = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
        (out / "report.json").write_text(written + "\n", encoding="utf-8")
        (out / "report.md").write_text(markdown(told), encoding="utf-8")
        typer.echo(markdown(told))
        missing = told["coverage"]["asked"] - told["coverage"]["judged"]
        if missing:
            say(f"{missing} judgements failed: the same command tries those again")
            raise typer.Exit(FAILED_SOME)


def named(manifests: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """A name for each set, no two alike. Raises ValueError."""
    found = list(names) if names else [path.name.split(".")[0] for path in manifests]
    if len(found) != len(manifests):
        raise ValueError(f"{len(manifests)} manifests need as many names, {len(found)} are given")
    if len(set(found)) != len(found):
        raise ValueError(f"two sets are called the same ({', '.join(found)}): name them with --name")
    return found


async def _judge(
    items: Sequence[Item], schedule: Schedule, options: EndpointSettings, out: Path, prompts: Path | None, seed: int
) -> list[Judgement]:
    ledger = Ledger(out / "ledger.sqlite")
    try:
        async with EndpointPool(options) as pool:
            with Progress(console=console, disable=not console.is_terminal) as progress:
                task = progress.add_task("judging", total=len(items))
                return await hold(
                    Judge(pool, ledger, prompts=prompts, seed=seed),
                    items,
                    schedule,
                    at_once=pool.concurrency,
                    tick=lambda: progress.advance(task),
                )
    finally:
        ledger.close()
