"""`clsp` commands about speech libraries: ingest, search, collections, delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from clsp_client import ProblemError
from clsp_client.answers import AppliedPart
from clsp_client.calls import QueryPart, SourceKind
from service.cli.common import DEFAULT_URL, CliError, JsonOption, KeyOption, UrlOption, clip_uri, connect
from service.cli.jobs import (
    INGEST_FAILED,
    STOPPED,
    ingest_on_server,
    progress_bar,
    say_stopped,
    summarise,
    write_failures,
)
from service.cli.output import console, error_console, hits_table, print_json, table
from service.cli.upload import Ingest
from service.core.clip_sources import read_source
from service.style.negation import REFUSED_WEIGHT, read_wish

CollectionArgument = Annotated[str, typer.Argument(help="Name of the collection.")]


def ingest(
    collection: CollectionArgument,
    source: Annotated[Path, typer.Argument(help="A folder of audio, or a JSONL manifest: file, id, metadata a line.")],
    failures: Annotated[
        Path | None,
        typer.Option(
            help="Where clips that failed are listed, one JSON a line, and which is removed when none fails. "
            "COLLECTION-failures.jsonl unless given."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Clips sent in one request.")] = 16,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to go on trying while the service is full.")] = 120.0,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    server_side: Annotated[
        bool,
        typer.Option(
            "--server-side",
            help="SOURCE lies on the server, below one of its CLSP_INGEST_ROOTS: a job there ingests it. "
            "A folder, a .jsonl manifest, or .parquet embeddings.",
        ),
    ] = False,
    kind: Annotated[
        SourceKind | None,
        typer.Option(
            help="With --server-side: what SOURCE is, where its name does not tell. A folder of embeddings is parquet."
        ),
    ] = None,
) -> None:
    """Add a folder or a manifest of clips to a collection; run it again to resume.

    What is stored with the same content is skipped, and metadata of which SOURCE says nothing stays. Exit status 3 when
    some clips failed: they are listed in a file.
    """
    failures = failures or Path(f"{collection}-failures.jsonl")
    if server_side:
        with connect(url, api_key, patience_s=patience) as client:
            ingest_on_server(client, collection, str(source), failures, kind=kind, as_json=as_json)
        return
    if kind is not None:
        raise CliError("--kind is of what lies on the server: it needs --server-side")
    clips = read_source(source)
    with connect(url, api_key, patience_s=patience) as client:
        run = Ingest(client, collection, batch=batch)
        run.prepare()
        try:
            with progress_bar() as progress:
                task = progress.add_task(escape(collection), total=len(clips))
                for _ in run.steps(clips):
                    progress.advance(task)
        except KeyboardInterrupt:
            say_stopped(
                run.outcome.as_dict(), len(clips), "Run the same command again to go on; nothing is sent twice."
            )
            raise typer.Exit(STOPPED) from None
        finally:
            # What failed before the service went away is worth knowing too.
            write_failures(failures, run.outcome.failures)
    if as_json:
        print_json(run.outcome.as_dict())
    else:
        summarise(collection, run.outcome.as_dict(), failures)
    if run.outcome.failures:
        raise typer.Exit(INGEST_FAILED)


def search(
    collection: CollectionArgument,
    query: Annotated[
        list[str] | None, typer.Argument(help='How it should sound, in words: "a calm woman, not whispering".')
    ] = None,
    refused: Annotated[list[str] | None, typer.Option("--not", help="How hits should not sound, in words.")] = None,
    clip: Annotated[list[Path] | None, typer.Option(help="An audio file that hits should sound like.")] = None,
    item: Annotated[list[str] | None, typer.Option(help="Id of an item that hits should sound like.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="field=value that hits must have; repeat for more.")] = None,
    filter_json: Annotated[str | None, typer.Option("--filter", help="A filter as JSON, for all operators.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Most hits.")] = 10,
    min_score: Annotated[float | None, typer.Option(help="Least cosine of a hit.")] = None,
    text_weight: Annotated[float, typer.Option(help="Weight of each text.")] = 1.0,
    clip_weight: Annotated[float, typer.Option(help="Weight of each clip; negative to get away from it.")] = 1.0,
    item_weight: Annotated[float, typer.Option(help="Weight of each item; negative to get away from it.")] = 1.0,
    not_weight: Annotated[float, typer.Option(min=0, help="Weight against each --not.")] = -REFUSED_WEIGHT,
    style: Annotated[
        bool, typer.Option("--style", help="Compare with clips and items only how they are spoken, whoever speaks.")
    ] = False,
    diversity: Annotated[float, typer.Option(min=0, max=1, help="How much hits should differ from each other.")] = 0.0,
    effort: Annotated[
        int | None, typer.Option(min=1, help="Lists of an approximate index to look into; default: as it was tuned.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search a collection by text, by clips, by items of it, or by a mixture."""
    wishes = [wish for text in query or [] for wish in read_wish(text)]
    parts: list[QueryPart] = [{"text": text, "weight": weight * text_weight} for text, weight in wishes]
    parts += [{"text": text, "weight": -not_weight} for text in refused or []]
    aspect: Literal["all", "style"] = "style" if style else "all"
    parts += [{"audio": clip_uri(path), "weight": clip_weight, "aspect": aspect} for path in clip or []]
    parts += [{"item_id": id, "weight": item_weight, "aspect": aspect} for id in item or []]
    if not parts:
        raise CliError('Nothing to search for: give a text ("a calm older woman"), --clip FILE or --item ID')
    conditions = parse_filter(where or [], filter_json)
    with connect(url, api_key) as client:
        answer = client.search(
            collection,
            parts,
            top_k=top_k,
            filter=conditions,
            min_score=min_score,
            diversity=diversity or None,
            effort=effort,
        )
    if as_json:
        print_json(answer)
        return
    console.print(hits_table(_named(answer["query"], clip or []), answer))
    if answer["truncated"]:
        error_console.print("[yellow]The text was longer than the model reads; its end was cut off.[/]")


