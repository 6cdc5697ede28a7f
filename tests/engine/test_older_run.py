"""A run of segkit 0.1: everything reads it, and only its training cannot go on.

The folder was written by the last commit of 0.1, with ``train.ema``; ``best.pt`` is the same file as ``last.pt`` there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segkit
from segkit.cli import main
from segkit.errors import CheckpointError
from segkit_predict.evaluate import evaluate_run


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "run_of_0_1", tmp_path / "older"))


def test_its_model_predicts_and_scores_as_it_did(older: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    best, last = (segkit.load(place, device="cpu").predict(image) for place in (older, older / "last.pt"))
    assert best.shape == (32, 32)
    assert np.array_equal(best, last)  # the average, not the weights that were trained
    splits = json.loads((older / "result.json").read_text())["splits"]
    for split, scores in evaluate_run(older)[0].items():
        assert scores["mean_iou"] == pytest.approx(splits[split]["mean_iou"], abs=1e-6)
        assert scores["loss"] == pytest.approx(splits[split]["loss"], rel=1e-4)


def test_commands_read_it(older: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    assert main(["predict", str(older), str(tmp_path / "photo.png"), "--out", str(tmp_path / "masks")]) == 0
    assert main(["report", str(older)]) == 0
    assert main(["compare", str(older), str(older)]) == 0
    assert main(["export", str(older), "--to", "safetensors", "--output", str(tmp_path / "exported")]) == 0
    assert segkit.read_run(older).best["epoch"] == 2


def test_to_resume_it_is_refused_in_one_line(older: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt was written by segkit 0\.1; .* start a new run$") as caught:
        segkit.run(segkit.read_run(older).config, {"output.dir": str(older), "train.epochs": 3}, resume=True)
    assert "\n" not in str(caught.value)
