"""Averages of weights: a moving one along the run, and the mean of the last few that were validated."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Average:
    """An exponential moving average of the parameters that learn. `keep` 0 follows them without averaging."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.module, self.keep = module, keep
        self.values = {name: value.detach().clone() for name, value in _learning(module)} if keep else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step `step` (from 0); early on it forgets faster, so that it does not remember the start for long."""
        keep = min(self.keep, (step + 1) / (step + 10))
        for name, value in _learning(self.module):
            if name in self.values:
                self.values[name].lerp_(value.detach(), 1 - keep)

    def swapped(self) -> AbstractContextManager[None]:
        """`with`: the module holds the average; afterwards its own weights, bit for bit."""
        return swapped(self.module, self.values)


@contextmanager
def swapped(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """The module with other values of its learning parameters, those that are named; afterwards with its own."""
    own = {name: value.detach().clone() for name, value in _learning(module) if name in values}
    _put(module, values)
    try:
        yield
    finally:
        _put(module, own)


@torch.no_grad()
def _put(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in _learning(module):
        if name in values:
            value.copy_(values[name])


def _learning(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in module.named_parameters() if value.requires_grad)


class Snapshots:
    """The learning weights of the last `count` validations, on disk; `mean` is what they have in common."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def add(self, module: nn.Module, step: int) -> None:
        """Keep the weights of a step, and forget those of the oldest."""
        if not self.count:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"step-{step:09d}.safetensors"
        partial = file.with_suffix(".partial")
        save_file({name: value.detach().cpu().contiguous() for name, value in _learning(module)}, partial)
        partial.replace(file)
        # A run that was resumed from an earlier state makes later ones again.
        for old in [f for f in self._files() if f.name > file.name] + self._files()[: -self.count]:
            old.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    def mean(self) -> dict[str, Tensor]:
        """The mean of what is kept; empty when that is less than two."""
        files = self._files()
        if len(files) < 2:
            return {}
        total: dict[str, Tensor] = {}
        for file in files:
            for name, value in load_file(file).items():
                total[name] = total[name] + value / len(files) if name in total else value / len(files)
        return total
