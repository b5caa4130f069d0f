"""`clsp evaluate` and `clsp calibrate`: a bundle's figures on speech that it has not seen, and what they teach it."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from model_export.amend import load_to_amend
from model_export.bundle import Bundle, Calibration
from model_export.calibrate import recalibrate
from model_export.embedder import BundleEmbedder
from model_export.runtime import BundleRuntime
from training.evaluation.calibrate import LEAST_PAIRS, fit_kinds
from training.evaluation.clips import read_manifest
from training.evaluation.evaluate import embed_clips, evaluate_sources
from training.evaluation.labels import ClassTask, read_prompts, tasks_of
from training.evaluation.plots import write_plots
from training.evaluation.tables import HEADS, figure_rows, markdown, title_of
from training.protocols import PROTOCOLS, Corpus
from training.yaml_file import read_yaml

console = Console(stderr=True)
INCOMPLETE = 3
"""Exit status when clips could not be judged: figures over the rest would look better than they are."""

BundleArgument = Annotated[Path, typer.Argument(help="folder of the bundle, ours or an official one")]
Where = Annotated[list[str] | None, typer.Option(help="field=value that rows must have; repeat for more")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to the runtime")]


class ProtocolName(StrEnum):
    """The built-in protocols, for the command line."""

    RAVDESS = "ravdess"
    CREMAD = "crema-d"
    IEMOCAP = "iemocap"


class Resample(StrEnum):
    """What intervals are drawn over, for the command line."""

    CLIPS = "clips"
    SPEAKERS = "speakers"


def evaluate(
    bundle: BundleArgument,
    manifest: Annotated[Path | None, typer.Argument(help="JSONL with path, captions, labels, ratings")] = None,
    protocol: Annotated[ProtocolName | None, typer.Option(help="a published test set instead of a manifest")] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the protocol's corpus, as its owners pack it")] = None,
    classify: Annotated[list[str] | None, typer.Option(help="label field, or field=preset; repeat for more")] = None,
    prompts: Annotated[Path | None, typer.Option(help="YAML or JSON: preset: {class: prompt or prompts}")] = None,
    where: Where = None,
    by: Annotated[str, typer.Option(help="label that sources are told apart by")] = "source",
    resample: Annotated[Resample, typer.Option(help="what intervals are drawn over")] = Resample.CLIPS,
    out: Annotated[Path | None, typer.Option(help="folder for report.json, report.md and the plots")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    allow_missing: Annotated[bool, typer.Option(help="exit 0 though clips are missing or could not be read")] = False,
    threads: Threads = 0,
) -> None:
    """Retrieval, zero-shot classes, style similarity and calibration of a bundle, by source, with 95 % intervals.

    Exit status 3 when a clip is missing or could not be read, 1 when nothing could be evaluated.
    """
    model = Bundle.load(bundle)
    presets = dict(model.manifest.presets)
    if prompts is not None:
        presets |= read_prompts(read_yaml(prompts))
    data, corpus, tasks = _data(manifest, protocol, root, _pairs(where, "--where"), by)
    if tasks is None:
        wishes = {wish.partition("=")[0]: wish.partition("=")[2] or wish for wish in classify or []}
        tasks = tasks_of(wishes, presets, corpus.clips)
    elif classify or prompts:
        raise typer.BadParameter("a protocol brings its own tasks and prompts", param_hint="--classify, --prompts")
    embedder = BundleEmbedder(BundleRuntime(model, threads=threads))
    vectors, kept, refused = embed_clips(embedder, track(corpus.clips, "embedding clips", console=console))
    if not kept:
        raise ValueError(f"none of {len(corpus.clips)} clips could be read; the first: {refused[0]}")
    fitted = model.manifest.calibration
    maps = {"captions": fitted} | ({"labels": fitted.labels} if fitted.labels else {})
    sources = evaluate_sources(
        embedder,
        vectors,
        kept,
        tasks,
        calibrations={texts: (one.scale, one.bias) for texts, one in maps.items()},
        resample=resample.value,
    )
    if not any(list(figure_rows(rows)) for rows in sources.values()):
        raise ValueError(
            f"{data}: no source has what a figure needs: two captions that differ, labels of two classes of a preset "
            f"({', '.join(presets)}), or three ratings"
        )
    # Only what was asked for by name is missed: other tasks are there because their labels are.
    unmet = [task for task in tasks if classify and not any(task.name in rows for rows in sources.values())]
    notes = [f"{task.name}: no source has clips of two of its classes ({', '.join(task.prompts)})" for task in unmet]
    report = {
        "bundle": identity_of(model),
        "data": data,
        "coverage": {"judged": len(kept), "of": len(corpus.clips), "refused": refused, "missing": corpus.missing},
        "notes": [*corpus.notes, *notes],
        "resampled": resample.value,
        "sources": sources,
    }
    _publish(report, out, as_json=as_json)
    if (refused or corpus.missing) and not allow_missing:
        raise typer.Exit(INCOMPLETE)


def _data(
    manifest: Path | None, protocol: ProtocolName | None, root: Path | None, where: Mapping[str, str], by: str
) -> tuple[str, Corpus, Sequence[ClassTask] | None]:
    """What is evaluated: its name, its clips, and a protocol's own tasks."""
    if (manifest is None) == (protocol is None):
        raise typer.BadParameter("give either a manifest or --protocol", param_hint="MANIFEST")
    if protocol is not None:
        if root is None:
            raise typer.BadParameter(f"where is the corpus? --protocol {protocol} needs it", param_hint="--root")
        test = PROTOCOLS[protocol.value]
        return test.title, test.read(root), test.tasks
    if root is not None:
        raise typer.BadParameter("only a protocol has a root; paths of a manifest start at it", param_hint="--root")
    assert manifest is not None
    named = f"{manifest.name}" + "".join(f", {name}={value}" for name, value in where.items())
    return named, Corpus(read_manifest(manifest, by=by, where=where), []), None


