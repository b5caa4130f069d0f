"""`clsp`: the one command, from serving to training. Commands that need more than serving are loaded when called."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli import classify_embed, corpus
from service.cli import jobs as cli_jobs
from service.cli import library as cli_library
from service.cli import score as cli_score
from service.cli.common import HANDLED, CliError
from service.cli.doctor import data_folder, doctor
from service.cli.output import console, print_error, replace_unprintable

if TYPE_CHECKING:
    from index.cli import Defaults
    from service.settings import Settings

_STARTUP_FAILED = 3
"""Exit status where the service did not come up, as uvicorn has it."""

app = typer.Typer(
    help="Search, classify and score speech by how it sounds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"clsp-service {version('clsp-service')}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Search, classify and score speech by how it sounds."""


@app.command()
def serve(
    bundle: Annotated[Path | None, typer.Option(help="Model bundle to serve (CLSP_BUNDLE).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the catalog and the audio (CLSP_DATA_DIR).")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (CLSP_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (CLSP_PORT).")] = None,
) -> None:
    """Run the service. All other settings are environment variables: see docs/operations.md."""
    settings = _settings(bundle=bundle, data_dir=data_dir, host=host, port=port)
    import uvicorn

    from model_export.bundle import BundleError
    from service.app import create_app
    from service.core.logging import log_as_json
    from service.http.server_protocol import server_options

    folder = data_folder(settings)
    if folder.status != "ok":
        raise CliError(f"The service cannot start\n{folder.detail}")
    try:
        application = create_app(settings)
    except BundleError as error:
        raise CliError(f"The service cannot start\n{error}\n`clsp doctor` tells more.") from error
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(application, host=settings.host, port=settings.port, **server_options(settings))
    if settings.log_format == "json":
        log_as_json()  # now that uvicorn has set its handlers up, and before it says anything
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal anew once it has stopped
        server.run()
    if not server.started:
        sys.exit(_STARTUP_FAILED)


app.command()(cli_library.ingest)
app.add_typer(cli_jobs.jobs_app, name="jobs")
app.command()(cli_library.search)
app.command()(classify_embed.classify)
app.command()(cli_score.score)
app.command()(classify_embed.embed)
app.command()(cli_library.collections)
app.command()(cli_library.delete)
app.command()(doctor)
app.command()(corpus.embed_corpus)
app.command()(corpus.load_corpus)


def _settings(**given: Any) -> Settings:
    """The settings, with what options say where they are not None. Raises CliError."""
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = [f"CLSP_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise CliError("The settings cannot be used\n" + "\n".join(faults)) from error


def _index_defaults() -> Defaults:
    from index.cli import Defaults

    settings = _settings()
    return Defaults(settings.data_dir, settings.indexing())


_HANDED_IN: dict[str, Callable[[], Any]] = {"index": _index_defaults}
"""What rooms that must not know of the settings get of them, by the command's name, when they ask."""


def _plugin(entry: EntryPoint) -> Callable[[typer.Context], None]:
    """A command that imports another room only when it is called, and hands all arguments over to it."""

    def run(ctx: typer.Context) -> None:
        # Before PyTorch is loaded. Its threads would wait for each other spinning, and where another process, or a
        # quota, takes a core, that takes most of the time: exports took more than five times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            target: Any = entry.load()
        except ImportError as error:
            missing = f" (no module {error.name!r})" if error.name else f" ({error})"
            raise CliError(
                f"`clsp {entry.name}` needs more than serving does{missing}.\n"
                f"It needs pip install 'clsp-service[train]', or from a clone: pip install -e '.[cpu,train]'"
            ) from error
        if not isinstance(target, typer.Typer):
            command, target = target, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            target.command()(command)
        try:
            target(args=ctx.args, prog_name=f"clsp {entry.name}", obj=_HANDED_IN.get(entry.name))
        except (OSError, ValueError) as error:
            # Absent files, and what the rooms refuse: all their errors are ValueErrors that say what is wrong.
            raise CliError(f"`clsp {entry.name}` failed\n{error}") from error

    return run


_HELP: Final = {
    "annotate": "Write style captions for clips, from measurements or with a language model.",
    "calibrate": "Fit a bundle's match probability on your own labelled clips.",
    "captions": "Convert, filter and inspect caption files.",
    "evaluate": "Measure a bundle on your clips or on a public test set.",
    "export": "Export a trained or released checkpoint to a model bundle.",
    "index": "Inspect, rebuild, back up and restore the index of a data folder.",
    "judge": "Rate captions with a language model.",
    "train": "Train a model from a recipe.",
}
"""Commands that other packages own are loaded when they are called; their help must not need that."""

for _entry in sorted(entry_points(group="clsp.commands"), key=lambda entry: entry.name):
    app.command(
        _entry.name,
        help=_HELP.get(_entry.name, f"See `clsp {_entry.name} --help`."),
        # Its own options, --help among them, belong to the command that is loaded.
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )(_plugin(_entry))


def main() -> None:
    """Entry point of the `clsp` script: errors become messages, never tracebacks."""
    replace_unprintable()
    try:
        app()
    except HANDLED as error:
        print_error(error)
        sys.exit(getattr(error, "exit_code", 1))
