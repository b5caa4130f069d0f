"""`clsp score`: one clip against its caption, or a whole set through the style gates of a TTS team's CI."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clsp_client import ClspError
from service.cli.common import CliError, KeyOption, explain
from service.cli.jobs import STOPPED
from service.cli.output import console, error_console, print_json
from service.core.signals import TerminatedError, until_terminated

if TYPE_CHECKING:
    from service.gates.command import Result

Threshold = float | None
TERMINATED = 143
"""Exit status after SIGTERM, as shells have it."""


class CannotJudgeError(CliError):
    """There is no verdict: exit status 2, so that CI can tell a broken run from a broken voice."""

    exit_code = 2


def score(
    source: Annotated[
        Path,
        typer.Argument(
            help="An audio file, with its caption after it; or a set: JSONL or CSV (audio, caption, id, group), a "
            "folder of audio with sidecar .txt captions, or InstructTTSEval results."
        ),
    ],
    caption: Annotated[str | None, typer.Argument(help="How the one clip should sound.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for rows, JUnit and report. [a set: clsp-score]")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier run's folder or scores.jsonl: fail when scores fell since.")
    ] = None,
    min_match: Annotated[Threshold, typer.Option(min=0, max=1, help="Least match probability of a clip.")] = None,
    min_cosine: Annotated[Threshold, typer.Option(min=-1, max=1, help="Least cosine of a clip.")] = None,
    min_percentile: Annotated[
        Threshold, typer.Option(min=0, max=100, help="Least percentile of a clip against mismatched captions.")
    ] = None,
    min_group_match: Annotated[
        Threshold, typer.Option(min=0, max=1, help="Least mean match probability of a group.")
    ] = None,
    max_clip_drop: Annotated[
        Threshold, typer.Option(min=0, help="Largest drop of a clip's cosine since the baseline.")
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option(
            help="Measured property that must not move since the baseline: pitch, range, rate, level, pauses, silence, "
            "duration, clipping. Repeat for more than one."
        ),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure each clip's voice into the rows.")] = False,
    max_drop: Annotated[float, typer.Option(min=0, help="Drop of a mean cosine that is tolerated.")] = 0.001,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the whole comparison: 0.99 fails 1 unchanged run in 100.")
    ] = 0.99,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of the set that has to be judged.")
    ] = 1.0,
    allow_removed: Annotated[
        bool,
        typer.Option("--allow-removed", help="The set may lack clips of the baseline, or give them other captions."),
    ] = False,
    group_by: Annotated[
        list[str] | None,
        typer.Option("--group", help="Column that groups the set; repeat for more than one. \\[group]"),
    ] = None,
    audio_root: Annotated[Path | None, typer.Option(help="What audio paths are relative to. [the set]")] = None,
    details: Annotated[bool, typer.Option(help="Attributes, and sentences over time.")] = True,
    window: Annotated[Threshold, typer.Option(help="Window of the curves over time, seconds. [3]")] = None,
    hop: Annotated[Threshold, typer.Option(help="Distance between windows, seconds. [a quarter of the window]")] = None,
    players: Annotated[int, typer.Option(min=0, help="Clips with a player in the report, the worst first.")] = 24,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Clips judged at the same time.")] = 6,
    fresh: Annotated[bool, typer.Option("--fresh", help="Judge all clips again, whatever was left.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", envvar="CLSP_URL", help="A running service; without one, in this process.")
    ] = None,
    api_key: KeyOption = None,
    bundle: Annotated[Path | None, typer.Option(help="Model bundle for judging in this process.")] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to go on trying while the service is full.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows instead of tables.")] = False,
) -> None:
    """Tell how well clips fit their captions, and fail when they do not.

    Exit status: 0 when all gates pass, 1 when one fails, 2 when the set could not be judged whole.
    """
    # Imported here: numpy and what stands on it would slow down every other command.
    from model_export.bundle import BundleError
    from service.gates.command import Options, run_score
    from service.gates.rows import RowsError
    from service.gates.scorer import Detail
    from service.gates.sources import SourceError
    from service.gates.verdict import Gates
    from service.gates.voice import MEASURES, MeasuringUnavailableError

    unknown = [name for name in hold or () if name not in MEASURES]
    if unknown:
        raise CannotJudgeError(f"--hold {unknown[0]}: not one of {', '.join(MEASURES)}.")
    means = (min_group_match, max_clip_drop, max_drop, confidence, min_coverage)
    thresholds = (min_match, min_cosine, min_percentile, *means)
    if not all(math.isfinite(value) for value in (*thresholds, window, hop) if value is not None):
        raise CannotJudgeError(
            "A threshold, --window or --hop is not a finite number: no clip could break such a gate."
        )
    gates = Gates(
        min_match=min_match,
        min_cosine=min_cosine,
        min_percentile=min_percentile,
        min_group_match=min_group_match,
        max_clip_drop=max_clip_drop,
        voice=tuple(dict.fromkeys(hold or ())),
        max_drop=max_drop,
        confidence=confidence,
        min_coverage=min_coverage,
        allow_removed=allow_removed,
    )
    options = Options(
        source=source,
        caption=caption,
        out=out if out is not None or caption is not None else Path("clsp-score"),
        baseline=baseline,
        audio_root=audio_root,
        group_by=tuple(group_by or ()),
        detail=Detail(attributes=details, sentences=details, window_s=window, hop_s=hop),
        gates=gates,
        measure_voice=measure,
        players=players,
        in_flight=in_flight,
        fresh=fresh,
        url=url,
        api_key=api_key,
        bundle=bundle,
        patience_s=patience,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=error_console, transient=True, disable=caption is not None) as progress:
            task = progress.add_task("judging", total=None)
            work = run_score(options, lambda done, total: progress.update(task, completed=done, total=total))
            result = asyncio.run(until_terminated(work))
        _show(result, as_json=as_json)
    except (BrokenPipeError, SystemExit) as error:
        # rich ends the process where nobody reads on, with the status of a verdict.
        raise CannotJudgeError("Nobody reads the output any longer.") from error
    except (SourceError, RowsError, BundleError, MeasuringUnavailableError, OSError, ImportError) as error:
        raise CannotJudgeError(str(error)) from error
    except ClspError as error:
        raise CannotJudgeError(explain(error)) from error
    except (KeyboardInterrupt, TerminatedError) as stopped:
        with suppress(OSError, SystemExit):
            error_console.print("Stopped. Run the same command again to go on: what is judged is not judged again.")
        raise typer.Exit(TERMINATED if isinstance(stopped, TerminatedError) else STOPPED) from None
    except Exception as error:
        # Python's own status for a crash is 1, which would read as a verdict on the voices.
        with suppress(OSError, SystemExit):
            error_console.print_exception()
        raise CannotJudgeError(f"{type(error).__name__} while judging: {error}") from error
    if result.verdict.outcome:
        raise typer.Exit(int(result.verdict.outcome))


def _show(result: Result, *, as_json: bool) -> None:
    """Print a result. Raises OSError, or rich's SystemExit, for an output that takes nothing."""
    if as_json:
        print_json([*result.run_as_json()])
    else:
        from service.cli.score_report import summary  # NumPy: other commands start faster without it

        for renderable in summary(result.run, result.verdict):
            console.print(renderable, highlight=False)
    for path in result.written:
        error_console.print(f"[dim]{escape(str(path))}[/]", highlight=False, soft_wrap=True)
    sys.stdout.flush()
