"""bf16 on a CPU: taken where it was measured to be faster, and kept by a run that began with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from segkit.engine import fastest, fit, precision
from segkit.engine.fastest import faster_on_cpu
from segkit.engine.fit import train_and_evaluate
from segkit.engine.job import Job
from segkit.engine.precision import Precision, resolve

CPU = torch.device("cpu")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """A CPU with bf16 on which a step takes so many seconds in fp32 and in bf16."""

    def set_up(full: float, half: float) -> None:
        for module in (fastest, precision):
            monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
        monkeypatch.setattr(fastest, "_step", lambda model, images, kind: full if kind.name == "fp32" else half)

    return set_up


@pytest.mark.parametrize(
    ("full", "half", "name", "told"),
    [
        (1.0, 0.5, "bf16", "takes 0.50 of one in fp32 on this CPU: bf16"),
        (1.0, 0.9, "fp32", "takes 0.90 of one in fp32 on this CPU: fp32"),
        (1.0, 3.0, "fp32", "takes 3.00"),
        (0.01, 0.001, "fp32", ""),
    ],
)
def test_the_faster_one_is_taken(timed: Any, tiny_net: Any, full: float, half: float, name: str, told: str) -> None:
    timed(full, half)
    found, why = faster_on_cpu(tiny_net())
    assert found == name
    assert told in why
    assert bool(told) == bool(why)


def test_nothing_is_measured_where_bf16_is_emulated(monkeypatch: pytest.MonkeyPatch, tiny_net: Any) -> None:
    monkeypatch.setattr(fastest, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(fastest, "_step", lambda *_: pytest.fail("measured"))
    assert faster_on_cpu(tiny_net()) == ("fp32", "")
    assert resolve("auto", CPU).name == "fp32"


def test_the_model_and_the_random_numbers_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch, tiny_net: Any) -> None:
    monkeypatch.setattr(fastest, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(fastest, "_SHORT", 0.0)
    model = tiny_net().eval()
    before, state = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    name, why = faster_on_cpu(model)
    assert name in why
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_takes_no_such_image_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("only 8 x 8")

    monkeypatch.setattr(fastest, "cpu_has_bf16", lambda: True)
    assert faster_on_cpu(Picky()) == ("fp32", "")


def test_a_run_keeps_the_precision_that_it_began_with(
    timed: Any, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed(1.0, 0.5)
    job = make_job(precision="auto", epochs=1, schedule="constant")
    assert train_and_evaluate(job).precision == "bf16"
    assert "train.precision = auto: a step in bf16 takes 0.50" in capsys.readouterr().out
    assert json.loads((job.folder / "config.json").read_text())["precision"] == "bf16"
    monkeypatch.setattr(fit, "faster_on_cpu", lambda model: pytest.fail("measured"))
    longer = replace(job, train=job.train.model_copy(update={"epochs": 2}))
    assert train_and_evaluate(longer, resume=True).precision == "bf16"


def test_what_was_asked_for_is_not_measured(make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "faster_on_cpu", lambda model: pytest.fail("measured"))
    assert train_and_evaluate(make_job(precision="bf16", epochs=1)).precision == "bf16"


def test_auto_follows_the_run_only_where_the_cpu_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert resolve("auto", CPU, "bf16") == Precision("fp32", CPU)
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert resolve("auto", CPU, "bf16") == Precision("bf16", CPU)
    assert resolve("auto", CPU, "fp16") == Precision("fp32", CPU)
