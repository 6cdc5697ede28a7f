"""Runs on images of any number of bands: they learn, and evaluation, prediction and export see what training saw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segkit
from segkit.cli import main
from segkit.data.sample import Dataset, Sample
from segkit.errors import ConfigError, DataError, LabelError
from segkit_predict.evaluate import evaluate_run
from segkit_predict.images import list_images

tifffile = pytest.importorskip("tifffile")


def write(folder: Path, dtype: str = "u2", bands: int = 4, suffix: str = "tif") -> None:
    """Twelve pictures whose last band alone shows the object."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(12):
        labels = np.zeros((24, 24), np.uint8)
        top, left = random.integers(0, 12, 2)
        labels[top : top + 12, left : left + 12] = 1
        values = random.normal(100, 5, (24, 24, bands))
        values[..., -1] += 60 * labels
        stored = (values * (1 if dtype == "u1" else 40)).astype(dtype)
        if suffix == "tif":
            extra = (
                {"photometric": "rgb", "extrasamples": ["unspecified"]} if bands == 4 else {"photometric": "minisblack"}
            )
            stored = stored[..., 0] if bands == 1 else stored
            tifffile.imwrite(
                folder / "images" / f"{index}.tif", stored, planarconfig="contig" if bands > 1 else None, **extra
            )
        else:
            np.save(folder / "images" / f"{index}.npy", stored)
        Image.fromarray(labels).save(folder / "masks" / f"{index}.png")


def config(folder: Path, **tables: dict[str, Any]) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "dataset": {"name": "folder", "root": str(folder), "classes": ["ground", "object"]},
        "model": {"name": "unet", "width": 4, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
        "augment": {"crop": 20, "scale": [0.8, 1.25], "rotation": 10, "colour": 0.2},
        "train": {"epochs": 3, "batch_size": 4, "repeat": 4, "lr": 0.02, "precision": "fp32", "device": "cpu"},
        "output": {"dir": str(folder / "run"), "samples": 1},
    }
    return {
        name: {**usual.get(name, {}), **tables.get(name, {})} if name != "loss" else usual[name]
        for name in {**usual, **tables}
    }


@pytest.mark.parametrize(
    ("dtype", "bands", "suffix"), [("u1", 4, "tif"), ("u2", 4, "tif"), ("f4", 1, "tif"), ("i2", 12, "npy")]
)
def test_it_learns_and_evaluation_and_prediction_agree(tmp_path: Path, dtype: str, bands: int, suffix: str) -> None:
    write(tmp_path, dtype, bands, suffix)
    result = segkit.run(config(tmp_path))
    assert result.splits["test"]["class_iou"]["object"] > 0.7
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    how = stored["normalisation"]
    assert (how["dtype"], len(how["mean"])) == ("uint8" if dtype == "u1" else "float32", bands)
    scale = 255 if dtype == "u1" else 40
    assert scale * how["mean"][-1] > 110 if dtype == "u1" else how["mean"][-1] / scale > 110  # seen in the last band
    if bands == 4:
        assert stored["images"]["channels"] == ["red", "green", "blue", "band 4"]
    again = evaluate_run(tmp_path / "run")[0]["test"]["class_iou"]
    assert again == pytest.approx(result.splits["test"]["class_iou"])
    predictor = segkit.load(tmp_path / "run", device="cpu")
    path = tmp_path / "images" / f"3.{suffix}"
    labels = np.asarray(Image.open(tmp_path / "masks" / "3.png"))
    assert (predictor.predict(path) == labels).mean() > 0.9
    pixels = np.load(path) if suffix == "npy" else tifffile.imread(path)
    assert np.array_equal(predictor.predict(pixels), predictor.predict(path))  # as they are stored, int16 too


def test_bands_are_chosen_and_their_order_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    blind = segkit.run(config(tmp_path, data={"bands": [1, 2, 3]}, train={"epochs": 1}))
    assert blind.splits["test"]["class_iou"]["object"] < 0.4
    seen = segkit.run(config(tmp_path, data={"bands": [4, 2]}, output={"dir": str(tmp_path / "seen")}))
    assert seen.splits["test"]["class_iou"]["object"] > 0.7
    stored = json.loads((tmp_path / "seen" / "config.json").read_text())
    assert stored["images"]["channels"] == ["band 4", "green"]
    assert stored["normalisation"]["mean"][0] > stored["normalisation"]["mean"][1]
    predictor = segkit.load(tmp_path / "seen", device="cpu")
    path = tmp_path / "images" / "3.tif"
    pixels = tifffile.imread(path)
    assert np.array_equal(predictor.predict(path), predictor.predict(pixels[..., [3, 1]]))
    with pytest.raises(
        DataError, match=r"an image is band 4, green, float32 \[H,W,2\]; this one is uint16 \[24, 24, 4\]"
    ):
        predictor.predict(pixels)
    with pytest.raises(LabelError, match=r"names a band that it lacks \(it has red, green, blue, band 4\).*\[5\]"):
        segkit.run(config(tmp_path, data={"bands": [5]}), overwrite=True)


