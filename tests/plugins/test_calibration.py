"""Calibration: values worked out by hand and by torchmetrics, sums that do not depend on order, temperatures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

import segkit
from segkit.cli import main
from segkit.errors import DataError, LabelError
from segkit.testing import checks
from segkit_calibration.metric import CalibrationError, TemperatureFit, fitted_temperature

CHECKS = checks("metric", "calibration_error")


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_it_keeps_the_contract_of_metrics(check) -> None:
    check()


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """``[1,C,1,W]`` of the probabilities of W pixels."""
    return torch.tensor(probabilities).log().T[None, :, None]


def test_pixels_worked_out_by_hand() -> None:
    """Three pixels: 0.9 and right, 0.9 and wrong, 0.55 and right; a void one does not count."""
    metric = CalibrationError(2, 255, bins=10)
    logits = logits_of([[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [0.5, 0.5]])
    metric.update(logits, torch.tensor([[[0, 1, 1, 255]]]))
    assert metric.compute() == pytest.approx(2 / 3 * (0.9 - 0.5) + 1 / 3 * (1 - 0.55))
    low, high = metric.reliability()
    assert low == pytest.approx((1 / 3, 0.55, 1))
    assert high == pytest.approx((2 / 3, 0.9, 0.5))


def drawn(seed: int, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits ``[2,5,20,30]`` times a factor, and targets that were drawn from the probabilities before it."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 5, 20, 30, generator=draw)
    target = torch.multinomial(logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, 5), 1, generator=draw)
    target = target.view(2, 20, 30)
    target[:, :3] = 255
    return sharpness * logits, target


def test_it_is_that_of_torchmetrics() -> None:
    logits, target = drawn(0, 1.7)
    metric = CalibrationError(5, 255)
    metric.update(logits, target)
    other = multiclass_calibration_error(
        logits.permute(0, 2, 3, 1).reshape(-1, 5), target.flatten(), 5, 15, ignore_index=255
    )
    assert metric.compute() == pytest.approx(float(other), abs=1e-6)


def test_sums_of_several_processes_are_the_same_to_the_last_bit() -> None:
    batches = [drawn(seed, 1.3) for seed in range(6)]
    whole = CalibrationError(5, 255)
    for batch in batches:
        whole.update(*batch)
    parts = [CalibrationError(5, 255) for _ in range(3)]
    for number, batch in enumerate(batches):
        parts[number % 3].update(*batch)
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = CalibrationError(5, 255)
        for number in order:
            merged.merge(parts[number])
        assert torch.equal(merged.sums, whole.sums)
        assert merged.compute() == whole.compute()
    whole.update(torch.zeros(1, 5, 1, 1), torch.tensor([[[7]]]))
    with pytest.raises(LabelError, match="1 pixels hold labels that do not exist"):
        whole.compute()


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(sharpness: float) -> None:
    batches = [drawn(seed, sharpness) for seed in range(8)]
    meter = TemperatureFit(5, 255)
    for batch in batches:
        meter.update(*batch)
    logits, target = meter.sample()
    assert len(target) == 8 * 2 * 17 * 30
    found = fitted_temperature(logits, target)
    assert found == pytest.approx(sharpness, rel=0.05)  # of a sample
    beside = [float(F.cross_entropy(logits.double() / (found * factor), target)) for factor in (0.999, 1, 1.001)]
    assert min(beside) == beside[1]
    after = CalibrationError(5, 255)
    for logits, target in batches:
        after.update(logits / found, target)
    assert after.compute() < 0.02
    if sharpness != 1:
        assert after.compute() < meter.compute() / 4


def test_labels_of_one_class_have_no_temperature() -> None:
    logits, target = torch.tensor([[2.0, 0.0]] * 20), torch.zeros(20, dtype=torch.int64)
    for labels, which in ((target, "one class"), (1 - target, "learned nothing")):
        with pytest.raises(DataError, match=f"temperature for val is not between 0.05 and 20,.* {which}"):
            fitted_temperature(logits, labels)


def test_the_pixels_that_are_kept_are_few_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit_calibration.metric.MOST", 500)
    found = []
    for _ in range(2):
        meter = TemperatureFit(5, 255)
        for seed in range(5):
            meter.update(*drawn(seed))
        found.append(meter.sample())
    assert 500 <= len(found[0][1]) <= 1000
    assert torch.equal(found[0][0], found[1][0])
    labels = torch.cat([target[target != 255] for _, target in map(drawn, range(5))])
    assert torch.equal(found[0][1], labels[:: meter.step])
    with pytest.raises(DataError, match="no temperature can be fitted"):
        fitted_temperature(*TemperatureFit(5, 255).sample())


CONFIG = """
[dataset]
name = "shapes"
images = [8, 6, 6]
size = 32

[model]
name = "unet"
width = 4
depth = 1

[[loss]]
name = "cross_entropy"

[[metric]]
name = "calibration_error"

[train]
epochs = 2
batch_size = 4
device = "cpu"
precision = "fp32"

[output]
samples = 0
"""


def test_a_calibrated_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGKIT_REPORT", "0")
    Path("tiny.toml").write_text(CONFIG)
    result = segkit.run("tiny.toml", ["output.dir=run"])
    picture = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    before = segkit.load("run", device="cpu")
    labels, probabilities = before.predict(picture), before.probabilities(picture)
    capsys.readouterr()
    assert main(["calibrate", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["splits"]) == ["val", "test"]
    test = found["splits"]["test"]
    assert test["before"]["calibration_error"] == pytest.approx(result.splits["test"]["calibration_error"], abs=1e-9)
    assert found["splits"]["val"]["after"]["loss"] < found["splits"]["val"]["before"]["loss"]
    model = segkit.read_run("run").model
    assert model["temperature"] == found["temperature"] != 1
    after = segkit.load("run", device="cpu")
    np.testing.assert_array_equal(after.predict(picture), labels)
    scaled = np.exp(np.log(probabilities) / found["temperature"])
    np.testing.assert_allclose(after.probabilities(picture), scaled / scaled.sum(0), atol=1e-5)
    assert main(["evaluate", "run", "--split", "test", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["splits"]["test"]
    assert scores["calibration_error"] == test["after"]["calibration_error"]
    assert scores["mean_iou"] == result.splits["test"]["mean_iou"]
    assert main(["calibrate", "run"]) == 0  # once more changes next to nothing
    assert f"temperature {found['temperature']:.2f}" in capsys.readouterr().out
    assert main(["report", "run"]) == 0
    page = Path("run/report.html").read_text()
    assert "How far its probabilities can be believed" in page
    assert f"before: error {test['after']['calibration_error']:.3f}" in page
    assert math.isclose(segkit.read_run("run").model["temperature"], found["temperature"], rel_tol=1e-3)
    model, epochs = segkit.read_run("run").model, len(segkit.read_run("run").epochs)
    segkit.run("tiny.toml", ["output.dir=run"], resume=True)
    assert segkit.read_run("run").model == model  # the same weights
    segkit.run("tiny.toml", ["output.dir=run", f"train.epochs={epochs + 1}"], resume=True)
    assert not {"temperature", "calibration"} & {*segkit.read_run("run").model}  # others, it may be
