"""Every example runs: two steps on a miniature of its dataset's own layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segkit

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("*.toml"))
UNET = ("model.width=4", "model.depth=2")
SMP = {  # networks of the same kind, from timm's for tests, without weights
    "convnext.toml": ("model.encoder=tu-test_convnext", "model.weights=none"),
    "dino.toml": ("model.encoder=tu-test_vit", "model.weights=none"),
}
SMALL = (
    "train.max_steps=2",
    "train.batch_size=2",
    "train.device=cpu",
    "output.samples=1",
)


def test_all_promised_examples_are_there() -> None:
    promised = {"quickstart", "voc", "voc2007", "carvana", "gta5", "camvid", "drive", "your_data"}
    assert promised <= {name.removesuffix(".toml") for name in CONFIGS}


def write_drive(root: Path) -> None:
    """Five photographs to train and two to test, in DRIVE's layout."""
    random = np.random.default_rng(0)
    for split, word, first, count in (("training", "training", 21, 5), ("test", "test", 1, 2)):
        for kind in ("images", "1st_manual"):
            (root / split / kind).mkdir(parents=True)
        for number in range(first, first + count):
            vessels = (random.random((40, 40)) < 0.2).astype(np.uint8) * 255
            image = random.integers(0, 60, (40, 40, 3), dtype=np.uint8) + vessels[..., None] // 2
            Image.fromarray(image).save(root / split / "images" / f"{number:02}_{word}.tif")
            Image.fromarray(vessels).save(root / split / "1st_manual" / f"{number:02}_manual1.gif", optimize=False)


QUICK = {"quickstart.toml", "your_data.toml"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CONFIGS]
)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    config = tomllib.loads((EXAMPLES / name).read_text())
    dataset = config["dataset"]["name"]
    overrides = [*SMP.get(name, UNET), *SMALL, f"output.dir={tmp_path / 'run'}"]
    if "root" in config["dataset"]:
        write_drive(tmp_path / "data") if name == "drive.toml" else segkit.datasets[dataset].write_sample(
            tmp_path / "data"
        )
        overrides.append(f"dataset.root={tmp_path / 'data'}")
    if "download" in config["dataset"]:
        overrides.append("dataset.download=false")
    if "augment" in config:
        overrides.append("augment.crop=32")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*differ in size", category=UserWarning
        )  # GTA5's sample has such a pair
        result = segkit.run(EXAMPLES / name, overrides)
    assert result.best_epoch == 1
    assert set(result.splits) >= {"train", "val"}
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] <= 2
    for scores in result.splits.values():
        assert 0 <= scores["mean_iou"] <= 1
        assert scores["floor"]["class"] in scores["class_iou"]
    assert (tmp_path / "run" / "samples" / "best.png").stat().st_size > 1000


@pytest.mark.parametrize("name", SMP)
def test_a_modern_backbone_is_fetched_from_where_timm_has_it(name: str) -> None:
    import timm

    text = (EXAMPLES / name).read_text()
    encoder = tomllib.loads(text)["model"]["encoder"].removeprefix("tu-")
    assert f"hf download {timm.get_pretrained_cfg(encoder).hf_hub_id} model.safetensors" in text


@pytest.mark.slow
def test_the_example_in_python_runs(tmp_path: Path) -> None:
    source = (EXAMPLES / "train.py").read_text()
    assert "epochs=24" in source
    (tmp_path / "train.py").write_text(source.replace("epochs=24", "max_steps=2").replace("width=16", "width=4"))
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test mean IoU" in done.stdout
    assert (tmp_path / "runs" / "train-py" / "result.json").exists()
