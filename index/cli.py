"""`clsp index`: plan, tune, rebuild, back up and restore the vector index of a data folder.

What is not said on the command line is as in `Defaults`. Whoever offers these commands hands them in, as the context's
`obj`: how the service that owns the folder is set, this room cannot know.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from index.ann.ivf import FrozenFacts
from index.ann.plan import MIB, IndexSettings, Plan, make_plan, mib
from index.errors import IndexingError, StoreLocked
from index.local import backup as backups
from index.local import catalog
from index.local.maintenance import IndexFacts
from index.local.snapshot import SnapshotFolder
from index.local.store import LocalStore
from index.local.vector_source import open_catalog

index_app = typer.Typer(
    help="Plan, tune, rebuild, back up and restore the index of a data folder.",
    no_args_is_help=True,
    add_completion=False,
)
console = Console(width=120) if not Console().is_terminal else Console()


@dataclass(frozen=True)
class Defaults:
    """The data folder and the settings of its indexes, where options do not say otherwise."""

    data_dir: Path = Path("data")
    settings: IndexSettings = field(default_factory=IndexSettings)

    def but(self, memory_mib: int | None, flat_mib: int | None) -> IndexSettings:
        """The settings with what options say."""
        memory_bytes = self.settings.memory_bytes if memory_mib is None else memory_mib * MIB
        flat_bytes = self.settings.flat_bytes if flat_mib is None else flat_mib * MIB
        return replace(self.settings, memory_bytes=memory_bytes, flat_bytes=flat_bytes)


FromDefaults = Callable[[], Defaults]
"""What the context's `obj` is; called by commands that run, so that --help works whatever is set."""

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the catalog and the audio (CLSP_DATA_DIR).")
]
MemoryMib = Annotated[
    int | None,
    typer.Option(
        "--memory-mib", min=0, help="Memory for all indexes; 0: half of the machine's (CLSP_INDEX_MEMORY_MIB)."
    ),
]
FlatMib = Annotated[
    int | None, typer.Option("--flat-mib", min=1, help="Vectors that are scanned whole (CLSP_INDEX_FLAT_MIB).")
]
Collection = Annotated[str | None, typer.Argument(help="One collection; all of them if not given.")]


@index_app.command()
def plan(
    context: typer.Context,
    collection: Collection = None,
    data_dir: DataDir = None,
    memory_mib: MemoryMib = None,
    flat_mib: FlatMib = None,
    vectors: Annotated[
        int | None, typer.Option(min=0, help="Plan for this many vectors instead of a folder's.")
    ] = None,
    dim: Annotated[int, typer.Option(min=1, help="Their dimensions, with --vectors.")] = 512,
) -> None:
    """Say which index each collection gets and why; reads only, also while a service runs."""
    defaults = _defaults(context)
    settings = defaults.but(memory_mib, flat_mib)
    if vectors is not None:
        _print_plans([("(what if)", make_plan(vectors, dim, settings), None)])
        return
    with _errors():
        folder = _library(data_dir or defaults.data_dir)
        with closing(open_catalog(folder / catalog.FILE)) as connection:
            infos = [catalog.collection_info(connection, row.name) for row in catalog.collection_rows(connection)]
            keys = {row.name: row.pk for row in catalog.collection_rows(connection)}
            if collection is not None:
                infos = [catalog.collection_info(connection, collection)]
        total = sum(info.segments * info.dim for info in infos) or 1
        snapshots = SnapshotFolder(folder / "index")
        rows = []
        for info in infos:
            share = int(settings.budget() * info.segments * info.dim / total)
            planned = make_plan(info.segments, info.dim, settings, share)
            rows.append((info.name, planned, snapshots.facts(keys[info.name])))
    _print_plans(rows)


@index_app.command()
def tune(
    context: typer.Context,
    collection: Collection = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Wanted recall@10 against exact search (CLSP_INDEX_RECALL)."),
    ] = None,
    data_dir: DataDir = None,
    memory_mib: MemoryMib = None,
    flat_mib: FlatMib = None,
) -> None:
    """Measure searches for the collection's own vectors and keep the least effort that reaches the recall."""
    defaults = _defaults(context)
    wanted = defaults.settings.target_recall if recall is None else recall
    with _errors(), _store(data_dir or defaults.data_dir, defaults.but(memory_mib, flat_mib)) as store:
        for name in _names(store, collection):
            _print_facts(name, store.maintenance.tune(name, wanted))