def calibrate(
    bundle: BundleArgument,
    manifest: Annotated[Path, typer.Argument(help="JSONL with path and captions of clips the model never trained on")],
    where: Where = None,
    threads: Threads = 0,
) -> None:
    """Fit a bundle's match probability and percentile table on held-out pairs, and write them into the bundle.

    The weights stay as they are, and with them the identity: vectors and collections remain good.
    """
    model = load_to_amend(bundle)
    clips = read_manifest(manifest, where=_pairs(where, "--where"))
    embedder = BundleEmbedder(BundleRuntime(model, threads=threads))
    vectors, kept, refused = embed_clips(embedder, track(clips, "embedding clips", console=console))
    if refused:
        raise ValueError(f"{len(refused)} of {len(clips)} clips could not be read; the first: {refused[0]}")
    found = fit_kinds(kept, lambda texts: vectors @ embedder.embed_text(texts).T)
    if found is None:
        raise ValueError(f"{manifest}: a calibration needs {LEAST_PAIRS} captions, some of which mismatch some clips")
    fitted = Calibration.model_validate(found)
    recalibrate(model, fitted)
    for name, one in (("captions", fitted), ("labels", fitted.labels)):
        if one is not None and (error := one.expected_calibration_error) is not None:
            console.print(
                f"{name}: P(match) = sigmoid({one.scale:g} * cosine {one.bias:+g}), fitted on {one.pairs} pairs of "
                f"{len(kept)} clips; expected calibration error {100 * error.value:.2f} % "
                f"({100 * error.low:.2f} to {100 * error.high:.2f})",
                highlight=False,
            )


def identity_of(bundle: Bundle) -> dict[str, str]:
    """Which weights a report is about."""
    told = bundle.manifest
    return {
        "name": told.name,
        "version": told.version,
        "precision": told.precision,
        "fingerprint": bundle.fingerprint(),
    }


def _pairs(options: Sequence[str] | None, hint: str) -> dict[str, str]:
    found = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option!r}: write field=value", param_hint=hint)
        found[name] = value
    return found


def _publish(report: Mapping[str, Any], out: Path | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        for source, tasks in report["sources"].items():
            table = Table(*HEADS, title=escape(title_of(source, tasks)), title_justify="left")
            for row in figure_rows(tasks):
                table.add_row(*map(escape, row))
            Console().print(table)
    coverage = report["coverage"]
    for title, lines in (("not judged", coverage["refused"]), ("missing", coverage["missing"])):
        for line in lines[:10]:
            console.print(f"[red]{title}[/red] {escape(line)}", highlight=False, soft_wrap=True)
        if len(lines) > 10:
            console.print(f"[red]{title}[/red] and {len(lines) - 10} more", highlight=False)
    for note in report["notes"]:
        console.print(escape(note), highlight=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / "report.md").write_text(markdown(report), encoding="utf-8")
        plots = write_plots(report, out)
        console.print(f"report.json, report.md and {len(plots)} plots are in {escape(str(out))}", highlight=False)
