"""`clsp export` and `clsp evaluate`: a checkpoint becomes a bundle, a bundle gets its figures."""

import json
import math
import resource
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_export.bundle import TOKENIZER, Bundle
from model_export.export import export_bundle
from model_export.official import load_official, load_tokenizer, official_card
from model_export.runtime import BundleRuntime, Vectors
from model_export.verify import LENGTHS_S, LIBRARY, Scope, VerificationError
from model_export.windows import plan_windows, pool_windows
from training.audio import load_clip
from training.checkpoint import CheckpointError, load_checkpoint
from training.evaluate import embed_clips, evaluate_classes, evaluate_retrieval, read_manifest
from training.model import ClspConfig

console = Console(stderr=True)
ARITHMETIC = "what sums are made in: fp32, or the precision's own (fp16 for a GPU, int8 or int16 for a CPU)"


class Weights(StrEnum):
    """The precisions, for the command line."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT16 = "int16"
    INT8 = "int8"


export_app = typer.Typer(help="Write a model bundle.", no_args_is_help=True, add_completion=False)


@export_app.callback()
def _export() -> None:
    """Write a model bundle from a checkpoint."""


@export_app.command("checkpoint")
def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="folder that `clsp train` wrote")],
    out: Annotated[Path, typer.Option(help="folder of the bundle; an older bundle there is replaced")],
    precision: Annotated[Weights, typer.Option(help="how weights are stored")] = Weights.INT8,
    arithmetic: Annotated[Weights, typer.Option(help=ARITHMETIC)] = Weights.FP32,
    speech: Annotated[Path | None, typer.Option(help="folder of speech to verify with as well")] = None,
) -> None:
    """Export a checkpoint of our own training."""
    model, tokenizer, card = load_checkpoint(checkpoint)
    clips = read_speech(speech, 40, card.window_s)
    bundle = export_bundle(
        model,
        tokenizer,
        card,
        out,
        precision=precision.value,
        arithmetic=arithmetic.value,
        speech=clips,
        say=console.print,
    )
    print_bundle(bundle)


@export_app.command("official")
def export_official(
    checkpoint: Annotated[Path, typer.Option(help="folder with model.safetensors, sharded or not, and a tokenizer")],
    out: Annotated[Path, typer.Option(help="folder of the bundle; an older bundle there is replaced")],
    precision: Annotated[Weights, typer.Option(help="how weights are stored")] = Weights.FP32,
    arithmetic: Annotated[Weights | None, typer.Option(help=ARITHMETIC + "; by default the precision's own")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="roberta-base's folder or tokenizer.json, if elsewhere")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="the recipe's hyper-parameters, JSON, for another size")] = None,
    speech: Annotated[Path | None, typer.Option(help="folder of speech to verify with, read recursively")] = None,
    library: Annotated[int, typer.Option(help="clips that rankings are compared on", min=20)] = LIBRARY,
    longest_s: Annotated[float, typer.Option(help="longest sound to verify with, s", min=1)] = max(LENGTHS_S),
    window_s: Annotated[float, typer.Option(help="longest piece that is embedded at once, s")] = 30.0,
    hop_s: Annotated[float, typer.Option(help="distance of windows in longer clips, s")] = 15.0,
    name: Annotated[str, typer.Option(help="the bundle's name")] = "clsp",
) -> None:
    """Export the released CLSP checkpoint (safetensors; none of its code is run)."""
    try:
        shape = ClspConfig.from_recipe_json(config) if config else ClspConfig()
        words = load_tokenizer(tokenizer or checkpoint, shape.text)
        model = load_official(checkpoint, shape)
        print_peak("weights read")
        scale = math.exp(model.logit_scale.item())
        card = official_card(checkpoint, name=name, version="1.0.0", window_s=window_s, hop_s=hop_s, scale=scale)
        scope = Scope(tuple(seconds for seconds in LENGTHS_S if seconds <= longest_s), library)
        with tempfile.TemporaryDirectory() as scratch:
            words.save(str(Path(scratch) / TOKENIZER))
            bundle = export_bundle(
                model,
                Path(scratch) / TOKENIZER,
                card,
                out,
                precision=precision.value,
                arithmetic=(arithmetic or precision).value,
                speech=read_speech(speech, library, min(window_s, longest_s)),
                scope=scope,
                say=print_peak,
            )
    except (CheckpointError, VerificationError, ValidationError, OSError) as error:
        console.print(f"[red]not exported[/red] {error}", highlight=False)
        raise typer.Exit(1) from error
    print_peak("done")
    print_bundle(bundle)


def read_speech(folder: Path | None, most: int, longest_s: float) -> list[Vectors]:
    """At most `most` clips below a folder, evenly over their sorted paths, each at most `longest_s` long."""
    if folder is None:
        return []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)
    if not paths:
        raise typer.BadParameter(f"{folder} holds no audio ({', '.join(sorted(AUDIO))})", param_hint="--speech")
    step = max(1.0, len(paths) / most)
    return [load_clip(paths[int(i * step)], longest_s) for i in range(min(most, len(paths)))]


def print_peak(step: str) -> None:
    """Say what begins or ended, and the most memory held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"{step} (peak memory so far {peak:.1f} GiB)", highlight=False)


def print_bundle(bundle: Bundle) -> None:
    """Size, identity and what verification found."""
    size = sum(entry.bytes for entry in bundle.manifest.files.values()) / 1e6
    console.print(f"{bundle.path}: {size:.1f} MB, fingerprint {bundle.fingerprint()[:16]}")
    for tower in ("speech", "text"):
        console.print(f"  {tower}: {bundle.manifest.verification[tower]}", highlight=False)
    console.print(f"  ranks: {bundle.manifest.verification['rank_agreement']}", highlight=False)


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
    presets = Bundle.load(bundle).manifest.presets
    wanted = {wish.partition("=")[0]: wish.partition("=")[2] or wish for wish in classify or []}
    for preset in wanted.values():
        if preset not in presets:
            raise typer.BadParameter(f"the bundle has no preset {preset!r}; it has {', '.join(presets)}")
    clips = read_manifest(manifest)
    embedder = BundleEmbedder(BundleRuntime(Bundle.load(bundle), threads=threads))
    vectors, kept, refused = embed_clips(embedder, track(clips, "embedding clips", console=console))
    report: dict[str, Any] = {
        "coverage": [len(kept), len(clips)],
        "retrieval": evaluate_retrieval(embedder, vectors, kept),
    }
    for field, preset in wanted.items():
        report[field] = evaluate_classes(embedder, vectors, kept, field, presets[preset])
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
