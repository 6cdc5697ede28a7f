"""The command ``check`` and the scan at the start of a run, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit import registry
from segkit.cli import main
from segkit.registry import Component

CONFIG = """
[dataset]
name = "folder"
root = "ROOT"
classes = ["background", "left", "right", "nowhere"]
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


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            labels = np.zeros((30, 40), np.uint8)
            labels[5:20, 2:16], labels[5:20, 22:26] = 1, 2
            picture = np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((5, 5, 1))).astype(np.uint8)
            for folder, pixels in (("images", picture), ("masks", labels)):
                (tmp_path / "data" / folder / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / "data" / folder / split / f"{split}{index}.png")
    path = tmp_path / "mine.toml"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    return path


def test_it_prints_shares_weights_floors_and_sizes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("folder: 6 images and masks in ")
    row = next(line for line in lines if line.strip().startswith("right"))
    assert row.split() == ["right", "5.00%", "4", "5.00%", "2", "3.50"]
    row = next(line for line in lines if line.strip().startswith("nowhere"))
    assert row.split() == ["nowhere", "0.00%", "0", "0.00%", "0", "-"]
    assert any(line.split() == ["floor", "pixel_accuracy", "0.775", "0.775"] for line in lines)
    assert "train: 4 images of 40 x 30 pixels, the floor is 'background' everywhere" in lines
    assert "warning: train: 1 of 4 classes in no image; no network can learn these: nowhere" in lines
    assert lines[-1] == "no errors, 2 warnings"


