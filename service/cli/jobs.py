"""`clsp ingest --server-side` and `clsp jobs`: ingest on the server, watched from here; and how an ingest ends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clsp_client.answers import Job
from clsp_client.calls import SourceKind
from service.cli.common import DEFAULT_URL, Client, CliError, JsonOption, KeyOption, UrlOption, connect
from service.cli.output import console, error_console, print_json, printable, table

INGEST_FAILED = 3
"""Exit status of an ingest that left some clips out, to be told from one that could not run (1)."""
STOPPED = 130
"""Exit status of a command that was interrupted, as shells have it."""
OUTCOMES = ("added", "replaced", "relabelled", "unchanged")

jobs_app = typer.Typer(
    help="Look at ingest jobs of the server, stop them, and go on with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


def progress_bar() -> Progress:
    """How far an ingest is, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=error_console)


def ingest_on_server(
    client: Client, collection: str, source: str, failures: Path, *, kind: SourceKind | None, as_json: bool
) -> None:
    """Start a job and watch it to its end. `kind`: what the source is; None goes by its name."""
    client.create_collection(collection)
    job = client.start_ingest(collection, source, kind=kind)
    _watch(client, job, failures, as_json=as_json)


def _watch(client: Client, job: Job, failures: Path, *, as_json: bool) -> None:
    try:
        with progress_bar() as bar:
            task = bar.add_task(escape(job["collection"]), total=None)
            job = client.wait_job(
                job["id"], progress=lambda now: bar.update(task, total=now["total"], completed=now["done"])
            )
    except KeyboardInterrupt:
        on = f"The job goes on at the server. `clsp jobs watch {job['id']}` shows it, `clsp jobs cancel` stops it."
        now = client.job(job["id"])
        say_stopped({**now, "failed": now["refused"]}, now["total"], on)
        raise typer.Exit(STOPPED) from None
    refused = [{"file": row["file"], "id": row["id"], **row["error"]} for row in client.refused(job["id"])]
    write_failures(failures, refused)
    if as_json:
        print_json({**job, "failures": refused})
    else:
        summarise(job["collection"], {**job, "failed": len(refused), "failures": refused}, failures)
    if job["state"] != "succeeded":
        reason = job["error"] or {}
        why = ": ".join(str(reason[name]) for name in ("title", "detail") if reason.get(name))
        raise CliError(f"The job {job['state']}\n{why}\n`clsp jobs resume {job['id']}` goes on with it.")
    if refused:
        raise typer.Exit(INGEST_FAILED)


@jobs_app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")] = 20,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest jobs."""
    with connect(url, api_key) as client:
        page = client.jobs_page(limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        (one["id"], one["state"], one["collection"], one["path"], f"{one['done']} of {one['total'] or '?'}",
         str(one["refused"]), one["created_at"])
        for one in page["data"]
    ]  # fmt: skip
    console.print(table("Jobs", ("job", "state", "collection", "source", "done", "refused", "created"), rows))


@jobs_app.command()
def watch(
    job: JobArgument,
    failures: Annotated[Path | None, typer.Option(help="Where refused clips are listed, one JSON a line.")] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a job's progress until it ends, and what it refused."""
    with connect(url, api_key) as client:
        found = client.job(job)
        _watch(client, found, failures or Path(f"{found['collection']}-failures.jsonl"), as_json=as_json)


@jobs_app.command()
def cancel(job: JobArgument, url: UrlOption = DEFAULT_URL, api_key: KeyOption = None) -> None:
    """Stop a job; what it stored stays."""
    with connect(url, api_key) as client:
        found = client.cancel_job(job)
    console.print(f"Cancelled after {found['done']} of {found['total'] or '?'} clips", highlight=False)


@jobs_app.command()
def resume(job: JobArgument, url: UrlOption = DEFAULT_URL, api_key: KeyOption = None) -> None:
    """Go on with a job that failed or was cancelled, or try again what one refused."""
    with connect(url, api_key) as client:
        found = client.resume_job(job)
    console.print(f"{found['state']}: `clsp jobs watch {job}` shows it", highlight=False)


def write_failures(path: Path, failures: Sequence[Mapping[str, Any]]) -> None:
    """List failures in a file, one JSON a line; no file where there are none."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    path.write_text(printable("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in failures)), "utf-8")


def say_stopped(outcome: Mapping[str, Any], total: int | None, how_to_go_on: str) -> None:
    """After an interrupt: what was done, and how to go on."""
    done = sum(outcome[name] for name in (*OUTCOMES, "failed"))
    of = "?" if total is None else total
    error_console.print(f"Stopped after {done} of {of} clips: {_counts(outcome) or 'none'}.", highlight=False)
    error_console.print(escape(how_to_go_on), highlight=False)


def summarise(collection: str, outcome: Mapping[str, Any], failures: Path) -> None:
    """Say what an ingest did, and name the first clips that failed."""
    console.print(f"[bold]{escape(collection)}[/]: {_counts(outcome) or 'nothing to do'}", highlight=False)
    for row in outcome["failures"][:5]:
        file, why = (escape(printable(text)) for text in (row["file"], row.get("detail") or row["title"]))
        console.print(f"  [red]{file}[/]: {why}", highlight=False)
    if outcome["failures"]:
        console.print(f"  all failures: {escape(str(failures))}", highlight=False)


def _counts(outcome: Mapping[str, Any]) -> str:
    return ", ".join(f"{outcome[name]} {name}" for name in (*OUTCOMES, "failed") if outcome[name])
