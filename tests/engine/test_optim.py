"""Learning rates of each step, and which weights decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segkit.config import settings_from
from segkit.engine.optim import adamw, build_optimizer, learning_rate, set_learning_rate
from segkit.errors import ConfigError
from segkit.registry import optimizers
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


@pytest.mark.parametrize("warmup", [0.05, 0.75])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 10, 33, 1000])
def test_one_cycle_is_torchs_at_every_step(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"pct_start": max(0.3, warmup), "final_div_factor": 400, "cycle_momentum": False}
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, **options)
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        theirs.step()
        expected.append(optimizer.param_groups[0]["lr"])
    found = rates(steps, schedule="one_cycle", warmup=warmup)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found[-1] == pytest.approx(1e-4)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_warmup_of_the_whole_run_ends_at_the_highest_rate(schedule: str, steps: int) -> None:
    assert rates(steps, schedule=schedule, warmup=1.0) == pytest.approx([(n + 1) / steps for n in range(steps)])
    assert rates(steps, schedule="one_cycle", warmup=1.0)[-1] == 1


def test_constant_is_constant() -> None:
    assert set(rates(schedule="constant", warmup=0.0)) == {1.0}


@pytest.mark.parametrize("schedule", ["poly", "cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_have_finite_rates(schedule: str, steps: int) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, schedule=schedule))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_only_kernels_decay(optimizer: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    built = build_optimizer(
        model, TrainSettings.model_validate({"optimizer": optimizer, "weight_decay": 0.3}), optimizers[optimizer]
    )
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.3, 0.0, 0.0, 0.0]


def test_a_frozen_weight_is_not_optimised() -> None:
    model = nn.Conv2d(3, 4, 3)
    model.bias.requires_grad_(False)  # type: ignore[union-attr]
    built = build_optimizer(model, TrainSettings(), adamw)
    assert sum(len(group["params"]) for group in built.param_groups) == 1


class Halves(nn.Module):
    """A network that says which part of it is its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(4, 2, 1)  # the last layer, though it stands first
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(image))
        return logits


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_an_encoder_has_its_own_learning_rate(optimizer: str) -> None:
    model = Halves()
    settings = TrainSettings.model_validate({"optimizer": optimizer, "encoder_lr_mult": 0.1, "weight_decay": 0.3})
    built = build_optimizer(model, settings, optimizers[optimizer])
    set_learning_rate(built, 0.5)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in built.param_groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in built.param_groups) == len(list(model.parameters()))
    for inside, part in ((False, model.head), (True, model.encoder)):
        for parameter in part.parameters():
            decay = 0.3 if parameter.ndim > 1 else 0.0
            assert found[id(parameter)] == (pytest.approx(0.05 if inside else 0.5), decay)
    assert built.param_groups[0]["lr"] == 0.5  # what is written down as the learning rate


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_with_a_factor_of_0_the_weights_of_an_encoder_stay(optimizer: str) -> None:
    model = Halves()
    before = {name: value.clone() for name, value in model.named_parameters()}
    built = build_optimizer(
        model, TrainSettings.model_validate({"optimizer": optimizer, "encoder_lr_mult": 0}), optimizers[optimizer]
    )
    set_learning_rate(built, 0.5)
    model(torch.rand(2, 3, 9, 9)).square().mean().backward()
    built.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}


def test_a_model_without_an_encoder_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"train\.encoder_lr_mult is for models with a submodule named encoder.*Sequential"
    ):
        build_optimizer(
            nn.Sequential(nn.Conv2d(3, 4, 3)), TrainSettings.model_validate({"encoder_lr_mult": 0.1}), adamw
        )


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ({}, 1e-3),
        ({"optimizer": "adamw"}, 1e-3),
        ({"optimizer": "muon"}, 6e-3),
        ({"optimizer": "sgd"}, 1e-2),
        ({"optimizer": "muon", "lr": 0.5}, 0.5),
    ],
)
def test_each_optimizer_has_its_learning_rate(given: dict[str, object], rate: float) -> None:
    assert settings_from(TrainSettings, "train", given).lr == rate
