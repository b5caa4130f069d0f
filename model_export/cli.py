"""`clsp export`: a checkpoint becomes a bundle."""

import math
import resource
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from soundfile import LibsndfileError

from model_export.amend import load_to_amend
from model_export.bundle import TOKENIZER, Bundle, BundleError
from model_export.export import export_bundle
from model_export.holdout_report import KEY, add_left_out, read_left_out
from model_export.official import load_official, load_tokenizer, official_card
from model_export.replace_bundle import check_place
from model_export.runtime import Vectors
from model_export.verify import LENGTHS_S, LIBRARY, Scope
from model_export.windows import check_windows
from training.audio import load_clip
from training.model import ClspConfig
from training.model.checkpoint import load_checkpoint

console = Console(stderr=True)
LEFT_OUT = typer.Option(
    help="figures of models trained without a corpus, as `training.evaluation.holdout_report --out` writes them"
)
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
    out: Annotated[Path, typer.Option(help="folder of the bundle, new or empty; an older bundle there is replaced")],
    precision: Annotated[Weights, typer.Option(help="how weights are stored")] = Weights.INT8,
    arithmetic: Annotated[Weights, typer.Option(help=ARITHMETIC)] = Weights.FP32,
    text_arithmetic: Annotated[Weights | None, typer.Option(help="the text tower's, if another")] = None,
    speech: Annotated[Path | None, typer.Option(help="folder of speech to verify with as well")] = None,
    left_out: Annotated[Path | None, LEFT_OUT] = None,
) -> None:
    """Export a checkpoint of our own training."""
    check_place(out, (checkpoint, speech, left_out))
    model, tokenizer, card = load_checkpoint(checkpoint)
    if left_out:
        card.provenance[KEY] = read_left_out(left_out).model_dump()
    clips = read_speech(speech, 40, card.window_s)
    bundle = export_bundle(
        model,
        tokenizer,
        card,
        out,
        precision=precision.value,
        arithmetic=arithmetic.value,
        text_arithmetic=text_arithmetic.value if text_arithmetic else None,
        speech=clips,
        say=console.print,
    )
    print_bundle(bundle)


@export_app.command("card")
def export_card(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    left_out: Annotated[Path, LEFT_OUT],
) -> None:
    """Write figures of what was left out into a bundle that is there already; its weights and identity stay."""
    try:
        add_left_out(load_to_amend(bundle), read_left_out(left_out))
    except (BundleError, ValidationError, OSError) as error:
        console.print(f"[red]nothing written[/red] {error}", highlight=False)
        raise typer.Exit(1) from error


@export_app.command("official")
def export_official(
    checkpoint: Annotated[Path, typer.Option(help="folder with model.safetensors, sharded or not, and a tokenizer")],
    out: Annotated[Path, typer.Option(help="folder of the bundle, new or empty; an older bundle there is replaced")],
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
    hop_s: Annotated[float, typer.Option(help="distance of windows in longer clips, s; at most --window-s")] = 15.0,
    name: Annotated[str, typer.Option(help="the bundle's name")] = "clsp",
) -> None:
    """Export the released CLSP checkpoint (safetensors; none of its code is run)."""
    try:
        check_place(out, (checkpoint, tokenizer, config, speech))
        check_windows(window_s=window_s, hop_s=hop_s)
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
    except (ValueError, OSError) as error:
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
    try:
        return [load_clip(paths[int(i * step)], longest_s) for i in range(min(most, len(paths)))]
    except LibsndfileError as error:
        raise ValueError(f"--speech: {error}") from error


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
