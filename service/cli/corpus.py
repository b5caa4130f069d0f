"""`clsp embed-corpus` and `clsp load-corpus`: a manifest to Parquet shards over many machines, shards to an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.common import CliError, JsonOption
from service.cli.output import console, error_console, print_json

FAILED = 3
"""Exit status when some clips were left out, to be told from a run that could not go on (1)."""


def embed_corpus(
    source: Annotated[Path, typer.Argument(help="A JSONL manifest (file, id, metadata a line), or a folder of audio.")],
    out: Annotated[Path, typer.Argument(help="Folder of the shards; all machines must see it.")],
    bundle: Annotated[Path | None, typer.Option(help="Model bundle (CLSP_BUNDLE); all machines must see it.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster: its address, or auto. This machine alone unless given.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Encoders at the same time, over all machines.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Threads of one encoder.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of one encoder; 0.5 lets two share one.")] = 0.0,
    shard: Annotated[int, typer.Option(min=1, max=100_000, help="Different clips in one shard.")] = 512,
    as_json: JsonOption = False,
) -> None:
    """Embed a manifest with Ray Data into Parquet shards; run it again to resume.

    What a shard holds with the same content is not embedded again, and gets the manifest's metadata; a content that
    comes twice is embedded once. Exit status 3 when some clips failed: they are in OUT/failures.jsonl, and are tried
    again next time.
    """
    from index.errors import IndexingError
    from model_export.bundle import Bundle, BundleError
    from service.audio.limits import AudioLimits
    from service.core.clip_sources import read_source
    from service.corpus import job
    from service.corpus.plan import CorpusError
    from service.settings import Settings

    settings = Settings() if bundle is None else Settings(bundle=bundle)
    clips = read_source(source)
    machines = job.Machines(address, workers, cpus, gpus, shard)
    try:
        limits = AudioLimits.from_settings(settings, min_s=Bundle.load(settings.bundle, verify=False).manifest.min_s)
        with _progress() as progress:
            tasks = {stage: progress.add_task(stage, total=None) for stage in ("hash", "embed")}
            report = job.embed_corpus(
                clips,
                out,
                bundle=settings.bundle,
                limits=limits,
                machines=machines,
                tick=lambda stage, done, of: progress.update(tasks[stage], completed=done, total=of),
            )
    except (CorpusError, BundleError, IndexingError) as error:
        raise CliError(f"The corpus was not embedded\n{error}") from error
    if as_json:
        print_json(vars(report))
    else:
        console.print(
            f"{report.clips} clips: {report.already} were done, {report.relabelled} relabelled, {report.embedded}"
            f" contents embedded, {report.failed} failed; {report.shards} shards in {out}",
            highlight=False,
        )
    if report.failed:
        raise typer.Exit(FAILED)


def load_corpus(
    collection: Annotated[str, typer.Argument(help="Name of the collection; made if it is not there.")],
    source: Annotated[Path, typer.Argument(help="A Parquet file of embeddings, or a folder of them.")],
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Clips in one change.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """Load shards into the index that the settings name: the data folder (stop its service first), or Milvus.

    Clips that are there with the same content and metadata are skipped, so that a load that was cut off goes on. Where
    a row has no metadata, what the index has stays.
    """
    from index.errors import IndexingError
    from index.exchange.load import load
    from service.settings import Settings
    from service.usecases.open_store import open_store

    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise CliError(f"{source} holds no Parquet files")
    try:
        store = open_store(Settings())
        try:
            with _progress() as progress:
                task = progress.add_task("load", total=None)
                report = load(
                    store,
                    collection,
                    files,
                    batch=batch,
                    tick=lambda done, of: progress.update(task, completed=done, total=of),
                )
        finally:
            store.close()
    except IndexingError as error:
        raise CliError(f"The corpus was not loaded\n{error}") from error
    if as_json:
        print_json(vars(report))
    else:
        console.print(
            f"{collection}: {report.added} added, {report.replaced} replaced, {report.relabelled} relabelled,"
            f" {report.unchanged} unchanged",
            highlight=False,
        )


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=error_console)
