"""The animation of a run: a frame for each epoch, under its score beside its floor, and a size that can be sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

import segkit
import segkit_samples
from segkit import plugins
from segkit_samples import animation


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The observer listens, and it alone, whether it is installed or not."""

    samples = plugins.load_plugin(plugins.Plugin("samples", "segkit", "0", "segkit_samples"), lambda: segkit_samples)
    listed = [*(replace(each, events={}) for each in plugins.installed()), samples]
    monkeypatch.setattr(plugins, "installed", lambda: listed)
    monkeypatch.setenv("SEGKIT_STRICT", "1")
    return listed


def run(folder: Path, epochs: int, samples: int = 1, dataset: Any = None, **options: Any) -> Any:
    config = {
        "dataset": dataset or {"name": "shapes", "size": 32, "images": [4, 2, 2]},
        "model": {"name": "unet", "width": 2, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
        "train": {"epochs": epochs, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
        "output": {"dir": str(folder), "samples": samples},
    }
    return segkit.run(config, **options)


def frames(folder: Path) -> list[Any]:
    with Image.open(folder / "samples.gif") as picture:
        return [(frame.info["duration"], frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]


def test_a_frame_an_epoch_those_before_a_resumption_too(told: Any, tmp_path: Path) -> None:
    run(tmp_path, 2)
    first = frames(tmp_path)
    assert [duration for duration, _ in first] == [700, 3000]
    run(tmp_path, 3, resume=True)
    assert [duration for duration, _ in frames(tmp_path)] == [700, 700, 3000]
    with Image.open(tmp_path / "samples" / "epoch_0003.png") as sheet:
        drawn = frames(tmp_path)[2][1]
        height = sheet.height * 720 / sheet.width
        assert (drawn.width, drawn.height) == (720, pytest.approx(height + 26, abs=1))
        expected = np.asarray(sheet.convert("RGB").resize((720, round(height)), Image.Resampling.BOX), np.int64)
    apart = np.abs(np.asarray(drawn, np.int64)[26:] - expected)
    assert apart.mean() < 5  # colours are rounded to 255 of them, and what did not change is kept
    assert not list(tmp_path.glob(".*.tmp"))


def test_pictures_of_each_epoch_of_the_best_and_of_the_hardest_and_easiest_images(told: Any, tmp_path: Path) -> None:
    run(tmp_path, 2, samples=3, dataset={"name": "shapes", "size": 32, "images": [4, 2, 4]})
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    extremes = {f"{name}_{number}.png" for name in ("easiest", "hardest") for number in (1, 2)}  # of 4 images
    assert names == {"epoch_0001.png", "epoch_0002.png", "best.png", *extremes}
    with Image.open(tmp_path / "samples" / "hardest_1.png") as picture:
        assert picture.width > picture.height > 1


def test_a_prediction_of_an_observer_is_what_the_loaded_model_predicts(told: Any, tmp_path: Path) -> None:
    seen = []
    ear = ModuleType("ear")
    ear.segkit_run_ended = segkit.hookimpl(lambda run: seen.append(run))  # type: ignore[attr-defined]
    told.append(plugins.load_plugin(plugins.Plugin("ear", "somebody", "0", "ear"), lambda: ear))
    run(tmp_path, 1)
    (observed,) = seen
    image = observed.splits["test"][1].image.permute(1, 2, 0).numpy()
    assert np.array_equal(observed.predict("test", 1), segkit.load(tmp_path, device="cpu").predict(image))


@pytest.mark.fault("F02")
def test_a_picture_that_cannot_be_written_costs_nothing_else(
    told: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are the least that a run keeps."""
    monkeypatch.delenv("SEGKIT_STRICT")
    (tmp_path / "samples").write_text("in the way")
    assert run(tmp_path, 2).best_epoch
    assert "failed in segkit_epoch_ended: FileExistsError" in capsys.readouterr().err
    assert (tmp_path / "samples").read_text() == "in the way"


def test_without_pictures_there_is_none_and_that_of_another_run_goes(told: Any, tmp_path: Path) -> None:
    run(tmp_path, 1)
    assert (tmp_path / "samples.gif").exists()
    run(tmp_path, 1, samples=0, overwrite=True)
    assert not (tmp_path / "samples.gif").exists()


def write(folder: Path, epochs: int, width: int = 60) -> None:
    """What a run leaves, with noise for pictures, which no compression makes smaller; that of epoch 2 is not there."""
    (folder / "samples").mkdir()
    scores = [None, *(0.25 + epoch / 1000 for epoch in range(2, epochs + 1))]
    lines = [
        {"epoch": epoch, "val": {"mean_iou": score, "floor": {"mean_iou": 0.1514}}}
        for epoch, score in enumerate(scores, 1)
    ]
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for epoch in {*range(1, epochs + 1)} - {2}:
        noise = np.random.default_rng(epoch).integers(0, 255, (40, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / "samples" / f"epoch_{epoch:04d}.png")


def test_a_sheet_of_fewer_images_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 3)
    Image.new("RGB", (60, 20), "black").save(tmp_path / "samples" / "epoch_0003.png")
    animation.write(tmp_path)
    drawn = [np.asarray(frame) for _, frame in frames(tmp_path)]
    assert len({frame.shape for frame in drawn}) == 1
    assert (drawn[-1][-20:] > 250).all()
    assert (drawn[0][-20:] < 200).any()


def test_a_title_says_the_epoch_and_its_score_beside_its_floor(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = animation.found(tmp_path)
    assert [path.name for path, _ in found] == ["epoch_0001.png", "epoch_0003.png"]
    assert [title for _, title in found] == [
        "epoch 1 of 3: mean IoU on val -, its floor 0.151",
        "epoch 3 of 3: mean IoU on val 0.253, its floor 0.151",
    ]


@pytest.mark.parametrize("epochs", [1, 2, 59, 60, 61, 100, 500])
def test_at_most_sixty_frames_evenly_with_the_first_and_the_last(epochs: int) -> None:
    frames = [(Path(f"{epoch}"), "") for epoch in range(1, epochs + 1)]
    kept = [int(path.name) for path, _ in animation.chosen(frames)]
    assert (len(kept), kept[0], kept[-1]) == (min(epochs, 60), 1, epochs)
    steps = np.diff(kept)
    assert epochs == 1 or steps.max() - steps.min() <= 1


def test_a_wide_picture_is_made_narrower(tmp_path: Path) -> None:
    write(tmp_path, 6, width=1000)
    animation.write(tmp_path)
    assert frames(tmp_path)[0][1].width == animation.WIDTH