class Holed(Dataset):
    """Twelve channels in memory; in each image a part is NaN."""

    classes, palette, channels = ("ground", "object"), ((0, 0, 0), (255, 0, 0)), tuple("abcdefghijkl")

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        masks = random.integers(0, 2, (count, 1, 3, 3)).repeat(8, 2).repeat(8, 3)
        images = random.normal(0, 1, (count, 12, 24, 24)) + 3 * masks
        images[:, 3, :4] = np.nan
        self.samples = [
            Sample(torch.from_numpy(image).float(), torch.from_numpy(mask[0]).byte(), str(number))
            for number, (image, mask) in enumerate(zip(images, masks, strict=True))
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        image, mask = self.samples[index].image.clone(), self.samples[index].mask.clone()
        return Sample(
            image, mask if self.no_data == "stop" else mask.masked_fill(image.isnan().any(0), 255), str(index)
        )

    def set_bands(self, bands: Sequence[int] | None, no_data: float | str) -> bool:
        self.no_data = no_data
        return bands is None


def test_pixels_without_data_are_void_where_that_is_asked_for(tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "loss": torch.nn.CrossEntropyLoss(ignore_index=255),
        "train": Holed(8, 0),
        "val": Holed(4, 1),
    }
    how |= {"output": tmp_path / "run", "device": "cpu", "epochs": 6, "lr": 0.02, "batch_size": 2, "samples": 0}
    with pytest.raises(LabelError, match=r"12 files: pixels that are not numbers \(.*: train/0.*data.no_data = .void."):
        segkit.fit(model=torch.nn.Conv2d(12, 2, 1), **how)
    with pytest.raises(ConfigError, match=r"data\.bands = \[1\].*: Holed returns its channels itself; select them"):
        segkit.fit(model=torch.nn.Conv2d(12, 2, 1), data={"bands": [1]}, **how)
    result = segkit.fit(model=torch.nn.Conv2d(12, 2, 1), data={"no_data": "void", "bands": None}, **how)
    assert result.splits["val"]["mean_iou"] > 0.9
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["train"]["void"] == 8 * 4 * 24
    warned = [each["text"] for each in record["warnings"]]
    assert any("8 of 8 images have pixels without data: 0 (16.7%), 1" in text for text in warned), warned
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["normalisation"]
    assert stored["no_data"] is True
    assert np.isfinite(stored["mean"]).all()
    predictor = segkit.load(tmp_path / "run", model=torch.nn.Conv2d(12, 2, 1), device="cpu")
    labels = predictor.predict(Holed(1, 1)[0].image.permute(1, 2, 0).numpy())
    assert (labels == Holed(1, 1)[0].mask.numpy())[4:].mean() > 0.9


def test_what_a_file_declares_as_no_data_is_told_and_can_be_void(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "i2", 3)
    for path in (tmp_path / "images").iterdir():
        pixels = tifffile.imread(path)
        pixels[:3] = -9999
        pixels[5, 5, 0] = -9999  # in one band alone: data
        tifffile.imwrite(
            path, pixels, photometric="minisblack", planarconfig="contig", extratags=[(42113, "s", 0, "-9999", True)]
        )
    segkit.run(config(tmp_path, train={"max_steps": 1}))
    warned = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert {"declared_no_data", "no_data"} & {each["kind"] for each in warned} == {"declared_no_data"}  # told once
    segkit.run(config(tmp_path, train={"max_steps": 1}, data={"no_data": "void"}), overwrite=True)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["train"]["void"] == record["data"]["train"]["images"] * 3 * 24
    for path in (tmp_path / "images").iterdir():  # what no file declares is named in the config
        tifffile.imwrite(path, tifffile.imread(path), photometric="minisblack", planarconfig="contig")
    result = segkit.run(config(tmp_path, train={"max_steps": 1}, data={"no_data": -9999.0}), overwrite=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"] == record["data"]
    val = segkit.datasets["folder"](tmp_path, "val", classes=["ground", "object"])
    images = [str(tmp_path / "images" / f"{name}.tif") for name in val.names]
    compare = ["--out", str(tmp_path / "out"), "--compare-with", str(tmp_path / "masks"), "--metrics", "--json"]
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), *images, *compare]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["pixel_accuracy"] == result.splits["val"]["pixel_accuracy"]  # void in a prediction's truth too
    for stored in ([], ["--stored-labels"]):
        assert main(["predict", str(tmp_path / "run"), *images, "--out", str(tmp_path / "out"), *stored]) == 0
        for image in images:
            predicted = np.asarray(Image.open(tmp_path / "out" / f"{Path(image).stem}.png"))
            assert (predicted[:3] == 255).all()  # and in the prediction
            assert (predicted[3:] < 2).all()


