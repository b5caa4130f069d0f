"""`clsp train`: a recipe and a manifest in, a checkpoint and its figures out."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from training.calibrate import fit_calibration
from training.checkpoint import Card, load_checkpoint, save_checkpoint
from training.examples import TrainClip, read_examples
from training.features import load_plain_tokenizer
from training.initial import load_speech_tower, load_text_tower, tokenizer_file, weights_folder
from training.model import Clsp, build_model
from training.recipe import Recipe, read_recipe
from training.reference_mean import measure_reference_mean
from training.report import held_out_report
from training.train import train as run_training

console = Console(stderr=True)


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, for example training/recipes/clsp-small.yaml")],
    manifest: Annotated[Path, typer.Option(help="training manifest (JSONL), as training.build_data writes it")],
    out: Annotated[Path, typer.Option(help="folder of the checkpoint")],
    cache: Annotated[Path, typer.Option(help="folder of encoded features, kept between runs")] = Path("runs/cache"),
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to torch")] = 0,
) -> None:
    """Train on a manifest's `train` split, calibrate on `dev`, report on `dev` and `test`."""
    if threads:
        torch.set_num_threads(threads)
    plan = read_recipe(recipe)
    clips = read_examples(manifest)
    parts = {name: [clip for clip in clips if clip.split == name] for name in ("train", "dev", "test")}
    console.print(", ".join(f"{len(part)} {name} clips" for name, part in parts.items()))
    tokenizer_path = tokenizer_file(plan.start.tokenizer)
    tokenizer = load_plain_tokenizer(tokenizer_path)
    model = start_model(plan, parts["train"])
    with Progress(
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("encoding clips", total=len(parts["train"]))
        model = run_training(
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
