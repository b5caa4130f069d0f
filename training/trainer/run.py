"""A stage from recipe and manifest to checkpoint: checks first, then the loop, then figures on held-out speech."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from training.bfloat16 import cpu_has_bfloat16
from training.captions.formats.training import cut_out
from training.evaluation.calibrate import fit_calibration
from training.evaluation.report import held_out_report
from training.model.checkpoint import Card, load_checkpoint, save_checkpoint
from training.model.initial import tokenizer_file
from training.objective.examples import TrainCaption, TrainClip, facts_of
from training.trainer.clips import Source, some_rows, survey
from training.trainer.errors import NothingToTrainError, ResumeError
from training.trainer.heads.features import load_plain_tokenizer
from training.trainer.loop import Say, Trainer
from training.trainer.recipe import StageRecipe
from training.trainer.start import start_stage
from training.trainer.state import FACTS, states
from training.trainer.validate import Validation

FREE = {"name", "version", "licence", "run", "window", "provenance"}  # may change when a run is resumed


def make_accelerator(recipe: StageRecipe, *, cpu: bool = False) -> Accelerator:
    """The processes and devices of this run, as `accelerate launch` or `torchrun` started them."""
    return Accelerator(mixed_precision=recipe.run.precision, cpu=cpu)


def run_stage(
    recipe: StageRecipe,
    source: Source,
    out: Path,
    *,
    cache: Path,
    resume: bool = False,
    cpu: bool = False,
    say: Say = print,
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    """Train; `out` becomes a checkpoint of the best weights, with report.json, states/, best/ and tensorboard/.

    Returns the report (of the main process; others get {}). Raises StageError, FormatError, InitialWeightsError,
    CheckpointError.
    """
    accelerator = make_accelerator(recipe, cpu=cpu)
    main = accelerator.is_main_process
    tell: Say = say if main else lambda line: None
    identity = {
        "recipe": json.loads(recipe.model_dump_json(exclude=FREE)) | {"precision": recipe.run.precision},
        "ema": recipe.run.ema,
        "manifest": _digest(source.manifest),
        "processes": accelerator.num_processes,
    }
    last = check_resume(out / "states", identity, resume)
    if recipe.run.precision == "bf16" and accelerator.device.type == "cpu" and not cpu_has_bfloat16():
        tell("run.precision is bf16, and this CPU has no bfloat16 arithmetic: `no` takes a small part of the time")
    found = survey(source)
    for line in found.lines():
        tell(line)
    if found.claiming:
        use = "of other clips they are right where true" if recipe.stage.claims else "stage.claims is off, none is read"
        tell(f"captions of {found.claiming} train clips make claims: {use}")
    if found.clips["train"] < recipe.data.buckets:
        raise NothingToTrainError(
            f"data.buckets is {recipe.data.buckets}, more than the {found.clips['train']} training clips"
        )
    tokenizer_path = tokenizer_file(recipe.start.tokenizer)
    tokenizer = load_plain_tokenizer(tokenizer_path)
    rows = some_rows(source, "dev", recipe.run.validate_clips)
    trainer = Trainer(
        recipe,
        start_stage(recipe, source, tokenizer),
        source,
        tokenizer,
        accelerator,
        out=out,
        held=Validation.of(rows, recipe) if len(rows) > 1 else None,
        identity=identity,
        card=_card(recipe, dict(found.sources)),
        tokenizer_path=tokenizer_path,
        say=tell,
    )
    if last:
        trainer.restore(last)
        tell(f"going on after step {trainer.step}")
    learning = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    tell(f"{learning:,} parameters learn; processes: {accelerator.num_processes}, on {accelerator.device.type}")
    trainer.train(on_step)
    trainer.finish()
    report: dict[str, Any] = {}
    if main:
        report = _finish(recipe, source, out, cache)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return report


def check_resume(folder: Path, identity: dict[str, Any], resume: bool) -> Path | None:
    """The state to go on from, or None for a fresh start. Raises ResumeError, naming what differs."""
    found = states(folder)
    if not found:
        return None
    if not resume:
        raise ResumeError(f"{folder} holds a run at {found[-1].name}: --resume goes on with it, or name another --out")
    kept = json.loads((found[-1] / FACTS).read_text())
    now = json.loads(json.dumps(identity))
    differing = [name for name in ("ema", "manifest", "processes") if kept[name] != now[name]]
    differing += [f"recipe: {name}" for name in now["recipe"] if kept["recipe"].get(name) != now["recipe"][name]]
    if differing:
        raise ResumeError(f"{found[-1]} is of another run; other than then: {', '.join(differing)}")
    return found[-1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(recipe: StageRecipe, sources: dict[str, int]) -> Card:
    provenance = {**recipe.provenance, "recipe": recipe.model_dump(mode="json"), "clips": dict(sorted(sources.items()))}
    return Card(recipe.name, recipe.version, recipe.licence, provenance, **recipe.window.model_dump())


def _finish(recipe: StageRecipe, source: Source, out: Path, cache: Path) -> dict[str, Any]:
    """Calibrate the best weights, report on held-out speech, and make `out` itself a checkpoint."""
    model, tokenizer_path, card = load_checkpoint(out / "best")
    tokenizer = load_plain_tokenizer(tokenizer_path)
    parts = {name: held_out_clips(source, name, recipe.run.validate_clips, cache) for name in ("dev", "test")}
    with torch.no_grad():
        card.calibration, error = fit_calibration(model, parts["dev"], tokenizer, cache)
        report = {name: held_out_report(model, part, tokenizer, cache) for name, part in parts.items() if part}
    report["best"] = card.provenance["dev"]
    report["calibration"] = {**card.calibration, "expected_calibration_error": error}
    card.provenance["held_out"] = report
    save_checkpoint(out, model, tokenizer_path, card)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def held_out_clips(source: Source, split: str, count: int, cache: Path) -> list[TrainClip]:
    """Some clips of a split as the reports read them; stretches of long files are written to the cache."""
    return [
        TrainClip(
            Path(row["path"]),
            row["split"],
            row["source"],
            row["speaker"],
            facts_of(row),
            [TrainCaption(c["text"], c["kind"], c.get("claims") or {}) for c in row["captions"]],
        )
        for row in cut_out(some_rows(source, split, count), cache / "stretches")
    ]