@index_app.command()
def rebuild(
    context: typer.Context,
    collection: Collection = None,
    data_dir: DataDir = None,
    memory_mib: MemoryMib = None,
    flat_mib: FlatMib = None,
) -> None:
    """Build the index anew from the catalog and save it."""
    defaults = _defaults(context)
    with _errors(), _store(data_dir or defaults.data_dir, defaults.but(memory_mib, flat_mib)) as store:
        for name in _names(store, collection):
            started = time.monotonic()
            facts = store.maintenance.rebuild(name)
            _print_facts(name, facts)
            console.print(f"built in {time.monotonic() - started:.1f} s")


@index_app.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="Folder to write; missing or empty.")],
    data_dir: DataDir = None,
) -> None:
    """Copy catalog, audio, index and ingest jobs to a folder, also while a service runs and writes.

    Settings and the model bundle are not part of it.
    """
    with _errors():
        _print_report(f"backed up to {target}", backups.backup(data_dir or _defaults(context).data_dir, target))


@index_app.command()
def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder that `clsp index backup` wrote.")],
    data_dir: DataDir = None,
) -> None:
    """Check a backup and make a data folder of it, which is missing or empty; then start the service on it.

    Ingest jobs that had not ended when the backup was taken go on.
    """
    folder = data_dir or _defaults(context).data_dir
    with _errors():
        _print_report(f"restored to {folder}", backups.restore(source, folder))


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except StoreLocked as error:
        typer.echo(f"Error: {error}; stop it first (plan and backup work while it runs)", err=True)
        raise typer.Exit(1) from error
    except IndexingError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def _defaults(context: typer.Context) -> Defaults:
    given: FromDefaults = context.obj or Defaults
    return given()


def _library(folder: Path) -> Path:
    if not (folder / catalog.FILE).is_file():
        raise IndexingError(f"{folder} holds no {catalog.FILE}; name the folder with --data-dir")
    return folder


def _store(folder: Path, settings: IndexSettings) -> LocalStore:
    # Nothing else runs in this process: every core may build, and here.
    threads = len(os.sched_getaffinity(0))
    alone = replace(settings, build_threads=threads, build_apart=False, background=False)
    return LocalStore(_library(folder), settings=alone)


def _names(store: LocalStore, collection: str | None) -> list[str]:
    return [collection] if collection is not None else [info.name for info in store.list_collections()]


def _print_plans(rows: list[tuple[str, Plan, FrozenFacts | None]]) -> None:
    table = Table(title="Index plan", title_justify="left")
    for column in ("collection", "vectors", "index", "resident", "snapshot", "recall@10", "build", "saved now"):
        table.add_column(column, justify="left" if column in ("collection", "index") else "right", overflow="fold")
    for name, one, now in rows:
        index = one.kind if one.kind == "flat" else f"{one.kind}, {one.lists} lists, {one.code_bytes} B a vector"
        table.add_row(
            name,
            f"{one.vectors} x {one.dim}",
            index,
            mib(one.resident_bytes),
            mib(one.disk_bytes),
            "exact" if one.kind == "flat" else f">= {one.recall:.2f}",
            f"{one.build_s:.0f} s",
            _built(now),
        )
    console.print(table)
    for name, one, _ in rows:
        console.print(f"{name}: {one.reason}.", style="dim", highlight=False)


def _built(facts: FrozenFacts | None) -> str:
    if facts is None:
        return "-"
    measured = f", recall {facts.recall:.3f}" if facts.recall is not None else ""
    return f"{facts.kind}, effort {facts.effort}{measured}"


def _print_facts(name: str, facts: IndexFacts) -> None:
    if facts.frozen is None:
        console.print(f"{name}: {facts.vectors} vectors, scanned whole: exact, there is no effort to tune")
        return
    title = f"{name}: {facts.vectors} vectors, {facts.frozen.kind}, {facts.lists} lists"
    table = Table("effort", "recall@10", "ms a search", "", title=title, title_justify="left")
    for point in facts.frozen.curve:
        chosen = f"in use, for {facts.frozen.target_recall:g}" if point.effort == facts.frozen.effort else ""
        table.add_row(str(point.effort), f"{point.recall:.4f}", f"{point.ms:.2f}", chosen)
    console.print(table)


def _print_report(what: str, report: backups.BackupReport) -> None:
    console.print(
        f"{what}: {report.collections} collections, {report.items} items, {report.segments} segments;"
        f" catalog {mib(report.catalog_bytes)}, index {mib(report.index_bytes)},"
        f" {report.media} audio files {mib(report.media_bytes)}, other databases {mib(report.other_bytes)};"
        f" as of {report.created_at}",
        highlight=False,
    )
