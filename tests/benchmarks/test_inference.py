"""Prediction is compared on the same windows, and its tables say what the rows say."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.inference.predictor import Predictor
from segkit.model.unet import UNet

FACTS: dict[str, Any] = {"classes": ("dark", "red", "blue"), "palette": ((0, 0, 0), (200, 0, 0), (0, 0, 200))}


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("inference")


@pytest.fixture
def given(inference: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A small network, whose image is smooth noise."""
    torch.manual_seed(0)
    network = UNet(3, width=4, depth=2)
    part = importlib.import_module("contestants.prediction")
    monkeypatch.setattr(part.Given, "predictor", lambda _: Predictor(network, **FACTS, device="cpu", precision="fp32"))
    coarse = torch.rand(1, 3, 30, 30)
    image = torch.nn.functional.interpolate(coarse, (240, 240), mode="bilinear")[0].mul(255).byte()
    np.save(tmp_path / "large.npy", image.permute(1, 2, 0).contiguous().numpy())
    return part.Given(tmp_path, [], tmp_path, "cpu", "fp32", 64, 0.5, 1)


def test_both_cut_the_same_windows_or_nothing_is_compared(given: Any) -> None:
    pytest.importorskip("monai")
    part = importlib.import_module("contestants.prediction")
    assert part.same_windows(given) == 49
    with pytest.raises(AssertionError, match="not the same"):
        part.same_windows(replace(given, overlap=0.3))  # 44.8 pixels for MONAI, 32 on the grid here


def test_beyond_is_what_the_network_does_not_take(given: Any) -> None:
    part = importlib.import_module("contestants.prediction")
    whole = part.windows(given, "whole", part.by_whole)
    ours = part.windows(given, "segkit", part.by_segkit)
    assert "apart" not in whole
    assert 0 < ours["apart"] < 0.05
    assert ours["cpu_seconds"] == pytest.approx(ours["network_seconds"] + ours["beyond_seconds"])
    assert ours["network_seconds"] > 0


def test_tables_of_rows(inference: ModuleType) -> None:
    rows = [
        {"part": "windows", "contestant": f"{name} fp32", "seconds": took, "beyond_seconds": took / 4, "apart": 0.001}
        for took in (4.0, 6.0)
        for name in ("segkit", "monai")
    ]
    rows[1]["seconds"] = rows[3]["seconds"] = 8.0
    text = inference.tables(rows)
    assert "| segkit fp32 | 5.00 (4.00-6.00) |  |  | 1.25 (1.00-1.50) |  | 0.00100 (0.00100-0.00100) |" in text
    assert "| segkit fp32 / monai fp32 | 0.62 |  | 1.00 |  |" in text


@pytest.mark.slow
def test_files_of_all_contestants_have_the_same_labels(tmp_path: Path) -> None:
    inference_py = Path(__file__).parents[2] / "benchmarks" / "inference.py"
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        for part in ("images", "masks"):
            (tmp_path / "data" / part / split).mkdir(parents=True)
        for number in range(count):
            labels = rng.integers(0, 11, (8, 10), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
            Image.fromarray(labels).save(tmp_path / "data" / "masks" / split / f"{number}.png")
            Image.fromarray(labels * 20).convert("RGB").save(tmp_path / "data" / "images" / split / f"{number}.jpg")
    options = ["--model", "unet4", "--steps", "2", "--images", "2", "--side", "160", "--window", "64", "--repeats", "1"]
    places = [
        "--root",
        str(tmp_path / "data"),
        "--work",
        str(tmp_path / "work"),
        "--json",
        str(tmp_path / "rows.jsonl"),
    ]
    subprocess.run([sys.executable, str(inference_py), *options, *places, "--precisions", "fp32"], check=True)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {"predict fp32", "hand fp32", "segkit fp32", "whole fp32"} <= {row["contestant"] for row in rows}
    for number in range(2):
        masks = [tmp_path / "work" / folder / f"{number}.png" for folder in ("predict-fp32", "hand-fp32")]
        ours, theirs = (np.asarray(Image.open(mask)) for mask in masks)
        assert (ours == theirs).mean() > 0.999