def test_images_of_other_channels_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    tifffile.imwrite(tmp_path / "images" / "7.tif", np.zeros((24, 24, 5), np.uint16), photometric="rgb")
    with pytest.raises(LabelError, match=r"7\.tif.*wrong number of channels.*it has 5.*red, green, blue, band 4"):
        segkit.run(config(tmp_path))


def test_images_of_several_files_are_predicted_as_they_were_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rasterio = pytest.importorskip("rasterio")
    write(tmp_path, "u1", 3)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)}
    for number in range(12):
        pixels = tifffile.imread(tmp_path / "images" / f"{number}.tif")
        for folder in ["train"] if number < 8 else ["val", "new"]:  # new scenes are in no split
            for band, colour in enumerate(("red", "green", "blue")):
                (tmp_path / folder / colour).mkdir(parents=True, exist_ok=True)
                target = tmp_path / folder / colour / f"{colour}_{number}.tif"
                with rasterio.open(target, "w", "GTiff", 24, 24, 1, dtype="uint8", **place) as file:
                    file.write(pixels[..., band], 1)
    images = [f"{{split}}/{colour}/{colour}_{{id}}.tif" for colour in ("red", "green", "blue")]
    given = {"name": "folder", "root": str(tmp_path), "classes": ["ground", "object"], "images": images}
    result = segkit.run(config(tmp_path, dataset={**given, "masks": "masks/{id}.png"}, train={"epochs": 1}))
    run, out, new = (str(tmp_path / name) for name in ("run", "out", "new"))
    compare = ["--compare-with", str(tmp_path / "masks"), "--metrics"]

    def predict(*options: str) -> tuple[int, Any]:
        capsys.readouterr()
        status = main(["predict", run, *options, "--out", out, "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, told = predict(new, *compare)
    assert (status, told["images"]) == (0, 4)
    assert {**result.splits["val"], **told["scores"]} == result.splits["val"]
    endings = (".png", ".tif", "_overlay.jpg", "_error.png")
    assert {path.name for path in Path(out).iterdir()} == {f"{n}{end}" for n in range(8, 12) for end in endings}
    with rasterio.open(Path(out) / "8.tif") as written:
        assert (written.crs, written.transform) == (place["crs"], place["transform"])
    for mask in (tmp_path / "masks").iterdir():
        mask.rename(mask.with_name(f"gt_{mask.name}"))
    assert predict(new, *compare, "--mask-suffix", "gt_{id}")[1]["scores"] == told["scores"]
    assert predict(str(tmp_path))[1]["images"] == 12  # with folders of splits
    assert "larger than the limit of 100 pixels" in predict(new, "--max-pixels", "100")[1]["failed"].popitem()[1]

    model, paths = segkit.load(run), [f"{new}/{colour}/{colour}_8.tif" for colour in ("red", "green", "blue")]
    labels = np.asarray(Image.open(Path(out) / "8.png"))
    np.testing.assert_array_equal(model.predict(" | ".join(paths)), labels)
    np.testing.assert_array_equal(model.predict(tmp_path / "images/8.tif"), labels)  # all channels in one file
    with pytest.raises(
        DataError, match=r"red_8\.tif: a grey image, but an image of this run has band 1, band 2, band 3; "
    ):
        model.predict(paths)  # three images, each of one channel

    Path(paths[1]).unlink()
    (Path(new) / "red/red_9.tif").unlink()
    status, told = predict(new)
    assert (status, told["images"]) == (1, 4)
    assert [reason.partition(":")[0] for reason in told["failed"].values()] == [paths[1], f"{new}/red/red_9.tif"]
    assert "a grey image, but" in predict(f"{new}/red/red_8.tif")[1]["failed"].popitem()[1]
    with pytest.raises(
        DataError, match=r"no file is called .*/new/red/red_\{id\}\.png; .*red holds no folders and 3 \.tif"
    ):
        list_images([new], pattern=[image.replace("tif", "png") for image in images])
