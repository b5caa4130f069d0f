"""What tests of heads on frozen towers train on: sounds that differ in one heard attribute, and a tiny recipe."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from training.model import Clsp, ClspConfig, TextConfig, WhisperConfig, build_model
from training.model.config import HeadConfig
from training.objective.examples import TrainClip
from training.trainer.heads.recipe import Recipe
from training.trainer.heads.soup import train_recipe

WORDS = [
    "a",
    "high",
    "low",
    "fast",
    "slow",
    "voice",
    "speaker",
    "with",
    "talking",
    "male",
    "female",
    "angry",
    "sad",
    "tone",
    "in",
    "the",
]


def write_words(path: Path) -> Path:
    """A tokenizer of the words that the buzzes are described with."""
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, **{w: i + 2 for i, w in enumerate(WORDS)}}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path))
    return path


def write_buzzes(folder: Path) -> Path:
    """The manifest of buzzes of two pitches and two syllable rates, in three splits."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(72):
        high, fast = i % 2, (i // 2) % 2
        time = np.arange(8000) / 16000
        pitch = (260 if high else 110) * rng.uniform(0.95, 1.05)
        buzz = np.sign(np.sin(2 * np.pi * pitch * time)) * (0.5 + 0.5 * np.sin(2 * np.pi * (9 if fast else 3) * time))
        soundfile.write(folder / f"{i}.flac", 0.3 * buzz + 0.01 * rng.standard_normal(8000), 16000)
        words = {"pitch": "high" if high else "low", "rate": "fast" if fast else "slow"}
        captions = [
            {"text": f"a {words['pitch']} voice", "kind": "global", "claims": {"pitch": words["pitch"]}},
            {"text": f"{words['pitch']} {words['rate']} voice", "kind": "fine", "claims": words},
        ]
        split = ("train", "train", "train", "train", "dev", "test")[(i // 4) % 6]
        row = {"path": f"{i}.flac", "split": split, "source": "buzz", "speaker": str(i), "captions": captions}
        rows.append(json.dumps(row | {"attributes": words}))
    (folder / "manifest.jsonl").write_text("\n".join(rows))
    return folder / "manifest.jsonl"


def small_recipe(tokenizer: Path, *, soup: Sequence[object] = (), **options: object) -> Recipe:
    """Heads on a tiny network; `options` are those of its `train` section."""
    model = ClspConfig(
        speech=WhisperConfig(dim=32, heads=2, feedforward_dim=32, layers=2, max_positions=200, pool_layers=(1, 2)),
        text=TextConfig(
            kind="minilm",
            vocab_size=32,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        joint_dim=16,
        speech_head=HeadConfig(kind="residual", hidden=32),
        text_head=HeadConfig(kind="residual", hidden=32),
    )
    return Recipe.model_validate(
        {
            "name": "tiny",
            "version": "1",
            "licence": "Apache-2.0",
            "model": model.model_dump(),
            "start": {"tokenizer": str(tokenizer.parent)},
            "train": {"steps": 120, "batch": 24, "lr": 3e-3, "warmup": 10, "ema": 0.9, **options},
            "soup": list(soup),
        }
    )


def run(recipe: Recipe, clips: list[TrainClip], tokenizer: Path, cache: Path, *, start: int | None = None) -> Clsp:
    """Train, from the start that the recipe's seed gives or another one."""
    torch.manual_seed(recipe.seed if start is None else start)
    return train_recipe(
        build_model(recipe.model),
        recipe,
        clips,
        Tokenizer.from_file(str(tokenizer)),
        cache,
        say=lambda line: None,
    )
