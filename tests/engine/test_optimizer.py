"""Learning rates of each step, and which weights decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segkit.engine.optimizer import build_optimizer, learning_rate
from segkit.settings import TrainSettings


def rates(steps: int = 100, **values: object) -> list[float]:
    settings = TrainSettings.model_validate({"lr": 1.0, **values})
    return [learning_rate(settings, step, steps) for step in range(steps)]


def test_poly_is_the_formula_after_a_linear_warmup() -> None:
    found = rates(schedule="poly", warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10:] == pytest.approx([(1 - step / 90) ** 0.9 for step in range(90)])


def test_cosine_is_half_a_cosine() -> None:
    found = rates(schedule="cosine", warmup=0.0)
    assert found == pytest.approx([(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)])


def test_one_cycle_agrees_with_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=1000, pct_start=0.3, cycle_momentum=False)
    expected = []
    for _ in range(1000):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(1000, schedule="one_cycle") == pytest.approx(expected, abs=0.006)  # off by one step of 1,000


def test_constant_is_constant() -> None:
    assert set(rates(schedule="constant", warmup=0.0)) == {1.0}


@pytest.mark.parametrize("schedule", ["poly", "cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_have_finite_rates(schedule: str, steps: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, schedule=schedule))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_only_kernels_decay(optimizer: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    built = build_optimizer(model, TrainSettings.model_validate({"optimizer": optimizer, "weight_decay": 0.3}))
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.3, 0.0, 0.0, 0.0]


def test_a_frozen_weight_is_not_optimised() -> None:
    model = nn.Conv2d(3, 4, 3)
    model.bias.requires_grad_(False)  # type: ignore[union-attr]
    built = build_optimizer(model, TrainSettings())
    assert sum(len(group["params"]) for group in built.param_groups) == 1
