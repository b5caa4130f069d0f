"""ScaledAdam and Eden by what the Zipformer paper (arXiv 2310.11230) says they do."""

import math

import pytest
import torch
from torch import Tensor, nn

from training.trainer.recipe import ConstantPart, CosinePart, EdenPart
from training.trainer.scaled_adam import ScaledAdam
from training.trainer.schedules import eden, factor


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def parameter(scale: float, seed: int = 0) -> nn.Parameter:
    values = torch.randn(40, 30, generator=torch.Generator().manual_seed(seed))
    return nn.Parameter(scale * values / values.square().mean().sqrt())


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
def test_a_step_is_a_share_of_the_tensor(scale: float) -> None:
    theta = parameter(scale)
    before = theta.detach().clone()
    theta.grad = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    ScaledAdam([theta], lr=0.02, scale_lr=0.0).step()
    assert rms(theta - before) / scale == pytest.approx(0.02, rel=1e-3)  # Adam's first direction is the sign
    assert torch.equal((theta - before).sign(), -theta.grad.sign())


def test_the_size_of_gradients_does_not_matter() -> None:
    ends = []
    for size in (0.1, 1.0, 1e3):
        theta = parameter(0.5)
        optimiser = ScaledAdam([theta], lr=0.02)
        for step in range(20):
            theta.grad = size * torch.randn(40, 30, generator=torch.Generator().manual_seed(step))
            optimiser.step()
        ends.append(theta.detach().clone())
    assert torch.allclose(ends[0], ends[1], atol=1e-3) and torch.allclose(ends[1], ends[2], atol=1e-3)


def test_tensors_of_all_sizes_change_alike() -> None:
    """Scale a tensor and the loss's view of it together: the run is the same run, scaled."""
    ends = []
    for scale in (0.03, 1.0):
        theta = parameter(scale)
        optimiser = ScaledAdam([theta], lr=0.02)
        target = parameter(1.0, seed=3).detach()
        for _ in range(30):
            optimiser.zero_grad()
            (theta / scale - target).square().mean().backward()
            optimiser.step()
        ends.append(theta.detach() / scale)
    assert torch.allclose(*ends, atol=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_scale_is_learned_at_its_own_rate(sign: float) -> None:
    """What `scale_lr` adds to a first step is theta times lr times scale_lr, against the gradient by the scale."""
    ends = []
    for scale_lr in (0.0, 0.1):
        theta = parameter(0.7)
        theta.grad = sign * theta.detach()  # dL/dr > 0: it wants to be smaller
        ScaledAdam([theta], lr=0.02, scale_lr=scale_lr).step()
        ends.append(theta.detach().clone())
    assert torch.allclose(ends[1] - ends[0], -sign * 0.1 * 0.02 * parameter(0.7).detach(), atol=1e-6)


def test_no_gradient_no_step() -> None:
    theta = parameter(1.0)
    theta.grad = torch.zeros_like(theta)
    ScaledAdam([theta], lr=0.02).step()
    assert torch.equal(theta, parameter(1.0))


def test_limits_of_size() -> None:
    theta = nn.Parameter(torch.zeros(8))
    optimiser = ScaledAdam([theta], lr=0.1)
    for _ in range(5):
        theta.grad = -torch.ones(8)
        optimiser.step()
    assert 0 < rms(theta) < 1e-4  # it leaves zero, at the pace of the least size
    big = nn.Parameter(torch.full((8,), 2.99))
    optimiser = ScaledAdam([big], lr=0.5)
    for _ in range(5):
        big.grad = -torch.ones(8)
        optimiser.step()
    assert rms(big) <= 3.0 + 1e-5
    scalar = nn.Parameter(torch.tensor(2.0))
    scalar.grad = torch.tensor(5.0)
    ScaledAdam([scalar], lr=0.1).step()
    assert scalar.item() == pytest.approx(2.0 - 0.1 * 0.1, abs=1e-5)


def test_an_outlier_is_clipped_at_twice_the_median() -> None:
    theta = parameter(1.0)
    optimiser = ScaledAdam([theta], lr=0.0, clip=2.0, clip_window=15)
    for _ in range(15):
        theta.grad = torch.ones(40, 30)
        optimiser.step()
    state = optimiser.state[theta]
    moment = state["exp_avg"].clone()
    theta.grad = torch.full((40, 30), 1000.0)
    optimiser.step()
    given = (state["exp_avg"] - 0.9 * moment) / 0.1
    assert torch.allclose(given, torch.full_like(given, 2.0), rtol=1e-3)
    assert len(optimiser.param_groups[0]["norms"]) == 15


def test_it_minimises() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    optimiser = ScaledAdam(model.parameters(), lr=0.03)
    inputs = torch.randn(256, 4)
    truth = (inputs[:, :1] * inputs[:, 1:2]).tanh()
    losses = []
    for step in range(150):
        optimiser.zero_grad()
        loss = (model(inputs) - truth).square().mean()
        losses.append(loss.item())
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = 0.03 * eden(step, 0, steps=100, epochs=3.5, warmup=10, warmup_start=0.5)
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]


def test_eden_values() -> None:
    options = {"steps": 7500.0, "epochs": 3.5, "warmup": 500, "warmup_start": 0.5}
    assert eden(0, 0, **options) == pytest.approx(0.5)
    assert eden(250, 0, **options) == pytest.approx(0.75 * (1 + (250 / 7500) ** 2) ** -0.25)
    assert eden(7500, 0, **options) == pytest.approx(2**-0.25)
    assert eden(7500, 3.5, **options) == pytest.approx(2**-0.5)
    late = eden(4_000_000, 0, **options) / eden(1_000_000, 0, **options)
    assert late == pytest.approx(0.5, rel=1e-3)  # far out, the square root of the step's inverse
    assert eden(600, 35, **options) / eden(600, 0, **options) == pytest.approx(101**-0.25)


def test_schedules_by_recipe() -> None:
    assert factor(EdenPart(kind="eden"), 0, 0, 10) == pytest.approx(0.5)
    assert factor(ConstantPart(kind="constant", warmup=4), 1, 0, 10) == 0.5
    assert factor(ConstantPart(kind="constant", warmup=0), 9, 0, 10) == 1.0
    assert factor(CosinePart(warmup=0), 5, 0, 10) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi / 2)))
