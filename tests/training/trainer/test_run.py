"""A stage from audio to checkpoint: it learns, goes on exactly after kill -9, and leaves plain weights behind."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.support.paths import ROOT, script_environment
from tests.support.training_stages import (
    WHISPER,
    ZIPFORMER,
    stage_recipe,
    train_tiny,
    write_manifest,
    write_recipe,
    write_tokenizer,
)
from training.audio import load_clip
from training.bfloat16 import cpu_has_bfloat16
from training.captions.formats import read_rows
from training.commands.train import train
from training.model import ClspConfig, build_model
from training.model.checkpoint import load_checkpoint
from training.model.initial import InitialWeightsError, load_official
from training.trainer.adapters import plain_state
from training.trainer.batches import tokenise
from training.trainer.errors import ResumeError
from training.trainer.heads.features import load_plain_tokenizer
from training.trainer.network import Network
from training.trainer.recipe import StageRecipe, read_any_recipe
from training.trainer.state import states


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("buzzes"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("words"))


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """One thread, as sums split over threads round otherwise; and no accelerator of another test's precision."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    torch.set_num_threads(threads)


def same(one: Path, other: Path) -> None:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


PAPERS = {
    "optimiser": {"kind": "scaled_adam", "lr": 0.02},
    "schedule": {"kind": "eden", "warmup": 2},
    "towers": {"speech": {"tune": "lora", "rank": 2, "dropout": 0.1}},
}