def test_void_is_counted_in_the_images_that_hold_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = config.parent / "data" / "masks" / "train" / "train1.png"
    labels = np.asarray(Image.open(mask)).copy()
    labels[:6] = 255
    Image.fromarray(labels).save(mask)
    assert main(["check", str(config)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("void"))
    assert row.split() == ["void,", "of", "all", "pixels", "5.00%", "1", "0.00%", "0"]
    assert main(["check", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["splits"]
    assert [(each["void"], each["void_images"]) for each in found.values()] == [(240, 1), (0, 0)]


def test_errors_are_all_told_and_give_a_status(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = config.parent / "data" / "masks"
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(masks / "train" / "train1.png")
    (masks / "val" / "val0.png").write_bytes(b"")
    assert main(["check", str(config)]) == 2
    out = capsys.readouterr().out
    assert f"error: train: {masks}/train/train1.png: labels that are not allowed (9: 1,200 pixels)" in out
    assert f"error: val: {masks}/val/val0.png: the file is empty" in out
    assert out.splitlines()[-2:] == [
        "2 errors, no warnings",
        '--json names every file; data.on_bad = "skip" continues without the files that cannot be used',
    ]


def test_the_table_of_labels_that_are_misread_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mask in (config.parent / "data" / "masks").rglob("*.png"):
        with Image.open(mask) as labels:
            picture = labels.convert("P")
        black, red, green = [0, 0, 0], [255, 0, 0], [0, 255, 0]
        picture.putpalette([*black, *red, *green] if mask.stem != "val0" else [*black, *green, *red])
        picture.save(mask)
    assert main(["check", str(config)]) == 2
    out = capsys.readouterr().out
    assert "These are the labels as they were read; an error below explains why they are wrong." in out
    assert "error: train, val: " in out
    assert out.splitlines()[-1] == "1 error, no warnings"  # no warning that follows from it


def test_json_holds_everything(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = config.parent / "data" / "masks" / "train" / "train1.png"
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(mask)
    assert main(["check", str(config), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["train"]["images"] == 3
    assert found["splits"]["val"]["classes"]["right"] == {"pixels": 120, "share": 0.05, "images": 2}
    assert found["splits"]["val"]["floor"]["class"] == "background"
    assert found["median_frequency"]["left"] == pytest.approx(1)
    (error,) = found["errors"]
    assert (error["kind"], error["split"], error["files"]) == ("values", "train", [str(mask)])


def test_pictures_are_written_for_every_split(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config), "--pictures", "looks/here"]) == 0
    for split in ("train", "val"):
        with Image.open(f"looks/here/{split}.png") as sheet:
            assert sheet.width > 300
    assert "looks/here/train.png" in capsys.readouterr().err


def test_json_is_json_where_the_data_is_not_there_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config), "--json", "dataset.root=nowhere"]) == 2
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert "nowhere" in error["text"]


def test_without_a_usable_image_there_are_no_pictures(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mask in (config.parent / "data" / "masks").rglob("*.png"):
        mask.write_bytes(b"")
    assert main(["check", str(config), "--pictures", "looks"]) == 2
    out = capsys.readouterr()
    assert "train: no image that can be used" in out.out
    assert "no pictures of train: " in out.err


def test_pictures_of_a_person_s_own_are_not_overwritten(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save("mine/train.png")
    assert main(["check", str(config), "--pictures", "mine"]) == 2
    assert "mine holds files that segkit has not written: mine/train.png" in capsys.readouterr().err
    with Image.open("mine/train.png") as kept:
        assert kept.size == (2, 2)
    assert main(["check", str(config), "--pictures", str(config / "below")]) == 2
    assert "--pictures: " in capsys.readouterr().err
    for _ in range(2):
        assert main(["check", str(config), "--pictures", "looks"]) == 0


def test_a_run_refuses_what_check_refuses_and_writes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "data" / "masks" / "val" / "val0.png").write_bytes(b"")
    assert main(["run", str(config)]) == 2
    assert "segkit: val: " in capsys.readouterr().err
    assert not (config.parent / "runs").exists()


def test_a_run_keeps_its_warnings_and_what_was_skipped(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "data" / "images" / "train" / "train3.png").write_bytes(b"")
    assert main(["run", str(config), "data.on_bad=skip"]) == 0
    out = capsys.readouterr()
    assert "images: 3 train, 2 val" in out.out
    record = json.loads(Path("runs/mine/run.json").read_text())
    kinds = [finding["kind"] for finding in record["warnings"]]
    assert kinds == ["empty", "absent_class", "absent_class"]
    assert record["warnings"][0]["files"][0].endswith("train3.png")
    assert out.err.count("warning: ") == 3


def test_a_check_that_cannot_be_loaded_stops_a_run(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Component("check", "own", "no_such_module:Own", "mine", "mine", "1.0")
    real = type(registry.checks).components
    monkeypatch.setattr(
        type(registry.checks), "components", lambda self: [lost] if self.kind == "check" else real(self)
    )
    for command in ("run", "check"):
        assert main([command, str(config)]) == 2
        assert "check 'own' of plugin 'mine' (mine 1.0) cannot be imported" in capsys.readouterr().err
    assert not (config.parent / "runs").exists()


def test_augmented_crops_are_drawn_with_the_pictures(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(config), "--augmented"]) == 2
    assert "add --pictures DIR to say where" in capsys.readouterr().err
    asked = ["check", str(config), "--pictures", str(tmp_path / "sheets"), "--augmented", "augment.crop=16"]
    assert main(asked) == 0
    first = (tmp_path / "sheets" / "train_augmented.png").read_bytes()
    assert main(asked) == 0  # our own is replaced
    assert (tmp_path / "sheets" / "train_augmented.png").read_bytes() == first
    assert main([*asked, "augment.colour=0.5"]) == 0
    assert (tmp_path / "sheets" / "train_augmented.png").read_bytes() != first
    (config.parent / "data" / "masks" / "val" / "val0.png").write_bytes(b"")
    (tmp_path / "sheets" / "train_augmented.png").unlink()
    assert main(asked) == 2
    assert "no pictures of augmented crops: the errors that were found stop a run" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"train.png", "val.png"}


def test_it_says_what_a_run_would_take_or_why_none_can_begin(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config), "--forecast"]) == 0
    assert "\nexpected: about " in capsys.readouterr().out
    assert not (config.parent / "runs").exists()
    settings = ("train.batch_size=1", "augment.crop=8", "model.depth=3")
    assert main(["check", str(config), "--forecast", *settings]) == 2
    assert "batch normalisation needs a larger train.batch_size" in capsys.readouterr().err
