"""The code in CONTRIBUTING.md is a plugin of each kind: it installs, keeps the contracts and trains, as it stands."""

from __future__ import annotations

import json
import pkgutil
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

import segkit
import segkit.registry
import segkit.testing
from segkit.cli import main
from segkit.settings import TrainSettings
from segkit_inspect.describe import summary

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
COMMANDS = re.findall(r"^ +python -m segkit new-plugin (\w+) --kind (\w+)$", TEXT, re.MULTILINE)


TEST = "tests/test_poly.py"


def blocks(language: str) -> list[str]:
    found = re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", TEXT, re.MULTILINE | re.DOTALL)
    return [dedent(each[2]) for each in found]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, unpacked: Callable[[Path], Path]) -> Path:
    """A folder where the packages are installed: those that the commands write, with the blocks put in."""
    written = tmp_path_factory.mktemp("written")
    for name, kind in [*COMMANDS, ("tracker", "observer")]:
        assert main(["new-plugin", name, "--kind", kind, "--output", str(written)]) == 0
    for source in blocks("python"):
        path = source.partition("\n")[0].removeprefix("# ")  # segkit_poly/loss.py, in segkit-poly
        if "/" not in path:
            continue  # of no package; tried below
        if path == TEST:
            test = written / "segkit-poly" / path
            before, last, _ = test.read_text("utf-8").partition("def test_a_pixel_worked_out_by_hand")
            assert last
            test.write_text(before + source.partition("\n")[2], "utf-8")
        else:
            (written / path.partition("/")[0].replace("_", "-") / path).write_text(source, "utf-8")
    target = unpacked(written)
    shutil.copyfile(written / "segkit-poly" / TEST, target / "test_poly.py")
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
        "# segkit_poly/loss.py",
        f"# {TEST}",
        *(f"# segkit_{name}/{kind}.py" for name, kind in COMMANDS[1:]),
        "# segkit_tracker/__init__.py",
        *("# reader.py", "# transform.py", "# optimizer.py"),
    ]


@pytest.mark.parametrize(("name", "kind"), COMMANDS)
def test_an_example_keeps_the_contract_of_its_kind(name: str, kind: str, installed: Any) -> None:
    answers = {check.name: check.ask() for check in segkit.testing.checks(kind, name)}
    assert {each: answer.why for each, answer in answers.items() if answer.state == "FAILED"} == {}


@pytest.mark.slow
def test_the_example_passes_the_test_beside_it(installed: Any) -> None:
    done = installed.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_poly.py")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_every_example_says_what_it_is(installed: Any) -> None:
    assert summary(segkit.registry.observers.find("tracker")).startswith("Writes the scores")
    for name, kind in COMMANDS:
        assert summary(segkit.registry.REGISTRIES[kind].find(name))


def test_an_observer_is_told_in_fifteen_lines() -> None:
    (observer,) = [source for source in blocks("python") if "segkit_tracker" in source.partition("\n")[0]]
    assert len([line for line in observer.splitlines()[1:] if line.strip()]) <= 15


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
    lines = (tmp_path / "tracker.jsonl").read_text().splitlines()
    told = [json.loads(line, parse_constant=pytest.fail) for line in lines]  # NaN is no JSON
    assert [set(each) & {"epoch", "best_epoch"} for each in told] == [{"epoch"}, {"epoch"}, {"best_epoch"}]
    assert told[1]["leaf"] >= 0
    assert told[1]["mean_iou"] == pytest.approx(val["mean_iou"], abs=1)
    assert {each["run"] for each in told} == {"run"}


def test_it_is_read_in_eleven_minutes() -> None:
    plugins, _, _ = TEXT.partition("## Working on segkit itself")
    plugins = re.sub(r"```text\n.*?```", "", plugins, flags=re.DOTALL)  # the list of names is looked up
    assert len(plugins.split()) < 2530  # words; 230 a minute


def test_every_place_that_it_names_is_there() -> None:
    """The table of what is where, the way of a mask, and the new names for those of 0.1."""
    own = TEXT[TEXT.index("| question | where |") : TEXT.index("1. A file has one subject")]
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "segkit").rglob("*.py"))
    source += "\n".join(path.read_text("utf-8") for path in (ROOT / "plugins").rglob("*.py"))
    names = {
        part for name in re.findall(r"`([\w.]+)`", own) for part in [name.rpartition(".")[2]] if name[-3:] != ".py"
    }
    names -= {"json"}  # config.json
    assert len(names) > 20
    assert [name for name in sorted(names) if not re.search(rf"(def|class) {name}\b", source)] == []
    renamed = [line.rpartition(" | ")[2] for line in TEXT[TEXT.index("| 0.1 | now |") :].splitlines()[2:]]
    names = {match for cell in renamed for match in re.findall(r"`(segkit(?:\.\w+)+)", cell)}
    assert len(names) > 12
    for name in names:
        pkgutil.resolve_name(name)


def test_the_reader_the_transform_and_the_optimizer_do_what_they_say(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for source in blocks("python"):
        if source.startswith(("# reader.py", "# transform.py", "# optimizer.py")):
            exec(source, found)
    np.savez(tmp_path / "a.npz", image=np.ones((4, 5, 6), np.int16))
    assert found["read"](tmp_path / "a.npz").shape == (4, 5, 6)
    mask = torch.zeros(4, 5, dtype=torch.uint8)
    for image in (torch.full((3, 4, 5), 200, dtype=torch.uint8), torch.ones(7, 4, 5)):
        first, second = (found["Speckle"](0.3)(image, mask, np.random.default_rng(1))[0] for _ in range(2))
        assert first.dtype == image.dtype
        assert torch.equal(first, second)
        assert not torch.equal(first, image)
    model = torch.nn.Conv2d(3, 2, 1)
    assert found["adam"](model, TrainSettings(lr=0.5)).param_groups[0]["lr"] == 0.5
