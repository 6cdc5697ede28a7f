"""Several runs as one: the mean of their probabilities, where they are of the same classes and images."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import segkit
from segkit import loading
from segkit.cli import main
from segkit.data.normalise import Normalisation
from segkit.data.sample import ImageFormat, voc_palette
from segkit.errors import RunFolderError
from segkit.inference.predictor import Predictor
from segkit.model.unet import UNet
from segkit_predict.command import _split
from segkit_predict.evaluate import evaluate_run


@pytest.fixture
def other_run(run_folder: Path, write_config: Callable[..., None]) -> Path:
    """A run like the first, less sure of red, on images that it normalised in another way."""
    folder = run_folder.parent / "other"
    shutil.copytree(run_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"][1] *= 0.3
    weights["classifier.bias"] += torch.tensor([0.1, 0.2, -0.3])
    save_file(weights, folder / "model.safetensors")
    write_config(folder, normalisation={"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.5]})
    return folder


@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"flips": "horizontal", "scales": (1.0, 0.5)}])
def test_probabilities_are_the_mean_of_the_runs(
    run_folder: Path, other_run: Path, picture: Path, options: dict[str, Any]
) -> None:
    runs = [run_folder, other_run]
    single = [segkit.load(run, device="cpu").probabilities(picture, **options) for run in runs]
    together = segkit.load(runs, device="cpu")
    mean = np.mean(single, axis=0)
    assert np.abs(single[0] - single[1]).max() > 0.05
    np.testing.assert_allclose(together.probabilities(picture, **options), mean, atol=1e-6)
    assert (together.predict(picture, **options) == mean.argmax(0)).mean() > 0.99  # ties aside


def test_runs_on_an_object_each_have_a_copy_of_it(
    run_folder: Path, other_run: Path, picture: Path, write_config: Callable[..., None], colour_model: UNet
) -> None:
    runs = [run_folder, other_run]
    expected = segkit.load(runs, device="cpu").probabilities(picture)
    for run in runs:
        record = json.loads((run / "config.json").read_text())
        write_config(run, **{**record, "model": None})
    together = segkit.load(runs, model=colour_model, device="cpu")
    np.testing.assert_array_equal(together.probabilities(picture), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["dark", "blue", "red"]}, r"classes must be the same.*'blue', 'red'.* and .*'red', 'blue'"),
        ({"ignore_index": 254}, "ignore_index must be the same, but they are 254 and 255"),
        ({"resize": 0.5}, r"data\.resize must be the same, but they are 0\.5 and None"),
    ],
)
def test_runs_that_are_not_alike_are_refused(
    run_folder: Path, other_run: Path, write_config: Callable[..., None], changes: dict[str, Any], message: str
) -> None:
    write_config(other_run, **changes)
    with pytest.raises(RunFolderError, match=f"{other_run} and {run_folder} cannot be averaged: {message}"):
        segkit.load([run_folder, other_run], device="cpu")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"channels": 4}, r"channels must be the same, but they are \('band 1',"),
        ({"images": ImageFormat(bands=(3, 2, 1))}, r"data\.bands must be the same, but they are \(3, 2, 1\) and None"),
        ({"images": ImageFormat(no_data=-9999.0)}, r"data\.no_data must be the same, but they are -9999\.0 and 'stop'"),
        ({"dtype": "float32"}, "the image dtype must be the same, but they are 'float32' and 'uint8'"),
        ({"classes": ("sky", "land", "sea")}, r"classes must be the same, but they are \('sky', 'land', 'sea'\) and"),
        ({"classes": ("land", "sky")}, "classes must be the same"),
    ],
)
def test_runs_on_other_images_or_classes_are_refused(changes: dict[str, Any], what: str) -> None:
    def predictor(
        classes: Sequence[str] = ("sky", "land"), channels: int = 3, dtype: str = "uint8", **how: Any
    ) -> Predictor:
        own: Any = {"normalisation": Normalisation((0.5,) * channels, (0.2,) * channels, dtype)}  # type: ignore[arg-type]
        network = UNet(len(classes), in_channels=channels, width=2, depth=1)
        return Predictor(network, classes=classes, palette=voc_palette(len(classes)), device="cpu", **own, **how)

    assert len(loading._averaged({"runs/a": predictor(), "runs/b": predictor()}).inferer.networks) == 2
    with pytest.raises(RunFolderError, match=f"runs/b and runs/a cannot be averaged: {what}"):
        loading._averaged({"runs/a": predictor(), "runs/b": predictor(**changes)})


def test_predict_takes_the_runs_that_come_first(
    run_folder: Path, other_run: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_folder.parent / "out"
    runs = [str(run_folder), str(other_run / "model.safetensors")]
    assert main(["predict", *runs, str(picture.parent), "--out", str(out), "--probabilities", "--device", "cpu"]) == 0
    expected = segkit.load([run_folder, other_run], device="cpu").probabilities(picture)
    with np.load(out / "street.npz") as found:
        np.testing.assert_array_equal(found["probabilities"], expected.astype(np.float16))
    assert main(["predict", str(run_folder), str(other_run), "--out", str(out)]) == 2
    assert f"{other_run} holds no image" in " ".join(capsys.readouterr().err.split())
    assert _split("a", ["b.png", runs[0]]) == (["a"], ["b.png", runs[0]])  # what comes after images is one of them


CONFIG = """
[dataset]
name = "folder"
root = "data"
classes = ["background", "first", "second"]
folds = 3

[model]
name = "unet"
width = 4
depth = 1

[[loss]]
name = "cross_entropy"

[train]
epochs = 1
batch_size = 2
device = "cpu"
precision = "fp32"