def _named(parts: Sequence[AppliedPart], clips: Sequence[Path]) -> str:
    """The query as the service read it, in words."""
    files = iter(clips)
    words = []
    for part in parts:
        name = part["text"] or (f"like {part['item_id']}" if part["item_id"] else f"like {next(files).name}")
        words.append(name if part["weight"] > 0 else f"not {name}")
    return ", ".join(words)


def parse_filter(where: list[str], filter_json: str | None) -> dict[str, Any] | None:
    """`field=value` pairs and a JSON filter -> one filter that asks for all of them; None when there is nothing.

    A value is JSON where it parses (`age=40`, `tags=["calm"]`), else text. Raises CliError.
    """
    filters: list[dict[str, Any]] = []
    for condition in where:
        name, equals, value = condition.partition("=")
        if not name or not equals:
            raise CliError(f"--where {condition!r}: write field=value")
        if any(name in one for one in filters):
            # All must hold, and no field has two values: the answer would be empty without a word of why.
            either = f'--where \'{name}=["one","other"]\''
            raise CliError(f"--where {name}=... is given twice: write {either} for either of them, or use --filter")
        try:
            filters.append({name: _parse(value)})
        except (ValueError, RecursionError):
            filters.append({name: value})
    if filter_json is not None:
        try:
            parsed = _parse(filter_json)
        except (ValueError, RecursionError) as error:
            raise CliError(f"--filter is not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise CliError('--filter must be a JSON object, as {"age": {"gte": 40}}')
        filters.append(parsed)
    if len(filters) <= 1:
        return filters[0] if filters else None
    return {"all": filters}


def _parse(text: str) -> Any:
    """JSON as others read it: without Python's NaN and infinities. Raises ValueError and RecursionError."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number in JSON")

    return json.loads(text, parse_constant=refuse)


def collections(url: UrlOption = DEFAULT_URL, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the collections and what they hold."""
    with connect(url, api_key) as client:
        found = client.collections()
    if as_json:
        print_json({"data": found})
        return
    rows = [
        (one["name"], one["items"], one["segments"], ", ".join(one["metadata_fields"]), one["description"])
        for one in found
    ]
    console.print(table("Collections", ("name", "items", "segments", "fields", "description"), rows))


def delete(
    collection: CollectionArgument,
    items: Annotated[list[str] | None, typer.Argument(help="Ids to delete; none means the whole collection.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a whole collection goes.")] = False,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
) -> None:
    """Delete items of a collection, or the collection with all it holds."""
    with connect(url, api_key) as client:
        if not items:
            if not yes:
                typer.confirm(f"Delete the collection {collection!r} with all its clips?", abort=True, err=True)
            client.delete_collection(collection)
        gone, refused = [] if items else [collection], list[str]()
        for id in items or []:
            try:
                client.delete_item(collection, id)
                gone.append(id)
            except ProblemError as error:
                if error.status != 404:
                    raise CliError(f"{error}\n{_deleted(gone)}") from error
                refused.append(id)
    console.print(escape(_deleted(gone)), highlight=False)
    if refused:
        raise CliError(f"{collection} has no item {', '.join(refused)}")


def _deleted(names: Sequence[str]) -> str:
    return f"Deleted {', '.join(names) or 'nothing'}"
