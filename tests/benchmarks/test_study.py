"""Studies: what is finished is not run again, what was stopped goes on, and the table is that of the runs."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import segkit
from segkit.config import read_config
from segkit.errors import ConfigError, SegkitError

FOLDER = Path(__file__).parents[2] / "benchmarks"
CONFIG = """
[dataset]
name = "shapes"
size = 32
images = [4, 2, 2]
[model]
name = "unet"
width = 2
depth = 1
[[loss]]
name = "cross_entropy"
[train]
epochs = 2
batch_size = 2
device = "cpu"
precision = "fp32"
workers = 0
[output]
samples = 0
"""
STUDY = """
seeds = [0, 1]
[variants]
"plain" = []
"with Dice" = ["loss.1.name=dice", "train.lr=0.01"]
"""


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("study")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(CONFIG)
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path


def run(study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    monkeypatch.setattr(
        sys,
        "argv",
        ["study.py", *map(str, (place / "mine.toml", place / "base.toml", "--folder", place / "runs")), *more],
    )
    study.main()


@pytest.mark.slow
def test_every_variant_with_every_seed_once(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(study, place, monkeypatch)
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in (place / "runs" / "results.jsonl").read_text().splitlines()]
    assert [(line["variant"], line["seed"]) for line in lines] == [
        *(("plain", 0), ("plain", 1)),
        *(("with Dice", 0), ("with Dice", 1)),
    ]
    found = [line["scores"]["test"]["mean_iou"] for line in lines[2:]]
    cells = printed.splitlines()[-1].split(" | ")
    assert cells[0] == "| with Dice"
    assert cells[1] == f"{sum(found) / 2:.3f} ± {abs(found[0] - found[1]) / 2**0.5:.3f}"
    config = json.loads((place / "runs" / "with-dice-1" / "run.json").read_text())["config"]
    assert [loss["name"] for loss in config["loss"]] == ["cross_entropy", "dice"]
    assert (config["train"]["seed"], config["train"]["lr"]) == (1, 0.01)
    assert lines[3]["command"].endswith(f"train.seed=1 output.dir={place / 'runs' / 'with-dice-1'}")
    monkeypatch.setattr(segkit, "run", None)  # nothing is left to run
    run(study, place, monkeypatch)
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]


def test_what_was_stopped_goes_on_and_what_is_of_another_config_is_left_alone(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[bool, bool]] = []
    train = segkit.run

    def noted(config: Path, overrides: Any, *, resume: bool, overwrite: bool) -> Any:
        calls.append((resume, overwrite))
        return train(config, overrides, resume=resume, overwrite=overwrite)

    monkeypatch.setattr(segkit, "run", noted)
    only = ["--variants", "plain", "--seeds", "0"]
    run(study, place, monkeypatch, *only)
    (place / "runs" / "plain-0" / "result.json").unlink()
    run(study, place, monkeypatch, *only)
    with pytest.raises(SegkitError, match=r"1 of 1 runs broke off: .*plain-0 holds a run of another config; give ano"):
        run(study, place, monkeypatch, "train.lr=0.02", *only)
    assert calls == [(False, True), (True, False)]
    assert (place / "runs" / "plain-0" / "result.json").exists()


def test_a_variant_stands_above_overrides_and_lines_of_earlier_calls_are_kept(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in ("1", "0"):
        run(study, place, monkeypatch, "train.lr=0.02", "--variants", "with Dice", "--seeds", seed)
    lines = [json.loads(line) for line in (place / "runs" / "results.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [1, 0]
    assert json.loads((place / "runs" / "with-dice-0" / "run.json").read_text())["config"]["train"]["lr"] == 0.01


def test_one_that_breaks_off_leaves_the_others_and_the_table(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "mine.toml").write_text('seeds = [0]\n[variants]\n"broken" = ["train.device=cuda:9"]\n"plain" = []\n')
    with pytest.raises(SegkitError, match=r"1 of 2 runs broke off: broken, seed 0: .*cuda:9"):
        run(study, place, monkeypatch)
    assert capsys.readouterr().out.splitlines()[-1].startswith("| plain | ")


def test_a_variant_that_is_none_is_named(study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="has no variant 'focal'; there are 'plain', 'with Dice'"):
        run(study, place, monkeypatch, "--variants", "plain", "focal")
    with pytest.raises(ConfigError, match=r"has no variant 'plian'; did you mean 'plain'\?"):
        run(study, place, monkeypatch, "--variants", "plian")


def test_a_mistake_is_told_once_before_anything_is_trained(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"train\.epoch: \[train\] has no such key; did you mean 'epochs'"):
        run(study, place, monkeypatch, "train.epoch=1")
    (place / "mine.toml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="is no study, which has seeds and"):
        run(study, place, monkeypatch)
    (place / "mine.toml").unlink()
    with pytest.raises(ConfigError, match=r"the study .*mine\.toml cannot be read"):
        run(study, place, monkeypatch)
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("name", "config", "variants"),
    [
        ("imbalance", "benchmarks/studies/shapes.toml", 10),
        ("imbalance", "benchmarks/studies/voc.toml", 10),
        ("camvid", "examples/camvid.toml", 15),
        ("precision", "examples/gta5.toml", 3),
        ("transfer", "benchmarks/studies/camvid-half.toml", 2),
    ],
)
def test_the_studies_that_are_here_are_valid(study: ModuleType, name: str, config: str, variants: int) -> None:
    found = study.trials(FOLDER / "studies" / f"{name}.toml", FOLDER.parent / config, Path("runs"))
    assert len({trial.folder for trial in found}) == len(found) == 3 * variants
    for trial in found:
        read_config(trial.config, trial.overrides)


@pytest.mark.slow
def test_several_at_a_time_give_what_they_give_one_by_one(
    study: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (place / "mine.toml").write_text(
        STUDY + '"broken" = ["train.batch_size=3", "dataset.images=[2, 2, 2]", "train.device=cuda:9"]\n'
    )
    with pytest.raises(
        study.SegkitError, match=r"2 of 6 runs broke off: broken, seed . broke off; .*broken-.\.log says why"
    ):
        run(study, place, monkeypatch, "--jobs", "2")
    assert "broken" in capsys.readouterr().out
    assert "cuda:9" in (place / "runs" / "broken-0.log").read_text()
    lines = [json.loads(line) for line in (place / "runs" / "results.jsonl").read_text().splitlines()]
    assert [(line["variant"], line["seed"]) for line in lines] == [
        *(("plain", 0), ("plain", 1)),
        *(("with Dice", 0), ("with Dice", 1)),
    ]
    alone = segkit.run(place / "base.toml", ["train.seed=1", f"output.dir={place / 'alone'}"])
    assert lines[1]["scores"]["test"]["mean_iou"] == pytest.approx(alone.splits["test"]["mean_iou"], abs=1e-6)