@pytest.mark.parametrize(
    ("changes", "fatal"),
    [
        pytest.param({}, 0, id="adamw, in a save"),
        pytest.param(PAPERS, 5, id="scaled_adam and adapters, in a step"),
        pytest.param({}, 5, id="adamw, in a step", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_is_as_never_killed(
    manifest: Path, tokenizer: Path, tmp_path: Path, changes: dict[str, Any], fatal: int
) -> None:
    recipe = stage_recipe(tokenizer, **changes)
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "tests.support.training_stages", str(path), str(manifest), str(killed), str(fatal)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=script_environment())
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [state.name for state in states(killed / "states")] == [f"step-00000000{4 if fatal else 2}"]
    assert not (killed / "model.safetensors").exists()
    with pytest.raises(ResumeError, match="--resume"):
        train_tiny(recipe, manifest, killed)
    steps: list[int] = []
    train_tiny(recipe, manifest, killed, resume=True, on_step=steps.append)
    assert steps == ([5, 6] if fatal else [3, 4, 5, 6])
    train_tiny(recipe, manifest, whole)
    same(killed / "model.safetensors", whole / "model.safetensors")
    ours, theirs = states(killed / "states")[-1], states(whole / "states")[-1]
    same(ours / "tensors.safetensors", theirs / "tensors.safetensors")
    assert json.loads((ours / "state.json").read_text()) == json.loads((theirs / "state.json").read_text())
    assert not [file for file in killed.rglob("*") if file.suffix in (".pt", ".pkl", ".bin", ".partial")]


def test_resume_refuses_another_run(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    recipe = stage_recipe(tokenizer, stage={"number": 1, "steps": 1})
    train_tiny(recipe, manifest, tmp_path / "out")
    other = stage_recipe(tokenizer, stage={"number": 1, "steps": 2})
    with pytest.raises(ResumeError, match="recipe: stage"):
        train_tiny(other, manifest, tmp_path / "out", resume=True)
    longer = manifest.with_name("longer.jsonl")
    longer.write_text(manifest.read_text() + manifest.read_text().splitlines()[0].replace('"c0"', '"c0b"') + "\n")
    with pytest.raises(ResumeError, match="manifest"):
        train_tiny(recipe, longer, tmp_path / "out", resume=True)


def test_stage_1_then_2_learn_what_is_heard(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    def plan(**changes: Any) -> StageRecipe:
        run = {"save_every": 50, "validate_every": 25, "validate_clips": 8, "ema": 0.8, "last": 2}
        return stage_recipe(tokenizer, model=WHISPER, run=run, data={"batch_s": 12.0}, **changes)

    lines: list[str] = []
    first = plan(stage={"number": 1, "steps": 100, "hard_negatives": 0.0})
    before = train_tiny(first, manifest, tmp_path / "one", say=lines.append)["best"]
    assert before["step"] > 0 and any("mean of the last 2" in line for line in lines), lines
    second = plan(start={"checkpoint": str(tmp_path / "one")}, stage={"number": 2, "steps": 25, "hard_negatives": 0.5})
    report = train_tiny(second, manifest, tmp_path / "two")
    assert report["best"]["score"] >= before["score"]  # the start is validated too: a stage cannot make it worse
    model, _, card = load_checkpoint(tmp_path / "two")
    assert card.window_s == 30.0 and card.provenance["clips"] == {"buzz": 44}
    held = [row for row in read_rows(manifest) if row["split"] != "train"]
    words = load_plain_tokenizer(tmp_path / "two" / "tokenizer.json")
    with torch.no_grad():
        text = model.embed_text(*tokenise(words, ["a low voice", "a high voice"], 30, 1))
        waves = [torch.from_numpy(load_clip(Path(row["path"])))[None] for row in held]
        speech = torch.cat([model.embed_speech(wave, torch.tensor([wave.shape[1]])) for wave in waves])
    guess = (speech @ text.T).argmax(1).tolist()
    right = [("low", "high")[g] == row["attributes"]["pitch"] for g, row in zip(guess, held, strict=True)]
    assert sum(right) / len(right) > 0.8, lines


def test_tensorboard_holds_every_logged_step(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_tiny(stage_recipe(tokenizer, stage={"number": 2, "steps": 4}), manifest, tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4]
    assert [event.step for event in events.Scalars("dev/score")] == [0, 3, 4]


def test_adapters_merge_into_plain_weights(tokenizer: Path) -> None:
    recipe = stage_recipe(tokenizer, towers={"speech": {"tune": "lora"}, "text": {"tune": "lora", "targets": "query"}})
    torch.manual_seed(0)
    network = Network(build_model(recipe.model), recipe)
    learning = {name for name, value in network.clsp.named_parameters() if value.requires_grad}
    towers = {name for name in learning if name.startswith(("encoder", "text_encoder"))}
    assert towers and all(".lora_" in name for name in towers)
    assert {name for name in towers if name.startswith("text_encoder")} == {
        f"text_encoder.encoder.layer.0.attention.self.query.lora_{side}.default.weight" for side in "AB"
    }
    with torch.no_grad():
        for name, value in network.clsp.named_parameters():
            if ".lora_B" in name:
                value.normal_(std=0.1)
    network.eval()
    plain = network.plain()
    assert plain_state(network.clsp).keys() == plain.state_dict().keys()
    inputs = (
        torch.randn(2, 9000) * 0.1,
        torch.tensor([9000, 5000]),
        torch.tensor([[4, 5], [6, 1]]),
        torch.ones(2, 2).long(),
    )
    speech, text, _ = network(*inputs)
    assert torch.allclose(speech, plain.embed_speech(*inputs[:2]), atol=1e-5)
    assert torch.allclose(text, plain.embed_text(*inputs[2:]), atol=1e-5)
    torch.manual_seed(0)
    fresh = build_model(recipe.model)
    assert not torch.allclose(fresh.embed_speech(*inputs[:2]), speech, atol=1e-3)
    with pytest.raises(ValueError, match="targets"):
        Network(build_model(recipe.model), stage_recipe(tokenizer, towers={"text": {"tune": "lora", "targets": "zz"}}))


def test_targets_are_a_regular_expression(tokenizer: Path) -> None:
    with pytest.raises(ValueError, match=r"towers\.speech\.targets\n.*'\(' is no regular expression"):
        stage_recipe(tokenizer, towers={"speech": {"tune": "lora", "targets": "("}})


def test_windows_that_would_leave_audio_unheard_are_refused_before_training(tokenizer: Path) -> None:
    with pytest.raises(ValueError, match="hop_s 15 above window_s 10 would leave audio unheard"):
        stage_recipe(tokenizer, window={"window_s": 10.0})


def test_towers_move_at_their_own_rates(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    towers = {"speech": {"tune": "full", "lr_scale": 0.01}, "text": {"tune": "frozen"}}
    recipe = stage_recipe(tokenizer, towers=towers, stage={"number": 2, "steps": 2}, run={"ema": 0.0})
    train_tiny(recipe, manifest, tmp_path / "out")
    torch.manual_seed(recipe.seed)
    before = build_model(recipe.model).state_dict()
    state = load_file(states(tmp_path / "out" / "states")[-1] / "tensors.safetensors")
    after = {key.removeprefix("model/clsp."): value for key, value in state.items() if key.startswith("model/")}
    moved = {key: float((after[key] - before[key]).abs().max()) for key in before if before[key].is_floating_point()}
    assert all(moved[key] == 0 for key in moved if key.startswith("text_encoder."))
    # Two steps of Adam move a weight by at most twice its rate; decay and clamping of bypasses come on top.
    tower = [moved[key] for key in moved if key.startswith("encoder.") and key.endswith("in_proj.weight")]
    heads = [moved[key] for key in moved if key.startswith("audio_transform.") and key.endswith("weight")]
    assert 0 < max(tower) < 0.02 * max(heads)


def test_half_precision_keeps_float32_weights(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    recipe = stage_recipe(tokenizer, stage={"number": 2, "steps": 2}, run={"precision": "bf16"})
    seen: list[torch.dtype] = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, out: seen.append(out.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    try:
        train_tiny(recipe, manifest, tmp_path / "out")
    finally:
        hook.remove()
    assert {torch.bfloat16, torch.float32} <= set(seen)
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "out" / "model.safetensors").values())


def test_bf16_that_a_cpu_emulates_is_told(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    recipe = stage_recipe(tokenizer, stage={"number": 2, "steps": 1}, run={"precision": "bf16"})
    lines: list[str] = []
    train_tiny(recipe, manifest, tmp_path / "out", say=lines.append)
    assert any("no bfloat16 arithmetic" in line for line in lines) != cpu_has_bfloat16()


def test_finetuning_from_the_released_layout(manifest: Path, tokenizer: Path, tmp_path: Path) -> None:
    """The shipped recipe on a stand-in: sharded safetensors with the released prefix, the network made small."""
    released = build_model(ClspConfig.model_validate(ZIPFORMER))
    tensors = {f"model.{key}": value.contiguous() for key, value in released.state_dict().items()}
    folder = tmp_path / "released"
    folder.mkdir()
    for i in range(2):
        part = dict(list(tensors.items())[i::2])
        save_file(part, folder / f"model-0000{i + 1}-of-00002.safetensors")
    plan = yaml.safe_load((ROOT / "training/recipes/finetune-official.yaml").read_text())
    plan["model"] = ZIPFORMER
    plan["start"] = {"official": str(folder), "tokenizer": str(tokenizer)}
    plan["data"] |= {"min_s": 0.25, "batch_s": 6.0, "buckets": 2, "workers": 0}
    plan["stage"]["steps"], plan["schedule"]["warmup"] = 3, 1
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plan))
    app = typer.Typer()
    app.command()(train)
    command = [str(tmp_path / "recipe.yaml"), "--manifest", str(manifest), "--out", str(tmp_path / "out"), "--cpu"]
    result = CliRunner().invoke(app, [*command, "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "out")[2].name == "clsp-finetuned"
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InitialWeightsError, match="lacks"):
        load_official(build_model(ClspConfig.model_validate(ZIPFORMER)), folder)


@pytest.mark.parametrize("name", ["stage1", "stage2", "finetune-official", "tuned-small"])
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = read_any_recipe(ROOT / f"training/recipes/{name}.yaml")
    assert isinstance(recipe, StageRecipe)
    if name.startswith("stage"):
        assert recipe.model == ClspConfig() and recipe.towers.speech.lr_scale == 0.0222
