"""The observer for TensorBoard: what it writes is read back as TensorBoard reads it; without it nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import segkit
import segkit_tensorboard
from segkit.errors import RunFolderError


def run(folder: Path, epochs: int = 2, **options: Any) -> Any:
    config = {
        "dataset": {"name": "shapes", "size": 32, "images": [4, 2, 2]},
        "model": {"name": "unet", "width": 2, "depth": 1},
        "loss": [{"name": "cross_entropy"}, {"name": "dice"}],
        "train": {"epochs": epochs, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
        "output": {"dir": str(folder), "samples": 1},
    }
    return segkit.run(config, **options)


def read(folder: Path) -> Any:
    """All that TensorBoard would show of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def points(found: Any, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in found.Scalars(tag)}


def test_the_figures_of_every_epoch_are_there_beside_their_floors(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = run(tmp_path)
    found = read(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for epoch, line in enumerate(lines, 1):
        train, val = line["train"], line["val"]
        expected = {
            "loss/train": train["loss"],
            "loss/train_dice": train["losses"]["dice"],
            "loss/val": val["loss"],
            "loss/val_cross_entropy": val["losses"]["cross_entropy"],
            "mean_iou/val": val["mean_iou"],
            "mean_iou/floor": val["floor"]["mean_iou"],
            "pixel_accuracy/floor": val["floor"]["pixel_accuracy"],
            "class_iou/background": val["class_iou"]["background"],
            "train/lr": train["lr"],
            "train/images_per_second": train["images_per_second"],
        }
        assert {tag: points(found, tag)[epoch] for tag in expected} == pytest.approx(expected, rel=1e-6)
    absent = [name for name, value in lines[0]["val"]["class_iou"].items() if value is None]
    assert absent
    assert not [name for name in absent if f"class_iou/{name}" in found.Tags()["scalars"]]
    assert b"mean_iou/floor" in found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert [picture.step for picture in found.Images("samples/val")] == [1, 2]
    assert [picture.step for picture in found.Images("samples/best")] == [result.best_epoch]
    assert found.Images("samples/val")[0].height > 32


@pytest.mark.slow
def test_a_resumed_run_goes_on_and_hides_what_it_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path, epochs=2)
    for name in ("last.pt", "best.pt"):  # as if the second epoch had been lost after it was told
        (tmp_path / name).unlink()
    (first,) = (tmp_path / "tensorboard").iterdir()
    second = first.name.split(".")[3]  # by which files are ordered; two of one second may lie either way
    first.rename(first.with_name(first.name.replace(second, str(int(second) - 10))))
    run(tmp_path, epochs=3, resume=True)
    found = read(tmp_path)
    assert [event.step for event in found.Scalars("mean_iou/val")] == [1, 2, 3]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert points(found, "train/images_per_second")[2] == pytest.approx(lines[1]["train"]["images_per_second"])


@pytest.mark.slow
def test_a_run_that_is_replaced_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path, epochs=3)
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    run(tmp_path, epochs=1, overwrite=True)
    assert list(points(read(tmp_path), "mean_iou/val")) == [1]
    monkeypatch.setenv("SEGKIT_TENSORBOARD", "0")
    run(tmp_path, epochs=1, overwrite=True)
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["notes.txt"]


def test_without_tensorboard_a_run_neither_writes_nor_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segkit_tensorboard, "find_spec", lambda name: None)
    run(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert "tensorboard" not in capsys.readouterr().err


def test_a_tensorboard_that_cannot_be_imported_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segkit_tensorboard, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delitem(sys.modules, "segkit_tensorboard.writer", raising=False)  # of a test before
    assert run(tmp_path).best_epoch
    told = [line for line in capsys.readouterr().err.splitlines() if "tensorboard" in line]
    assert len(told) == 1
    assert "plugin 'tensorboard' (segkit " in told[0]
    assert "failed in segkit_run_started: ModuleNotFoundError: " in told[0]


def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "events.out.tfevents.1").write_bytes(b"mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(elsewhere)
    with pytest.raises(RunFolderError, match="tensorboard is a link"):
        run(tmp_path / "run", epochs=1)
    assert [path.name for path in elsewhere.iterdir()] == ["events.out.tfevents.1"]