[output]
samples = 0
"""


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The folders of runs on three folds of a data set with a test split, and of one with another seed."""
    tmp_path = tmp_path_factory.mktemp("folds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("SEGKIT_REPORT", "0")
        yield runs_on_folds(tmp_path)


def runs_on_folds(tmp_path: Path) -> list[str]:
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for part in ("images", "masks"):
            (tmp_path / "data" / part / split).mkdir(parents=True)
        for number in range(count):
            mask = np.kron(draw.integers(0, 3, (4, 6)), np.ones((4, 4))).astype(np.uint8)
            image = np.stack([mask * 90, 255 - mask * 100, mask * 30], 2) + draw.integers(0, 30, (16, 24, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / f"data/images/{split}/{number}.png")
            Image.fromarray(mask).save(tmp_path / f"data/masks/{split}/{number}.png")
    (tmp_path / "folds.toml").write_text(CONFIG)
    found = []
    for name, *overrides in (
        ("fold0", "dataset.fold=0"),
        ("fold1", "dataset.fold=1"),
        ("fold2", "dataset.fold=2"),
        ("seed1", "dataset.fold=0", "train.seed=1"),
    ):
        segkit.run("folds.toml", [*overrides, f"output.dir=runs/{name}"])
        found.append(f"runs/{name}")
    return found


def test_evaluate_averages_runs_on_splits_that_are_the_same_in_all(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, fold2, other_seed = folds
    third = str(shutil.copytree(fold2, tmp_path / "third"))  # which normalises its images in another way
    record = json.loads(Path(third, "config.json").read_text())
    record["normalisation"]["mean"] = [0.3, 0.5, 0.6]
    Path(third, "config.json").write_text(json.dumps(record))
    alone = evaluate_run(first, ["test"])[0]["test"]
    twice = evaluate_run([first, first])[0]
    assert list(twice) == ["train", "val", "test"]
    assert twice["test"]["class_iou"] == alone["class_iou"]
    assert twice["test"]["loss"] == pytest.approx(alone["loss"], abs=1e-6)
    assert list(evaluate_run([first, other_seed])[0]) == ["train", "val", "test"]
    capsys.readouterr()
    assert main(["evaluate", first, second, third, "data.cache=none", "--json"]) == 0
    together = json.loads(capsys.readouterr().out)["splits"]
    assert list(together) == ["test"]  # val of one fold is train of another
    images = [f"data/images/test/{number}.png" for number in range(2)]
    runs = [segkit.load(run, device="cpu") for run in (first, second, third)]
    mean = [np.mean([run.probabilities(each) for run in runs], 0) for each in images]
    true = [np.asarray(Image.open(each.replace("images", "masks"))) for each in images]
    cost = np.mean([-np.log(np.take_along_axis(p, t[None], 0)).mean() for p, t in zip(mean, true, strict=True)])
    assert together["test"]["loss"] == pytest.approx(cost, rel=1e-4)
    assert main(["evaluate", first, second, "--split", "val"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(r"can be scored together on test: the other splits differ between them", message)
    assert main(["evaluate", first, "nowhere"]) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err


def test_compare_tells_the_spread_over_folds_and_what_the_ensemble_gains(
    folds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compare", *folds[:3], "--ensemble", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {split: [run["splits"][split]["mean_iou"] for run in found["runs"]] for split in ("val", "test")}
    for split, row in scores.items():
        assert found["spread"][split]["mean_iou"] == pytest.approx([np.mean(row), np.std(row, ddof=1)])
    assert list(found["ensemble"]) == ["test"]
    together = evaluate_run(folds[:3])[0]["test"]["mean_iou"]
    assert found["ensemble"]["test"]["mean_iou"] == together
    assert main(["compare", *folds[:3], "--ensemble"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    mean, deviation = np.mean(scores["val"]), np.std(scores["val"], ddof=1)
    assert f"3 of 3 folds: mean_iou {mean:.3f} ± {deviation:.3f}, pixel_accuracy" in printed
    assert "not to be compared" not in printed  # the folds of val are of other images, as they should be
    gains = ", ".join(f"{together - row:+.3f} beside {run}" for row, run in zip(scores["test"], folds, strict=False))
    assert f"ensemble of 3: mean_iou {together:.3f}, {gains}" in printed
    assert main(["compare", folds[0], folds[3]]) == 0
    assert "2 seeds: mean_iou" in capsys.readouterr().out


def test_folds_for_which_auto_chose_other_numbers_are_folds(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for place, crop in zip(folds[:2], (64, 96), strict=True):
        runs.append(str(shutil.copytree(place, tmp_path / Path(place).name)))
        record = json.loads((tmp_path / Path(place).name / "run.json").read_text())
        record["config"]["augment"]["crop"], record["replaced"] = crop, {"augment.crop": "auto"}
        (tmp_path / Path(place).name / "run.json").write_text(json.dumps(record))
    assert main(["compare", *runs]) == 0
    assert "2 of 3 folds: mean_iou" in " ".join(capsys.readouterr().out.split())
    record["replaced"] = {}  # given by hand
    (Path(runs[1]) / "run.json").write_text(json.dumps(record))
    assert main(["compare", *runs]) == 0
    assert "folds: mean_iou" not in capsys.readouterr().out


def test_an_ensemble_that_cannot_be_scored_ends_the_comparison(
    folds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    record = Path(folds[3], "run.json")
    whole = record.read_text()
    record.write_text(whole.replace('"test": ', '"else": '))
    try:
        assert main(["compare", folds[0], folds[3], "--ensemble"]) == 2
    finally:
        record.write_text(whole)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "can be scored together on" in " ".join(printed.err.split())
