"""The engine's step and the one by hand, whose times are compared, are the same step."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from segkit.engine.precision import resolve_precision


@pytest.fixture
def overhead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("overhead")


def test_both_steps_leave_the_same_weights(overhead: ModuleType) -> None:
    device = torch.device("cpu")
    precision, batch = resolve_precision("fp32", device), overhead.random_batch(2, (32, 48), device)
    engine = overhead.build_model("unet2")
    hand = copy.deepcopy(engine)
    before = engine.classifier.weight.detach().clone()
    steps = overhead.by_hand(hand, precision, batch), overhead.by_engine(engine, precision, batch, 3)
    for step in steps * 2:
        step()
    assert not torch.equal(before, engine.classifier.weight)
    weights = hand.state_dict()
    for name, value in engine.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-5)


def test_the_ratio_is_of_pairs(overhead: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "seconds", lambda step, _count: step())
    found = overhead.compare(lambda: 2.0, lambda: 3.0, steps=5, blocks=4)
    assert found == {"by_hand_seconds": 2.0, "engine_seconds": 3.0, "ratio": 1.5, "quartiles": [1.5, 1.5]}
