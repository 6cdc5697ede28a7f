"""The command as a person meets it: a run, its masks, its figures again, and what goes wrong in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segkit
from segkit.cli import main
from segkit.data.read import read_header
from segkit.engine import checkpoint

CONFIG = """
[dataset]
name = "folder"
root = "ROOT"
classes = ["background", "first", "second"]

[model]
name = "unet"
width = 4
depth = 2

[[loss]]
name = "cross_entropy"
class_weights = "inverse"

[[loss]]
name = "dice"

[[metric]]
name = "mean_accuracy"

[augment]
crop = 32

[train]
epochs = 3
batch_size = 2
device = "cpu"
precision = "fp32"
ema = 0.9

[output]
samples = 1
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    segkit.datasets["folder"].write_sample(tmp_path / "data")
    path = tmp_path / "mine.toml"
    path.write_text(CONFIG.replace("ROOT", str(tmp_path / "data")))
    return path


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    """The message of a command that must fail in one or more lines without a traceback, writing no run folder."""
    assert main(arguments) == status
    message = capsys.readouterr().err
    assert message.startswith("segkit: ")
    assert "Traceback" not in message
    assert not Path("runs").exists()
    return message


def test_a_run_is_trained_predicted_with_and_scored_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(config)]) == 0
    folder = tmp_path / "runs" / "mine"
    result = json.loads((folder / "result.json").read_text())
    printed = capsys.readouterr().out
    assert "floor" in printed
    assert "mean_accuracy" in printed

    assert main(["evaluate", str(folder), "--split", "test", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["splits"]
    assert again == {"test": result["splits"]["test"]}  # to the last digit

    image = next((tmp_path / "data" / "images" / "test").iterdir())
    assert main(["predict", str(folder), str(image), "--out", str(tmp_path / "masks")]) == 0
    with Image.open(tmp_path / "masks" / f"{image.stem}.png") as mask:
        assert mask.mode == "P"
        assert np.asarray(mask).shape == read_header(image).size
        assert np.asarray(mask).max() <= 2

    run = json.loads((folder / "run.json").read_text())
    assert run["config"]["train"]["batch_size"] == 2
    assert run["config"]["train"]["schedule"] == "poly"  # defaults are written out
    assert run["components"]["loss"] == [
        f"loss '{n}' of plugin 'losses' (segkit 0.1.0)" for n in ("cross_entropy", "dice")
    ]
    assert len(run["class_weights"][0]) == 3
    assert run["class_weights"][1] is None
    assert run["packages"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_by_accident(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(config), "train.epochs=1"]) == 0
    capsys.readouterr()
    assert main(["run", str(config)]) == 2
    assert "holds a finished run; --resume continues it, --overwrite replaces it" in capsys.readouterr().err
    assert main(["run", str(config), "train.epochs=1", "--overwrite"]) == 0
    assert main(["run", str(config), "train.epochs=2", "--resume"]) == 0
    assert "resumed after epoch 1 of 2" in capsys.readouterr().out


@pytest.mark.fault("F40")
def test_an_unknown_key_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(["run", str(config), "train.epoch=3"], capsys)
    assert "train.epoch: [train] has no such key; did you mean 'epochs'?" in message


def test_a_missing_folder_is_named(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(["run", str(config), f"dataset.root={tmp_path / 'nowhere'}"], capsys)
    assert str(tmp_path / "nowhere") in message


@pytest.mark.fault("F23")
def test_a_jpeg_mask_is_named_whatever_its_suffix(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = sorted((tmp_path / "data" / "masks" / "train").iterdir())[0]
    pixels = Image.fromarray(np.asarray(Image.open(mask)))
    pixels.save(mask, format="JPEG")
    message = fails(["run", str(config)], capsys)
    assert str(mask) in message
    assert "JPEG" in message
    assert "PNG" in message


@pytest.mark.fault("F21")
def test_labels_out_of_range_are_told_for_every_file(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = sorted((tmp_path / "data" / "masks" / "val").iterdir())
    for mask in masks:
        labels = np.array(Image.open(mask))
        labels[0, :5] = 200
        Image.fromarray(labels).save(mask)
    message = fails(["run", str(config)], capsys)
    assert f"val: {len(masks)} files: labels that are not allowed, 200 ({5 * len(masks)} pixels" in message
    assert f": {masks[0]}, {masks[1]}" in message


@pytest.mark.fault("F39")
def test_without_a_network_a_download_is_told_in_full(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unet, smp = 'name = "unet"\nwidth = 4\ndepth = 2', 'name = "smp"\nweights = "imagenet"'
    config.write_text(config.read_text().replace(unet, smp))
    message = fails(["run", str(config)], capsys)
    assert "resnet34" in message
    assert "weights" in message


def test_a_folder_that_cannot_be_used_is_told_before_data_is_read(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    message = fails(["run", str(config), f"output.dir={tmp_path / 'file'}", "dataset.root=nowhere"], capsys)
    assert "is not a folder; choose another output.dir" in message
    message = fails(["run", str(config), "--resume", "dataset.root=nowhere"], capsys)
    assert "nothing to resume" in message


def test_what_is_no_run_is_told(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["evaluate", "data"], ["predict", "data", "data/images/test", "--out", "out"]):
        assert str(Path("data")) in fails(command, capsys)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def start(config: Path, heeds_signals: Callable[[], None]) -> Iterator[Start]:
    processes = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "segkit", "run", str(config), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=heeds_signals,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        with process:  # closes its pipes
            pass


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None or condition(), process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_weights(start: Start, tmp_path: Path) -> None:
    folders = {name: tmp_path / "runs" / name for name in ("whole", "killed")}
    whole = start("train.epochs=30", f"output.dir={folders['whole']}")
    assert whole.wait(200) == 0
    killed = start("train.epochs=30", f"output.dir={folders['killed']}")
    until((folders["killed"] / "previous.pt").exists, killed)
    killed.kill()
    killed.wait()
    assert not (folders["killed"] / "result.json").exists()
    resumed = start("train.epochs=30", f"output.dir={folders['killed']}", "--resume")
    printed, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0
    assert "resumed after epoch" in printed
    one, two = (checkpoint.load(folder / "last.pt")["model"] for folder in folders.values())
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_ctrl_c_ends_in_one_line_that_says_how_to_go_on(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "stopped"
    process = start("train.epochs=1000", f"output.dir={folder}")
    until((folder / "previous.pt").exists, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 130
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert "--resume" in lines[0]
    assert checkpoint.load(folder / "last.pt")["step"] > 0


@pytest.mark.slow
def test_two_runs_do_not_share_a_folder(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "shared"
    first = start("train.epochs=1000", f"output.dir={folder}")
    until((folder / "last.pt").exists, first)
    second = start(f"output.dir={folder}", "--resume")
    _, error = second.communicate(timeout=200)
    assert second.returncode == 2
    assert f"{folder} is in use by process {first.pid}" in error


@pytest.mark.slow
def test_resuming_needs_no_pretrained_weights(config: Path, tmp_path: Path) -> None:
    smp = segkit.models["smp"](num_classes=3, encoder="resnet18")
    torch.save(smp.network.encoder.state_dict(), tmp_path / "encoder.pth")
    unet, other = 'name = "unet"\nwidth = 4\ndepth = 2', 'name = "smp"\nencoder = "resnet18"\nweights = "encoder.pth"'
    config.write_text(config.read_text().replace(unet, other))
    assert main(["run", str(config), "train.epochs=1"]) == 0
    (tmp_path / "encoder.pth").unlink()
    assert main(["run", str(config), "train.epochs=2", "--resume"]) == 0
    assert main(["evaluate", "runs/mine", "--split", "val"]) == 0


def test_predictions_never_replace_true_masks(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(config), "train.epochs=1"]) == 0
    masks = tmp_path / "data" / "masks" / "val"
    before = {path.name: path.read_bytes() for path in masks.iterdir()}
    assert main(["predict", "runs/mine", "data/images/val", "--out", str(masks)]) == 2
    assert "holds files that segkit has not written" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in masks.iterdir()} == before
    for _ in range(2):  # its own masks it may replace
        assert main(["predict", "runs/mine", "data/images/val", "--out", "masks"]) == 0


def test_what_is_wrong_is_told_for_every_split_at_once(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = [sorted((tmp_path / "data" / "masks" / split).iterdir())[0] for split in ("train", "test")]
    for mask in masks:
        mask.write_bytes(b"")
    message = fails(["run", str(config)], capsys)
    assert f"train, test: 2 files: the file is empty: {masks[0]}, {masks[1]}" in message


@pytest.mark.fault("F24")
def test_masks_without_a_label_are_told_before_anything_is_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mask in (tmp_path / "data" / "masks" / "val").iterdir():
        with Image.open(mask) as picture:
            void = np.full((picture.height, picture.width), 255, np.uint8)
        Image.fromarray(void).save(mask)
    assert "val: every pixel of every mask is void" in fails(["run", str(config)], capsys)


@pytest.mark.fault("F04", "F05", "F06")
@pytest.mark.parametrize(
    "damage", ["flipped", *(pytest.param(each, marks=pytest.mark.slow) for each in ("cut", "empty", "html", "bomb"))]
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_taken(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "boom"),)

    assert main(["run", str(config), "train.epochs=2", "output.samples=0"]) == 0
    last = tmp_path / "runs" / "mine" / "last.pt"
    (last.parent / "result.json").unlink()
    content = bytearray(last.read_bytes())
    contents = {"cut": content[:-500], "empty": b"", "html": b"<!DOCTYPE html><html>404</html>"}
    with zipfile.ZipFile(last) as archive:  # a byte of padding between two tensors would damage nothing
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + largest.file_size] ^= 1  # the header before the data is of some bytes
    if damage == "bomb":
        torch.save({"format": checkpoint.FORMAT, "model": Bomb()}, last)
    else:
        last.write_bytes(contents.get(damage, content))
    capsys.readouterr()
    assert main(["run", str(config), "train.epochs=2", "output.samples=0", "--resume"]) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "last.pt" in line]
    assert "previous.pt" in line
    assert "resumed after epoch 1 of 2" in printed.out
    assert not (tmp_path / "boom").exists()
    (last.parent / "result.json").unlink()
    for name in ("last.pt", "previous.pt"):
        (last.parent / name).write_bytes(b"none")
    assert main(["run", str(config), "train.epochs=3", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "last.pt is not a weights file, or is damaged" in error
    assert "Traceback" not in error
