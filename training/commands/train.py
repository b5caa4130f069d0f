"""`clsp train`: a recipe and a manifest in, a checkpoint and its figures out."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from soundfile import LibsndfileError

from training.captions.formats import FormatError
from training.captions.formats.training import read_clips
from training.captions.utterance import AudioError
from training.evaluation.calibrate import fit_calibration
from training.evaluation.report import held_out_report
from training.model import Clsp, build_model
from training.model.checkpoint import Card, CheckpointError, load_checkpoint, save_checkpoint
from training.model.initial import (
    InitialWeightsError,
    load_speech_tower,
    load_text_tower,
    tokenizer_file,
    weights_folder,
)
from training.model.reference_mean import measure_reference_mean
from training.objective.examples import TrainClip
from training.trainer.errors import NothingToTrainError, StageError
from training.trainer.heads.features import load_plain_tokenizer
from training.trainer.heads.recipe import Recipe
from training.trainer.heads.soup import train_recipe
from training.trainer.recipe import StageRecipe, read_any_recipe
from training.yaml_file import YamlError

console = Console(stderr=True)


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, for example training/recipes/clsp-small.yaml")],
    manifest: Annotated[Path, typer.Option(help="captioned speech: JSONL, Lhotse cuts or Parquet")],
    out: Annotated[Path, typer.Option(help="folder of the checkpoint")],
    cache: Annotated[Path, typer.Option(help="folder of encoded features, kept between runs")] = Path("runs/cache"),
    audio_root: Annotated[
        Path | None, typer.Option(help="where the manifest's relative paths start; beside it unless named")
    ] = None,
    resume: Annotated[bool, typer.Option(help="go on from OUT's last state, or begin where there is none")] = False,
    cpu: Annotated[bool, typer.Option(help="train on the CPU even where there is a GPU (stage recipes)")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch")] = 0,
) -> None:
    """Train on a manifest's `train` split, calibrate on `dev`, report on `dev` and `test`.

    A recipe with a `stage` section runs end to end from audio; one with `train` trains heads on cached features.
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        plan = read_any_recipe(recipe)
        if isinstance(plan, StageRecipe):
            train_stage(plan, manifest, out, cache, audio_root, resume=resume, cpu=cpu)
        else:
            train_heads(plan, manifest, out, cache, audio_root)
    except (
        ValidationError,
        YamlError,
        FormatError,
        StageError,
        InitialWeightsError,
        CheckpointError,
        AudioError,
        LibsndfileError,
        OSError,
    ) as error:
        console.print(f"[red]{type(error).__name__}:[/red] {error}", highlight=False)
        raise typer.Exit(2) from error


def train_stage(
    plan: StageRecipe, manifest: Path, out: Path, cache: Path, audio_root: Path | None, *, resume: bool, cpu: bool
) -> None:
    """Run a stage, with a bar over its steps in the main process."""
    # accelerate, Lhotse, peft and TensorBoard: seconds that heads do without.
    from training.trainer.clips import Source
    from training.trainer.run import run_stage

    with _progress(quiet=os.environ.get("RANK", "0") != "0") as progress:
        task = progress.add_task("steps", total=plan.stage.steps)
        report = run_stage(
            plan,
            Source(manifest, plan.data, audio_root),
            out,
            cache=cache,
            resume=resume,
            cpu=cpu,
            say=progress.console.print,
            on_step=lambda step: progress.update(task, completed=step),
        )
    if report:
        _tell(report, out)


def train_heads(plan: Recipe, manifest: Path, out: Path, cache: Path, audio_root: Path | None = None) -> None:
    """Train on features of frozen towers, which are cached: an interrupted run repeats no encoding, only the steps."""
    clips = read_clips(manifest, audio_root=audio_root)
    parts = {name: [clip for clip in clips if clip.split == name] for name in ("train", "dev", "test")}
    console.print(", ".join(f"{len(part)} {name} clips" for name, part in parts.items()))
    if len(parts["train"]) < 2:
        raise NothingToTrainError(f"{manifest} has {len(parts['train'])} training clips with captions")
    tokenizer_path = tokenizer_file(plan.start.tokenizer)
    tokenizer = load_plain_tokenizer(tokenizer_path)
    model = start_model(plan, parts["train"])
    with _progress() as progress:
        task = progress.add_task("encoding clips", total=len(parts["train"]))
        model = train_recipe(
            model,
            plan,
            parts["train"],
            tokenizer,
            cache,
            say=progress.console.print,
            tick=lambda n: progress.advance(task, n),
        )
    calibration, error = fit_calibration(model, parts["dev"], tokenizer, cache)
    report = {name: held_out_report(model, parts[name], tokenizer, cache) for name in ("dev", "test") if parts[name]}
    fitted = {name: calibration[name] for name in ("scale", "bias")}  # the card has all of it
    report["calibration"] = {**fitted, "expected_calibration_error": error}
    provenance = {**plan.provenance, "recipe": plan.model_dump(mode="json"), "clips": count_sources(parts["train"])}
    card = Card(plan.name, plan.version, plan.licence, {**provenance, "held_out": report}, calibration)
    save_checkpoint(out, model, tokenizer_path, card)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    _tell(report, out)


def _progress(*, quiet: bool = False) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress("[progress.description]{task.description}", *columns, console=console, disable=quiet)


def _tell(report: Mapping[str, Any], out: Path) -> None:
    console.print_json(data=report)
    console.print(f"checkpoint written to {out}; export it with: clsp export checkpoint {out} --out FOLDER")


def start_model(plan: Recipe, clips: list[TrainClip]) -> Clsp:
    """The recipe's model with its starting weights, and the reference mean that channel normalisation needs."""
    torch.manual_seed(plan.seed)
    model = build_model(plan.model)
    if plan.start.checkpoint:
        return load_checkpoint(Path(plan.start.checkpoint))[0]
    if plan.start.speech:
        load_speech_tower(model, weights_folder(plan.start.speech))
    if plan.start.text:
        load_text_tower(model, weights_folder(plan.start.text))
    measure_reference_mean(model, [clip.path for clip in clips])
    return model


def count_sources(clips: list[TrainClip]) -> dict[str, int]:
    """Training clips by source."""
    counts: dict[str, int] = {}
    for clip in clips:
        counts[clip.source] = counts.get(clip.source, 0) + 1
    return dict(sorted(counts.items()))
