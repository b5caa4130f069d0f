"""`clsp captions`: what one does with captions besides making them: convert, import, filter, sample, report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from training.captions.annotator import KINDS, TRAINER_KIND
from training.captions.console import plain_errors, say
from training.captions.filters import Said, check, tidy
from training.captions.formats import FormatError, Row, read_rows, write_rows
from training.captions.formats.releases import AudioIndex, Matching, import_release, layout_of
from training.captions.formats.training import Shares, cut_out, for_training
from training.captions.job import lengths_of
from training.captions.run import write_report
from training.captions.sampling import smallest

captions = typer.Typer(
    help="Convert, import, filter, sample and report on captions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RootOption = Annotated[Path | None, typer.Option(help="where relative paths start; else beside the manifest")]


@captions.command()
def convert(
    source: Annotated[Path, typer.Argument(help="JSONL, Lhotse cuts or Parquet")],
    out: Annotated[Path, typer.Argument(help="x.jsonl[.gz], x_cuts.jsonl[.gz] or x.parquet")],
    audio_root: RootOption = None,
    dev: Annotated[float, typer.Option(help="share of speakers for dev, where rows have no split")] = 0.1,
    test: Annotated[float, typer.Option(help="share of speakers for test, where rows have no split")] = 0.1,
    cut: Annotated[bool, typer.Option(help="write stretches of long files as files, as the trainer needs them")] = True,
) -> None:
    """Rewrite a manifest in another format; JSONL comes out as `clsp train` reads it."""
    with plain_errors():
        rows = for_training(read_rows(source, audio_root=audio_root), source.name.split(".")[0], Shares(dev, test))
        if cut and "cuts" not in out.name:
            rows = cut_out(rows, out.with_name(f"{out.name.split('.')[0]}.audio"))
        say(f"{write_rows(out, rows)} rows written to {out}")


@captions.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="fcaps-*.jsonl.gz, or a Parquet file of ParaSpeechCaps")],
    out: Annotated[Path, typer.Option(help="manifest to write")],
    audio: Annotated[list[Path], typer.Option(help="folder of audio, or a manifest with ids; repeat for several")],
    apply: Annotated[bool, typer.Option("--filter", help="drop captions that break our rules")] = False,
) -> None:
    """Marry the captions of a public release to audio that you have, by id or path; what has no match is listed."""
    with plain_errors():
        out.parent.mkdir(parents=True, exist_ok=True)
        index = AudioIndex(out.with_name(f".{out.name}.index.sqlite"))
        listed = out.with_name(f"{out.name}.unmatched.txt")
        try:
            for place in audio:
                index.add_folder(place) if place.is_dir() else index.add_manifest(place)
            with listed.open("w", encoding="utf-8") as file:
                found = Matching(lambda identifier: file.write(f"{identifier}\n"))
                rows = for_training(import_release(source, layout_of(source), index, found), source.name.split(".")[0])
                write_rows(out, filtered(rows) if apply else rows)
        finally:
            index.close()
        say(f"{found.matched} clips with {found.captions} captions written to {out}")
        say(f"{found.unmatched} clips of the release have no audio here, listed in {listed}")
        if found.doubtful:
            say(
                f"{found.doubtful} of these have the name of a file here, but other folders, or several clips could be "
                "it: does --audio name the folder that the release's paths start in?"
            )
        say(f"{found.unused_audio} audio files have no caption")
        if not found.matched:
            raise FormatError("nothing matched: does --audio name the folder that the release's paths start in?")


@captions.command("filter")
def filter_(
    source: Annotated[Path, typer.Argument(help="manifest with captions of any origin")],
    out: Annotated[Path, typer.Option(help="manifest to write; its report comes to lie beside it")],
    audio_root: RootOption = None,
    short_chars: Annotated[tuple[int, int] | None, typer.Option(help="least and most characters")] = None,
    long_chars: Annotated[tuple[int, int] | None, typer.Option(help="least and most characters")] = None,
) -> None:
    """Apply the rules to captions that are there: short and long ones, and the trainer's of kinds global and fine."""
    with plain_errors():
        bands = {"short": short_chars, "long": long_chars}
        rows = for_training(read_rows(source, audio_root=audio_root), source.name.split(".")[0])
        count = write_rows(out, filtered(rows, **bands))
        report = write_report(out, read_rows(out))
        say(f"{count} clips, {sum(report.kept.values())} captions kept; read {out}.report.md")


@captions.command()
def sample(
    source: Annotated[Path, typer.Argument(help="manifest")],
    out: Annotated[Path, typer.Option(help="manifest to write")],
    clips: Annotated[int, typer.Option(min=1, help="how many")] = 50,
    seed: Annotated[int, typer.Option(help="another draw")] = 0,
    audio_root: RootOption = None,
) -> None:
    """Draw clips from a manifest: the same ones every time."""
    with plain_errors():
        say(f"{write_rows(out, smallest(read_rows(source, audio_root=audio_root), clips, seed))} clips drawn")


@captions.command()
def report(
    source: Annotated[Path, typer.Argument(help="annotated manifest")],
    audio_root: RootOption = None,
) -> None:
    """Write SOURCE.report.md: how many captions fell to which rule, with samples to read."""
    with plain_errors():
        typer.echo(write_report(source, read_rows(source, audio_root=audio_root)).to_markdown())


def filtered(rows: Iterator[Row], **given: tuple[int, int] | None) -> Iterator[Row]:
    """Rows whose captions keep the rules; what broke one is moved to `rejected`."""
    bands = lengths_of(False, **given)
    for row in rows:
        gone: set[tuple[str, str]] = set()
        rejected = list(row.get("rejected") or [])
        ruled = TRAINER_KIND.values()
        captions = [{**c, "text": tidy(c["text"])} if c["kind"] in ruled else c for c in row["captions"]]
        for kind in KINDS:
            listed = list(map(tidy, row.get(f"{kind}_captions") or []))
            told = [caption["text"] for caption in captions if caption["kind"] == TRAINER_KIND[kind]]
            for text in dict.fromkeys([*listed, *told]):
                fault = check(Said(text, bands[kind], transcript=row.get("text")))
                if fault is not None:
                    gone.add((TRAINER_KIND[kind], text))
                    why = {"kind": kind, "seed": 0, "rule": fault.rule, "detail": fault.detail}
                    rejected.append({"text": text, **why})
            row[f"{kind}_captions"] = [text for text in listed if (TRAINER_KIND[kind], text) not in gone]
        captions = [caption for caption in captions if (caption["kind"], caption["text"]) not in gone]
        yield {**row, "captions": captions, "rejected": rejected}
