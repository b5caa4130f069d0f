"""What a model makes of a corpus, or of half a corpus, that it never heard: train without it, report on it.

    python -m training.evaluation.holdout_report training/recipes/clsp-small.yaml --manifest DIR/manifest.jsonl \
        --leave source=librispeech --leave source=emodb,gender=male

Held-out speakers of a known corpus share its room, language and manner; these figures are nearer to a stranger's clips.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from training.commands.train import start_model
from training.evaluation.report import held_out_report
from training.model.initial import tokenizer_file
from training.objective.examples import TrainClip, read_examples
from training.trainer.heads.features import load_plain_tokenizer
from training.trainer.heads.recipe import read_recipe
from training.trainer.heads.soup import train_recipe

console = Console(stderr=True)

FIELDS = ("source", "speaker", "gender", "emotion", "accent")


def parse_condition(text: str) -> dict[str, str]:
    """`source=emodb,gender=male` -> fields and values. Raises ValueError naming what can't be read."""
    wanted = {}
    for part in text.split(","):
        field, equals, value = part.partition("=")
        if not equals or not value or field not in FIELDS:
            raise ValueError(f"{part!r} is not FIELD=VALUE with a field of {', '.join(FIELDS)}")
        wanted[field] = value
    return wanted


def leave_out(
    clips: Sequence[TrainClip], wanted: Mapping[str, str]
) -> tuple[list[TrainClip], list[TrainClip], list[TrainClip]]:
    """Clips to train on, clips that meet every condition (of all splits), and those dropped from both.

    A speaker with a clip left out is not trained on at all: restyled clips whose gender nobody can tell are his too.
    """

    def meets(clip: TrainClip) -> bool:
        own = {"source": clip.source, "speaker": clip.speaker}
        return all(own.get(field, clip.facts.get(field)) == value for field, value in wanted.items())

    left = [clip for clip in clips if meets(clip)]
    speakers = {(clip.source, clip.speaker) for clip in left}
    kept, dropped = [], []
    for clip in clips:
        if clip.split == "train" and (clip.source, clip.speaker) not in speakers:
            kept.append(clip)
        elif not meets(clip):
            dropped.append(clip)
    return kept, left, dropped


def main(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe")],
    manifest: Annotated[Path, typer.Option(help="training manifest (JSONL), as training.corpus.build_data writes it")],
    leave: Annotated[
        list[str], typer.Option(help="what to leave out, FIELD=VALUE[,FIELD=VALUE]; repeat for more runs")
    ],
    cache: Annotated[Path, typer.Option(help="folder of encoded features, kept between runs")] = Path("runs/cache"),
    steps: Annotated[int, typer.Option(help="training steps; 0 takes the recipe's")] = 0,
    seeds: Annotated[str, typer.Option(help="seeds of the runs, as 7,8,9; the recipe's own unless named")] = "",
    out: Annotated[
        Path | None, typer.Option(help="file for the figures, JSON, as `clsp export` takes it for the card")
    ] = None,
) -> None:
    """Train without the clips named, report on them; one run for each --leave."""
    plan = read_recipe(recipe)
    full = plan.train.steps
    if steps:
        plan = plan.model_copy(update={"train": plan.train.model_copy(update={"steps": steps})})
    conditions = {text: parse_condition(text) for text in leave}
    clips = read_examples(manifest)
    tokenizer = load_plain_tokenizer(tokenizer_file(plan.start.tokenizer))
    # The reference mean is the whole training split's, so that every run reads one cache of features.
    everyone = [clip for clip in clips if clip.split == "train"]
    figures: dict[str, Any] = {}
    runs: dict[str, list[dict[str, Any]]] = {}
    chosen = [int(seed) for seed in seeds.split(",") if seed] or [plan.seed]
    for text, wanted in conditions.items():
        kept, left, dropped = leave_out(clips, wanted)
        if not kept or not left:
            raise typer.BadParameter(f"{text}: {len(left)} clips are left out and {len(kept)} stay")
        console.print(f"{text}: training on {len(kept)} clips, testing on {len(left)}, {len(dropped)} in neither")
        for seed in chosen:
            own = plan.model_copy(update={"seed": seed})
            model = train_recipe(start_model(own, everyone), own, kept, tokenizer, cache, say=console.print)
            runs.setdefault(text, []).append(held_out_report(model, left, tokenizer, cache)["all"])
        figures[text] = runs[text][0]
        if out:
            told = {"recipe": plan.name, "version": plan.version, "steps": plan.train.steps, "recipe_steps": full}
            told |= {"seeds": chosen, "by_seed": recalls_by_seed(runs), "mean": strangers_mean(runs)}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(told | {"left_out": figures}, indent=1) + "\n")
    console.print_json(data={"by_seed": recalls_by_seed(runs), "mean": strangers_mean(runs)})


def recalls_by_seed(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, list[float]]]:
    """Condition -> task -> UAR (%) of each seed's run."""
    told: dict[str, dict[str, list[float]]] = {}
    for condition, reports in runs.items():
        tasks = [t for t, r in reports[0].items() if isinstance(r, dict) and "UAR" in r]
        told[condition] = {task: [report[task]["UAR"]["value"] for report in reports] for task in tasks}
    return told


def strangers_mean(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    """What decides between recipes, for each seed: the mean over what was left out of its tasks' mean UAR (%)."""
    recalls = recalls_by_seed(runs)
    by_condition = [np.mean(list(tasks.values()), 0) for tasks in recalls.values() if tasks]
    return [round(float(x), 2) for x in np.mean(by_condition, 0)] if by_condition else []


if __name__ == "__main__":
    typer.run(main)
