"""Averages and states by themselves: what is kept, what is forgotten, and that a swap leaves no trace."""

from pathlib import Path

import pytest
import torch
from torch import nn

from training.trainer.average import Average, Snapshots, swapped
from training.trainer.scaled_adam import ScaledAdam
from training.trainer.state import load_state, pack_optimiser, save_state, states, unpack_optimiser


def linear(value: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(-value)
    layer.bias.requires_grad_(False)
    return layer


def test_average_follows_what_learns_and_gives_it_back() -> None:
    layer = linear(0.0)
    average = Average(layer, 0.5)
    for step in range(20):
        with torch.no_grad():
            layer.weight.fill_(1.0)
        average.update(step)
    assert set(average.values) == {"weight"}
    assert float(average.values["weight"].mean()) == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    average.update(100)
    with average.swapped():
        assert torch.allclose(layer.weight, torch.full((2, 2), 2.0))
    assert torch.equal(layer.weight, torch.full((2, 2), 3.0))
    with pytest.raises(RuntimeError), average.swapped():
        raise RuntimeError
    assert torch.equal(layer.weight, torch.full((2, 2), 3.0))


def test_no_average_is_the_weights() -> None:
    layer = linear(2.0)
    average = Average(layer, 0.0)
    average.update(0)
    with average.swapped():
        assert torch.equal(layer.weight, torch.full((2, 2), 2.0))


def test_snapshots_keep_the_last_and_their_mean(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, 2)
    for step in (1, 2, 3):
        snapshots.add(linear(float(step)), step)
        assert bool(snapshots.mean()) == (step > 1)
    assert torch.equal(snapshots.mean()["weight"], torch.full((2, 2), 2.5))
    # A run that was resumed from before step 3 makes step 2 again, and what lay ahead is forgotten.
    snapshots.add(linear(4.0), 2)
    assert snapshots.mean() == {}
    snapshots.add(linear(8.0), 3)
    assert torch.equal(snapshots.mean()["weight"], torch.full((2, 2), 6.0))
    layer = linear(0.0)
    with swapped(layer, snapshots.mean()):
        assert layer.weight.mean().item() == 6.0
        assert layer.bias.mean().item() == 0.0


def test_a_state_is_whole_or_absent(tmp_path: Path) -> None:
    for step in (5, 10):
        save_state(tmp_path, step, {"x": torch.tensor([float(step)])}, {"step": step})
    assert [place.name for place in states(tmp_path)] == ["step-000000010"]
    (tmp_path / ".step-000000015.partial").mkdir()
    (tmp_path / "step-000000020").mkdir()  # without its facts it is none
    tensors, facts = load_state(states(tmp_path)[-1])
    assert float(tensors["x"]) == 10.0 and facts == {"step": 10}
    save_state(tmp_path, 10, {"x": torch.tensor([11.0])}, {"step": 10})
    assert float(load_state(states(tmp_path)[-1])[0]["x"]) == 11.0
    assert not list(tmp_path.glob(".step-*"))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, ScaledAdam])
def test_an_optimiser_goes_on_where_it_was(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    def steps(layer: nn.Linear, optimiser: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            optimiser.zero_grad()
            inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
            layer(inputs).square().mean().backward()
            optimiser.step()

    torch.manual_seed(0)
    whole, parts = nn.Linear(3, 2), nn.Linear(3, 2)
    parts.load_state_dict(whole.state_dict())
    one, two = kind(whole.parameters(), lr=0.1), kind(parts.parameters(), lr=0.1)
    steps(whole, one, range(30))
    steps(parts, two, range(17))
    tensors, facts = pack_optimiser(two)
    place = save_state(tmp_path, 17, tensors, facts)
    rest = kind(parts.parameters(), lr=0.1)
    unpack_optimiser(rest, *load_state(place))
    steps(parts, rest, range(17, 30))
    assert torch.equal(whole.weight, parts.weight) and torch.equal(whole.bias, parts.bias)
