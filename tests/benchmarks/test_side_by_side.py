"""The comparison with other ways to train: every contestant does the same steps, and what is printed follows."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALL = ["--model=unet2", "--device=cpu", "--precision=fp32", "--batch=2", "--crop", "32", "48", "--epochs=2"]
SMALL += ["--images=5", "--val=2"]


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("side_by_side")


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """A miniature in CamVid's layout: labels 0 to 10, and 11 for void."""
    random = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 3)):
        for part in ("images", "masks"):
            (tmp_path / part / split).mkdir(parents=True)
        for number in range(count):
            mask = random.integers(0, 12, (3, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)  # [48,64]
            Image.fromarray(mask).save(tmp_path / "masks" / split / f"{number}.png")
            noise = random.integers(0, 100, (*mask.shape, 3), dtype=np.uint8)
            Image.fromarray(noise + 14 * mask[..., None]).save(tmp_path / "images" / split / f"{number}.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's own: few workers, a small batch
@pytest.mark.parametrize("name", ["bare", "tuned", "lightning", "segkit"])
def test_every_contestant_takes_the_same_steps(side_by_side: ModuleType, camvid: Path, name: str) -> None:
    for needed in side_by_side.NEEDS.get(name, ()):
        pytest.importorskip(needed)
    row = side_by_side.measure(side_by_side.options(["--root", str(camvid), *SMALL, "--only", name]))
    assert row["contestant"] == f"{name} fp32"
    assert (row["steps"], row["images_an_epoch"], row["val_images"]) == (4, 4, 2)
    (epoch,), (training,) = row["epoch_seconds"], row["train_seconds"]  # the first epoch does not count
    assert 0 < training < epoch
    assert 0 < row["startup_seconds"] < row["startup_seconds"] + epoch < row["total_seconds"]
    assert math.isfinite(row["train_loss"])
    assert 0 <= row["val_mean_iou"] <= 1
    json.dumps(row)


def test_contestants_begin_with_the_same_weights(side_by_side: ModuleType) -> None:
    build = importlib.import_module("contestants.task").build_model
    one, two = (build("unet2").state_dict() for _ in range(2))
    assert all(value.equal(two[key]) for key, value in one.items())


@pytest.mark.slow
def test_a_process_each_and_a_table(
    side_by_side: ModuleType, camvid: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = tmp_path / "rows.jsonl"
    command = ["--root", str(camvid), *SMALL, "--contestants", "bare", "--repeats", "1", "--json", str(lines)]
    side_by_side.main(command)
    (row,) = map(json.loads, lines.read_text().splitlines())
    assert row["repeat"] == 1
    assert "| bare fp32 |" in capsys.readouterr().out


def test_ratios_are_taken_by_repeat(side_by_side: ModuleType) -> None:
    def row(name: str, epoch: float) -> dict[str, Any]:
        facts = {"images_an_epoch": 8, "startup_seconds": 1.0, "peak_memory_bytes": 2**20, "total_seconds": 4 * epoch}
        scores = {"train_loss": 0.5, "val_mean_iou": 0.25}
        return {"contestant": name, "epoch_seconds": [epoch], "train_seconds": [epoch / 2], **facts, **scores}

    text = side_by_side.tables([row("bare", 3.0), row("segkit", 1.0), row("bare", 8.0), row("segkit", 2.0)])
    assert "| segkit | 1.50 (1.00-2.00) | 0.75 (0.50-1.00) | 12.0 (8.0-16.0) |" in text
    assert "| segkit : bare | 3.50 (3.00-4.00) | 3.50 (3.00-4.00) | 3.50 (3.00-4.00) |" in text


def test_a_peer_that_is_missing_is_told_in_a_line(
    side_by_side: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(side_by_side, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as caught:
        side_by_side.options(["--root", "."])
    assert caught.value.code == 2
    message = "lightning needs pytorch_lightning, torchmetrics: pip install -r benchmarks/requirements.txt\n"
    assert capsys.readouterr().err == message


def test_the_malicious_releases_of_lightning_are_excluded() -> None:
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("pytorch-lightning"))
    found = Requirement(line.partition("#")[0]).specifier
    assert [version for version in ("2.6.1", "2.6.2", "2.6.3", "2.6.6") if version in found] == ["2.6.1", "2.6.6"]
