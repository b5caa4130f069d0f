"""A training checkpoint on disk: config, weights, tokenizer and what is known about them. Safetensors only."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from training.model import Clsp, ClspConfig, build_model

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "card.json"
Read = TypeVar("Read")


class CheckpointError(ValueError):
    """The folder is not a checkpoint that this release can read."""


@dataclass
class Card:
    """What a checkpoint says of itself; the bundle carries it on."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    name: str
    version: str
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=lambda: {"scale": 10.0, "bias": -3.0})
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

    Raises CheckpointError when a file is absent or damaged, or the weights are not the config's.
    """
    for name in (CONFIG, WEIGHTS, TOKENIZER, CARD):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}")
    config, card = _read(folder / CONFIG, ClspConfig), _read(folder / CARD, Card)
    try:
        Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the tokenizers package raises bare Exception
        raise CheckpointError(f"{folder / TOKENIZER}: {error}") from error
    model = build_model(config)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: {error}") from error
    return model, folder / TOKENIZER, card


def _read(file: Path, kind: type[Read]) -> Read:
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{file}: {place + ': ' if place else ''}{first['msg']}") from error
