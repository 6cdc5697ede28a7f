"""The code in CONTRIBUTING.md is a plugin of each kind: it installs, keeps the contracts and trains, as it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import segkit
import segkit.testing
from segkit.cli import main

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
COMMANDS = re.findall(r"^ +python -m segkit new-plugin (\w+) --kind (\w+)$", TEXT, re.MULTILINE)


def blocks(language: str) -> list[str]:
    found = re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", TEXT, re.MULTILINE | re.DOTALL)
    return [dedent(each[2]) for each in found]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the packages are installed: those that the commands write, with the blocks put in."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; it comes with segkit[dev]")
    written, target = tmp_path_factory.mktemp("written"), tmp_path_factory.mktemp("installed")
    for name, kind in [*COMMANDS, ("tracker", "observer")]:
        assert main(["new-plugin", name, "--kind", kind, "--output", str(written)]) == 0
    for source in blocks("python"):
        path = source.partition("\n")[0].removeprefix("# ")  # segkit_poly/loss.py, in segkit-poly
        (written / path.partition("/")[0].replace("_", "-") / path).write_text(source, "utf-8")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *map(str, written.iterdir())]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def installed(site: Any, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    shutil.copytree(packages, site.folder, dirs_exist_ok=True)
    monkeypatch.setenv("SEGKIT_STRICT", "1")
    return site


def test_there_is_an_example_of_every_kind() -> None:
    assert [kind for _, kind in COMMANDS] == ["loss", "model", "dataset", "metric"]
    first_lines = [source.partition("\n")[0] for source in blocks("python")]
    assert first_lines == [
        *(f"# segkit_{name}/{kind}.py" for name, kind in COMMANDS),
        "# segkit_tracker/__init__.py",
    ]


@pytest.mark.parametrize(("name", "kind"), COMMANDS)
def test_an_example_keeps_the_contract_of_its_kind(name: str, kind: str, installed: Any) -> None:
    for check in segkit.testing.checks(kind, name):
        check()


def test_the_examples_train_together(installed: Any, tmp_path: Path) -> None:
    segkit.datasets["leaves"].write_sample(tmp_path / "leaves")
    (table,) = blocks("toml")
    config = {
        "dataset": {"name": "leaves", "root": str(tmp_path / "leaves")},
        "model": {"name": "dilated", "width": 4},
        **tomllib.loads(table),
        "metric": [{"name": "worst"}],
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu"},
        "output": {"dir": str(tmp_path / "run"), "samples": 0},
    }
    result = segkit.run(config)
    val = result.splits["val"]
    assert val["worst"] == min(val["class_iou"].values())
    told = [json.loads(line) for line in (tmp_path / "tracker.jsonl").read_text().splitlines()]
    assert [set(each) & {"config", "epoch", "best_epoch"} for each in told] == [
        {"config"},
        {"epoch"},
        {"epoch"},
        {"best_epoch"},
    ]
    assert told[1]["val/class_iou/leaf"] >= 0
    assert {each["run"] for each in told} == {"run"}


def test_it_is_read_in_ten_minutes() -> None:
    assert len(TEXT.split()) < 2300  # words; 230 a minute
