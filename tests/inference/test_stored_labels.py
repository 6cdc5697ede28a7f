"""Predictions in the labels that the masks of the run store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from segkit import fit, load
from segkit.cli import main
from segkit.errors import ConfigError
from segkit.inference.predictor import Predictor
from segkit_folder.files import PairedFiles
from segkit_folder.masks import read_mask
from segkit_predict.writer import stored_values

Write = Callable[..., None]


def predicted(run: Path, picture: Path, out: Path, *options: str) -> int:
    return main(["predict", str(run), str(picture), "--out", str(out), "--device", "cpu", *options])


@pytest.mark.parametrize(
    ("stored", "mode"),
    [([[0], [7], [24]], "P"), ([[0], [7], [40_000]], "I;16"), ([[[0, 0, 0]], [[255, 0, 0]], [[9, 8, 7]]], "RGB")],
)
def test_masks_hold_what_the_run_s_own_store(
    run_folder: Path, write_config: Write, picture: Path, labels: Any, tmp_path: Path, stored: Any, mode: str
) -> None:
    write_config(run_folder, stored=stored)
    for _ in range(2):  # the second time it replaces its own
        assert predicted(run_folder, picture, tmp_path / "out", "--stored-labels") == 0
    with Image.open(tmp_path / "out" / "street.png") as mask:
        assert mask.mode == mode
    if mode == "RGB":
        read = read_mask(tmp_path / "out" / "street.png", {tuple(each[0]): index for index, each in enumerate(stored)})
        np.testing.assert_array_equal(read, labels)
    else:
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / "street.png"), np.ravel(stored)[labels])
    assert predicted(run_folder, picture, tmp_path / "plain") == 0
    np.testing.assert_array_equal(read_mask(tmp_path / "plain" / "street.png"), labels)


def test_they_keep_the_colours_of_the_classes(
    run_folder: Path, write_config: Write, picture: Path, labels: Any, tmp_path: Path
) -> None:
    write_config(run_folder, stored=[[0], [7], [24]])
    predicted(run_folder, picture, tmp_path / "out", "--stored-labels")
    with Image.open(tmp_path / "out" / "street.png") as mask:
        shown = np.asarray(mask.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)[labels])


def test_what_is_written_is_told(
    run_folder: Path, write_config: Write, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(run_folder, stored=[[0], [7, 8], [24]])
    assert predicted(run_folder, picture, tmp_path / "out", "--stored-labels") == 0
    printed = capsys.readouterr().out
    assert "stored in the masks: 0 dark, 7 red, 24 blue" in printed
    assert predicted(run_folder, picture, tmp_path / "out", "--stored-labels", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stored_labels"] == {"dark": 0, "red": 7, "blue": 24}


def test_a_run_that_does_not_know_them_is_refused_before_anything_is_written(
    run_folder: Path, write_config: Write, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predicted(run_folder, picture, tmp_path / "out", "--stored-labels") == 2
    assert "config.json does not say which labels the run's masks store" in capsys.readouterr().err
    write_config(run_folder, stored=[[0], [7]])
    assert predicted(run_folder, picture, tmp_path / "out") == 2
    assert "is damaged: num_classes, classes, palette and stored differ in length" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for stored, message in (([[0], [-1]], "'b' is stored as -1, which a PNG"), ([[0], []], "'b' has no label")):
        with pytest.raises(ConfigError, match=message):
            stored_values(Predictor(nn.Identity(), classes=["a", "b"], palette=(), stored=stored))


def test_a_run_keeps_the_labels_of_its_dataset(tmp_path: Path) -> None:
    import torch

    from segkit.model.unet import UNet
    from segkit.registry import losses

    pairs = []
    random = np.random.default_rng(0)
    for number in range(4):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(image)
        Image.fromarray(random.choice([7, 11, 255], (16, 16)).astype(np.uint8)).save(mask)
        pairs.append((image, mask))

    def split(chosen: list[tuple[Path, Path]]) -> PairedFiles:
        return PairedFiles(chosen, classes=["a", "b"], palette=[(0, 0, 0), (1, 2, 3)], values={7: 0, 11: 1, 255: 255})

    torch.manual_seed(0)
    model = UNet(2, width=4, depth=1)
    loss = losses["cross_entropy"](num_classes=2, ignore_index=255)
    fit(model=model, loss=loss, train=split(pairs[:2]), val=split(pairs[2:]), output=tmp_path / "run", epochs=1,
        batch_size=2, device="cpu", precision="fp32", samples=0)  # fmt: skip
    predictor = load(tmp_path / "run", model=UNet(2, width=4, depth=1), device="cpu")
    assert stored_values(predictor) == {"a": 7, "b": 11}
