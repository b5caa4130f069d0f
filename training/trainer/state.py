"""A run's state on disk: tensors as safetensors, the rest as JSON, whole or not there at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

TENSORS, FACTS = "tensors.safetensors", "state.json"


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write the state of a step and remove older ones. A kill at any point leaves the last whole one in place."""
    place, partial = folder / f"step-{step:09d}", folder / f".step-{step:09d}.partial"
    for left in folder.glob(".step-*.partial"):
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial / TENSORS)
    (partial / FACTS).write_text(json.dumps(facts) + "\n")
    for name in (TENSORS, FACTS):
        _to_disk(partial / name)
    if place.exists():  # a run that was resumed from before it
        shutil.rmtree(place)
    partial.rename(place)
    _to_disk(folder)
    for old in states(folder):
        if old != place:
            shutil.rmtree(old)
    return place


def states(folder: Path) -> list[Path]:
    """Whole states, the oldest first."""
    return sorted(place for place in folder.glob("step-*") if (place / FACTS).is_file())


def load_state(place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a state."""
    return load_file(place / TENSORS), json.loads((place / FACTS).read_text())


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pack_optimiser(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors and JSON."""
    whole = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entries in whole["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                scalars[f"{index}/{name}"] = value
    return tensors, {"scalars": scalars, "groups": whole["param_groups"]}


def unpack_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Put back what `pack_optimiser` took, of the same optimiser over the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **facts["scalars"]}.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()} for group in facts["groups"]
    ]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def random_state(device: torch.device) -> Tensor:
    """The generators that a step draws from, as bytes: uint8 [B]."""
    parts = [torch.get_rng_state()]
    if device.type == "cuda":
        parts.append(torch.cuda.get_rng_state(device))
    return torch.cat(parts)


def restore_random_state(state: Tensor, device: torch.device) -> None:
    """Put back what `random_state` took."""
    size = torch.get_rng_state().numel()
    torch.set_rng_state(state[:size].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)
