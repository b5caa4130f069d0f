"""A training checkpoint on disk: config, weights, tokenizer and what is known about them. Safetensors only."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from training.model import Clsp, ClspConfig, build_model

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "card.json"


class CheckpointError(ValueError):
    """The folder is not a checkpoint that this release can read."""


@dataclass
class Card:
    """What a checkpoint says of itself; the bundle carries it on."""

    name: str
    version: str
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=lambda: {"scale": 10.0, "bias": -3.0})
    window_s: float = 10.0
    hop_s: float = 5.0
    min_s: float = 0.25
    presets: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def save_checkpoint(folder: Path, model: Clsp, tokenizer: Path, card: Card) -> None:
    """Write a checkpoint; an older one in the same folder is replaced file by file, weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(model.config.model_dump_json(indent=1) + "\n")
    (folder / CARD).write_text(json.dumps(vars(card), indent=1) + "\n")
    shutil.copyfile(tokenizer, folder / TOKENIZER)
    partial = folder / (WEIGHTS + ".partial")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS)


def load_checkpoint(folder: Path) -> tuple[Clsp, Path, Card]:
    """Read a checkpoint: the model in evaluation mode, its tokenizer's path and its card.

    Raises CheckpointError when a file is absent or the weights are not the config's.
    """
    for name in (CONFIG, WEIGHTS, TOKENIZER, CARD):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}")
    model = build_model(ClspConfig.model_validate_json((folder / CONFIG).read_text()))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: {error}") from error
    return model, folder / TOKENIZER, Card(**json.loads((folder / CARD).read_text()))
