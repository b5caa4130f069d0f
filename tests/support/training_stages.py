"""A tiny manifest, tokenizer and recipe for tests of the stages; also run as a process by those that kill one."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from training.trainer.clips import Source
from training.trainer.recipe import StageRecipe, read_any_recipe
from training.trainer.run import run_stage

WORDS = ["a", "high", "low", "fast", "slow", "voice", "man", "woman", "with", "talking", "speaks", "quickly", "slowly"]
ZIPFORMER = {
    "speech": {
        "kind": "zipformer",
        "feature_dim": 32,
        "downsampling_factor": [1, 2],
        "num_encoder_layers": [1, 1],
        "encoder_dim": [16, 24],
        "encoder_unmasked_dim": [16, 16],
        "query_head_dim": 8,
        "value_head_dim": 8,
        "pos_head_dim": 4,
        "num_heads": 2,
        "feedforward_dim": 32,
        "cnn_module_kernel": 15,
    },
    "text": {
        "kind": "roberta",
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
    },
    "joint_dim": 16,
}
WHISPER = {
    "speech": {"kind": "whisper", "dim": 32, "heads": 2, "feedforward_dim": 32, "layers": 2, "pool_layers": [1, 2]},
    "text": {**ZIPFORMER["text"], "kind": "minilm"},
    "joint_dim": 16,
    "speech_head": {"kind": "residual", "hidden": 32},
    "text_head": {"kind": "residual", "hidden": 32},
}


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of whole words, RoBERTa's special ids first."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_manifest(folder: Path, clips: int = 60) -> Path:
    """Buzzes of two pitches and two rates, 0.3 to 0.9 s long; every sixth is dev, every sixth test."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(clips):
        high, fast = i % 2, (i // 2) % 2
        time = np.arange(int(16000 * rng.uniform(0.3, 0.9))) / 16000
        pitch = (260 if high else 110) * rng.uniform(0.95, 1.05)
        buzz = np.sign(np.sin(2 * np.pi * pitch * time)) * (0.5 + 0.5 * np.sin(2 * np.pi * (9 if fast else 3) * time))
        soundfile.write(folder / f"{i}.wav", 0.3 * buzz + 0.01 * rng.standard_normal(len(time)), 16000)
        words = {"pitch": "high" if high else "low", "rate": "fast" if fast else "slow"}
        fine = f"{words['pitch']} {words['rate']} voice"
        captions = [
            {"text": f"a {words['pitch']} voice", "kind": "global", "claims": {"pitch": words["pitch"]}},
            {"text": fine, "kind": "fine", "claims": words},
            {"text": f"talking with a {fine}", "kind": "fine", "claims": words},
        ]
        split = ("train", "train", "train", "train", "dev", "test")[(i // 4) % 6]
        row = {"id": f"c{i}", "path": f"{i}.wav", "split": split, "source": "buzz", "speaker": str(i)}
        row["channel"] = {"noise": {"snr_db": 20.0}} if high else None  # as training.corpus.build_data
        rows.append(row | {"duration_s": len(time) / 16000, "attributes": words, "captions": captions})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"


def stage_recipe(tokenizer: Path, **changes: Any) -> StageRecipe:
    """A small stage 2; `changes` are laid over its sections, or stand for them where a section has a kind."""
    plan: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "model": ZIPFORMER,
        "start": {"tokenizer": str(tokenizer)},
        "data": {"min_s": 0.25, "max_s": 2.0, "batch_s": 6.0, "buckets": 2, "drop_last": False},
        "stage": {"number": 2, "steps": 6, "hard_negatives": 0.5},
        "towers": {"speech": {"lr_scale": 0.5}},
        "optimiser": {"kind": "adamw", "lr": 2e-3},
        "schedule": {"kind": "cosine", "warmup": 2},
        "run": {"save_every": 2, "validate_every": 3, "log_every": 2, "validate_clips": 8, "ema": 0.9},
    }
    for name, value in changes.items():
        whole = name in ("model", "optimiser", "schedule")
        plan[name] = value if whole else {**plan.get(name, {}), **value}
    return StageRecipe.model_validate(plan)


def train_tiny(recipe: StageRecipe, manifest: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Run a stage on the CPU, silently unless told otherwise."""
    options = {"say": lambda line: None, **options}
    return run_stage(recipe, Source(manifest, recipe.data), out, cache=out.parent / "cache", cpu=True, **options)


def main() -> None:
    """RECIPE MANIFEST OUT STEP: train, and die by SIGKILL after a step; 0 is in the middle of the second save."""
    torch.set_num_threads(1)
    recipe, manifest, out = read_any_recipe(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    fatal = int(sys.argv[4])

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if not fatal:
        # The second state's files are written, its folder has not been renamed yet.
        rename = Path.rename

        def renamed(self: Path, target: Path) -> Path:
            return die() if "step-000000004" in self.name else rename(self, target)

        Path.rename = renamed
    train_tiny(recipe, manifest, out, on_step=lambda step: die() if step == fatal else None)


def write_recipe(path: Path, recipe: StageRecipe) -> Path:
    """The recipe as YAML."""
    path.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())))
    return path


if __name__ == "__main__":
    main()
