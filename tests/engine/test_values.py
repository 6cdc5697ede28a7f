"""A run on images of more than 8 bits: it learns, and everything afterwards sees its images as it did."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn
from training import train_and_evaluate

import segkit
from segkit.cli import main
from segkit.data.normalise import MEAN
from segkit.engine.inputs import TrainerInputs
from segkit.errors import DataError
from segkit_predict.evaluate import evaluate_run

pytestmark = pytest.mark.fault("F50")


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Objects that 8 bits of 16 show nothing of, or that are a little brighter than a large value."""
    kind = getattr(request, "param", "12 bits of 16")
    random = np.random.default_rng(0)
    for index in range(12):
        labels = np.zeros((24, 24), np.uint8)
        top, left = random.integers(0, 12, 2)
        labels[top : top + 12, left : left + 12] = 1
        values = random.normal(0, 6, labels.shape) + 80.0 * labels
        stored = {
            "12 bits of 16": np.clip(1070 + values, 1024, 1279).astype(np.uint16),
            "int32": np.clip(60 + values, 0, 255).astype(np.int32),
            "float": (1e5 + values).astype(np.float32),
        }[kind]
        for folder, pixels, suffix in (("images", stored, "tif"), ("masks", labels, "png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.{suffix}")
    return {
        "dataset": {"name": "folder", "root": str(tmp_path), "classes": ["ground", "object"]},
        "model": {"name": "unet", "width": 4, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
        "augment": {"crop": 20, "scale": [0.8, 1.25], "rotation": 10},
        "train": {"epochs": 3, "batch_size": 4, "repeat": 4, "lr": 0.02, "precision": "fp32", "device": "cpu"},
        "output": {"dir": str(tmp_path / "run"), "samples": 1},
    }


def changed(config: dict[str, Any], **tables: dict[str, Any]) -> dict[str, Any]:
    return {**config, **{name: {**config.get(name, {}), **table} for name, table in tables.items()}}


@pytest.mark.parametrize("config", ["12 bits of 16", "int32", "float"], indirect=True)
def test_it_learns_and_evaluation_prediction_and_loading_agree(config: dict[str, Any], tmp_path: Path) -> None:
    result = segkit.run(config)
    assert result.splits["test"]["class_iou"]["object"] > 0.7
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["normalisation"]
    assert stored["dtype"] == "float32"
    assert len(set(stored["mean"])) == 1
    assert evaluate_run(tmp_path / "run")[0]["test"]["class_iou"] == pytest.approx(result.splits["test"]["class_iou"])
    predictor = segkit.load(tmp_path / "run", device="cpu")
    path = tmp_path / "images" / "3.tif"
    labels = np.asarray(Image.open(tmp_path / "masks" / "3.png"))
    assert (predictor.predict(path) == labels).mean() > 0.9
    with Image.open(path) as opened:
        assert np.array_equal(predictor.predict(opened), predictor.predict(path))
    eight = np.zeros((24, 24, 3), np.uint8)
    with pytest.raises(
        DataError, match=r"the image: its values are uint8, .* of more than 8 bits per channel \(float32\)"
    ):
        predictor.predict(eight)
    with Image.open(tmp_path / "run" / "samples" / "best.png") as drawn:
        assert np.asarray(drawn)[40:200, 10:200].std() > 20  # stretched: noise beside an object, and no black


def test_a_run_that_goes_on_keeps_what_it_measured(config: dict[str, Any], tmp_path: Path) -> None:
    whole = segkit.run(changed(config, output={"dir": str(tmp_path / "whole")}, train={"schedule": "constant"}))
    segkit.run(changed(config, train={"schedule": "constant", "epochs": 1}))
    path = tmp_path / "run" / "config.json"
    facts = json.loads(path.read_text())
    went_on = segkit.run(changed(config, train={"schedule": "constant"}), resume=True)
    assert went_on.splits["val"]["loss"] == pytest.approx(whole.splits["val"]["loss"])
    assert json.loads(path.read_text())["normalisation"] == facts["normalisation"]


def test_what_a_pretrained_encoder_asks_for_is_kept_when_a_run_goes_on(
    make_job: Callable[..., TrainerInputs], tiny_net: type[nn.Module], tmp_path: Path
) -> None:
    def kept() -> Any:
        return json.loads(path.read_text())["normalisation"]["mean"]

    path = tmp_path / "run" / "config.json"
    pretrained = tiny_net()
    pretrained.normalisation = {"mean": [0.5] * 3, "std": [0.5] * 3}  # type: ignore[assignment]
    train_and_evaluate(make_job(epochs=1, schedule="constant", fields={"model": pretrained}))
    assert kept() == [0.5] * 3
    train_and_evaluate(make_job(epochs=2, schedule="constant"), resume=True)  # built without its weights
    assert kept() == [0.5] * 3
    older = json.loads(path.read_text())
    del older["normalisation"]
    path.write_text(json.dumps(older))
    train_and_evaluate(make_job(epochs=3, schedule="constant", fields={"model": pretrained}), resume=True)
    assert kept() == list(MEAN)


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_decoded_images_give_the_same_run(config: dict[str, Any], tmp_path: Path, cache: str) -> None:
    plain = segkit.run(config)
    cached = segkit.run(changed(config, data={"cache": cache}, output={"dir": str(tmp_path / cache)}))
    assert cached.splits == plain.splits


def test_evaluation_of_images_of_8_bits_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    segkit.run(changed(config, train={"max_steps": 1}))
    for index in range(12):
        Image.effect_noise((24, 24), 20 + index).save(tmp_path / "images" / f"{index}.tif")
    with pytest.raises(
        DataError, match=r"train: \d+: its values are uint8, but the model was trained on .* more than 8"
    ):
        evaluate_run(tmp_path / "run")


def test_images_of_another_unit_are_told_where_they_are_predicted(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segkit.run(changed(config, train={"max_steps": 1}))
    for place, scale, told in (("same", 1, ""), ("scaled", 1 / 65535, "values have another range")):
        (tmp_path / place).mkdir()
        for index in range(2):
            values = np.asarray(Image.open(tmp_path / "images" / f"{index}.tif"), np.float32) * scale
            Image.fromarray(values).save(tmp_path / place / f"{index}.tif")
        capsys.readouterr()
        assert main(["predict", str(tmp_path / "run"), str(tmp_path / place), "--out", str(tmp_path / "out")]) == 0
        assert capsys.readouterr().err.count("values have another range") == 2 * bool(told)  # one for each image
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            segkit.load(tmp_path / "run", device="cpu").predict(tmp_path / place / "0.tif")
        assert [str(each.message).count("values have another range") for each in caught] == [1] * bool(told)


def test_a_run_that_took_grey_three_times_is_evaluated_and_predicts_as_it_did(
    config: dict[str, Any], tmp_path: Path
) -> None:
    result = segkit.run(changed(config, data={"bands": [1, 1, 1]}, train={"max_steps": 2}))
    for name in ("run.json", "config.json"):  # as they were before datasets had channels
        path = tmp_path / "run" / name
        record = json.loads(path.read_text())
        record.pop("images", None)
        record.get("config", {}).get("data", {}).pop("bands", None)
        path.write_text(json.dumps(record))
    again = evaluate_run(tmp_path / "run")[0]["val"]
    assert again["loss"] == pytest.approx(result.splits["val"]["loss"])
    predictor, path = segkit.load(tmp_path / "run", device="cpu"), tmp_path / "images" / "3.tif"
    grey = np.asarray(Image.open(path), np.float32)[..., None].repeat(3, axis=2)
    assert np.array_equal(predictor.predict(path), predictor.predict(grey))
