"""`make demo`: the whole journey over HTTP. Starts a service, fills it with the example library, searches, classifies,
scores, and stops it. Running it again costs less: what is stored already is not sent again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clsp_client import Client, ClspError, ProblemError, data_uri
from index.errors import StoreLocked
from index.storage.locks import FolderLock
from service.cli.common import CliError, connect, explain
from service.cli.local_server import local_server
from service.cli.output import hits_table, labels_table, scores_table
from service.cli.upload import Ingest
from service.core.clip_sources import read_source

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "examples" / "library"
COLLECTION = "examples"
console = Console(width=120) if not sys.stdout.isatty() else Console()


def main() -> int:
    """Run the demo; 0 when every step worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data" / "demo", help="what `make serve` shows later")
    folder = _free_folder(parser.parse_args().data_dir)
    console.print(f"[bold]Starting a service[/] on {folder}", highlight=False)
    try:
        bundle = ROOT / "models" / "clsp-small"
        with local_server(folder, bundle=bundle) as server, connect(server.url, patience_s=120) as client:
            console.print(f"  ready after {server.ready_s:.1f} s at {server.url}", highlight=False)
            _introduce(client)
            _ingest(client)
            _search(client)
            _classify(client)
            _score(client)
    except (CliError, ClspError) as error:
        console.print(f"[bold red]The demo failed[/]\n{escape(explain(error))}", highlight=False)
        return 1
    console.print("\n[bold green]That was all over HTTP.[/] Now listen to it: [bold]make serve[/], then open")
    console.print("  http://127.0.0.1:8000/       the search page, with this library in it")
    console.print("  http://127.0.0.1:8000/docs   every endpoint, with examples")
    return 0


def _free_folder(folder: Path) -> Path:
    """The folder, or a temporary one while another service is running on it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        FolderLock(folder).release()
    except StoreLocked:
        return Path(tempfile.mkdtemp(prefix="clsp-demo-"))
    return folder


def _introduce(client: Client) -> None:
    model = client.models()[0]
    console.print(f"  model {model['id']} {model['version']}, {model['embedding_dim']} dimensions", highlight=False)


def _ingest(client: Client) -> None:
    console.print(f"\n[bold]Ingesting[/] {LIBRARY.relative_to(ROOT)}")
    clips = read_source(LIBRARY / "manifest.jsonl")
    run = Ingest(client, COLLECTION, batch=8)
    try:
        run.prepare()
    except ProblemError as error:
        if error.status != 409:
            raise
        console.print("  what an earlier demo stored was made by another model: starting over")
        client.delete_collection(COLLECTION)
        run.prepare()
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("clips", total=len(clips))
        for _ in run.steps(clips):
            progress.advance(task)
    if run.outcome.failures:
        raise CliError(f"Some clips were refused\n{json.dumps(run.outcome.failures, indent=2)}")
    console.print(f"  {run.outcome.added} added, {run.outcome.unchanged} there already", highlight=False)


def _search(client: Client) -> None:
    def show(title: str, query: Any, **options: Any) -> None:
        answer = client.search(COLLECTION, query, top_k=5, **options)
        if not answer["hits"]:
            raise CliError(f"Nothing was found: {title}")
        console.print()
        console.print(hits_table(f"{title}  ({answer['took_ms']:.0f} ms)", answer))

    console.print("\n[bold]Searching[/] by how it sounds; `best s` is where in the clip it sounds like that")
    show('"a man with a very deep voice"', "a man with a very deep voice")
    show('"somebody whispers"', "somebody whispers")
    show(
        '"speaking very slowly", women only: filter {"gender": "female"}',
        "speaking very slowly",
        filter={"gender": "female"},
    )
    clip = LIBRARY / "woman-us-whisper.ogg"
    show(f"like the clip {clip.name}, but men", [{"audio": data_uri(clip)}], filter={"gender": "male"})
    show('like the item "man-us-very-slow"', [{"item_id": "man-us-very-slow"}])


def _classify(client: Client) -> None:
    names = ["woman-gb-plain.ogg", "man-us-low.ogg"]
    console.print("\n[bold]Classifying[/] without any training on the labels")
    console.print(
        labels_table("preset gender", names, client.classify([LIBRARY / name for name in names], preset="gender"))
    )


def _score(client: Client) -> None:
    name = "man-us-very-slow.ogg"
    captions = ["A man speaks very slowly.", "A woman talks extremely fast in a high-pitched voice."]
    answer = client.score([(LIBRARY / name, caption) for caption in captions])
    console.print("\n[bold]Scoring[/] a clip against a caption that fits and one that does not")
    console.print(scores_table("Scores", [(name, caption) for caption in captions], answer))


if __name__ == "__main__":
    sys.exit(main())
