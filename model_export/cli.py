"""`clsp export` and `clsp evaluate`: a checkpoint becomes a bundle, a bundle gets its figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_export.bundle import Bundle
from model_export.export import export_bundle
from model_export.runtime import BundleRuntime, Vectors
from model_export.windows import plan_windows, pool_windows
from training.audio import load_clip
from training.checkpoint import load_checkpoint
from training.evaluate import embed_clips, evaluate_classes, evaluate_retrieval, read_manifest

console = Console(stderr=True)
export_app = typer.Typer(help="Write a model bundle.", no_args_is_help=True, add_completion=False)


@export_app.callback()
def _export() -> None:
    """Write a model bundle from a checkpoint."""


@export_app.command("checkpoint")
def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="folder that `clsp train` wrote")],
    out: Annotated[Path, typer.Option(help="folder of the bundle; an older bundle there is replaced")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8 weights")] = "int8",
    speech: Annotated[Path | None, typer.Option(help="folder of speech to verify with as well")] = None,
) -> None:
    """Export a checkpoint of our own training."""
    model, tokenizer, card = load_checkpoint(checkpoint)
    clips = (
        [load_clip(path, card.window_s) for path in sorted(speech.glob("*.*"))[:40] if path.suffix in AUDIO]
        if speech
        else []
    )
    bundle = export_bundle(model, tokenizer, card, out, precision=precision, speech=clips, say=console.print)
    size = sum(entry.bytes for entry in bundle.manifest.files.values()) / 1e6
    console.print(f"{out}: {size:.1f} MB, fingerprint {bundle.fingerprint()[:16]}")


AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


class BundleEmbedder:
    """A bundle as the evaluation's embedder, with the service's own window policy."""

    def __init__(self, runtime: BundleRuntime) -> None:
        self.runtime = runtime

    def embed_clip(self, samples: Vectors) -> Vectors:
        """[samples] at 16 kHz -> [D], unit L2."""
        policy = self.runtime.bundle.manifest
        ranges = plan_windows(
            len(samples),
            sample_rate=policy.sample_rate,
            window_s=policy.window_s,
            hop_s=policy.hop_s,
            min_s=policy.min_s,
        )
        return pool_windows(self.runtime.embed_speech([samples[start:stop] for start, stop in ranges]))

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [N, D], unit L2."""
        return self.runtime.embed_text(texts)


def evaluate(
    manifest: Annotated[Path, typer.Argument(help="JSONL with path or file, caption(s), and labels")],
    bundle: Annotated[Path, typer.Option(help="folder of the bundle")] = Path("models/clsp-small"),
    classify: Annotated[list[str] | None, typer.Option(help="label field, or field=preset; may be repeated")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to the runtime")] = 0,
) -> None:
    """Retrieval both ways on a manifest's captions, and zero-shot classification on its labels, with 95 % intervals.

    Exit code 2 when a clip could not be read: figures over what is left would look better than they are.
    """
    clips = read_manifest(manifest)
    embedder = BundleEmbedder(BundleRuntime(Bundle.load(bundle), threads=threads))
    vectors, kept, refused = embed_clips(embedder, track(clips, "embedding clips", console=console))
    report: dict[str, Any] = {
        "coverage": [len(kept), len(clips)],
        "retrieval": evaluate_retrieval(embedder, vectors, kept),
    }
    for wish in classify or []:
        field, _, preset = wish.partition("=")
        prompts = embedder.runtime.bundle.manifest.presets.get(preset or field)
        if prompts is None:
            known = ", ".join(embedder.runtime.bundle.manifest.presets)
            raise typer.BadParameter(f"the bundle has no preset {preset or field!r}; it has {known}")
        report[field] = evaluate_classes(embedder, vectors, kept, field, prompts)
    print_report(report)
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")
    for line in refused:
        console.print(f"[red]not judged[/red] {line}")
    if refused:
        raise typer.Exit(2)


def print_report(report: Mapping[str, Any]) -> None:
    """One table: measure, value, interval, chance."""
    table = Table("task", "measure", "%", "95 % interval", "chance", "clips")
    for task, rows in report.items():
        if not isinstance(rows, dict) or not rows:
            continue
        parts = {f"{task} {k}": v for k, v in rows.items() if isinstance(v, dict) and "R@1" in v} or {task: rows}
        for name, part in parts.items():
            for measure, value in part.items():
                if isinstance(value, dict) and "chance" in value:
                    interval = f"{value['low']} to {value['high']}"
                    table.add_row(
                        name, measure, f"{value['value']}", interval, f"{value['chance']}", str(rows["clips"])
                    )
    Console().print(table)
