"""``compare --html``: runs side by side in one file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import segkit
from segkit.cli import main

CONFIG: dict[str, Any] = {
    "dataset": {"name": "shapes", "size": 32, "images": [4, 2, 2]},
    "model": {"name": "unet", "width": 4, "depth": 1},
    "loss": [{"name": "cross_entropy"}],
    "train": {"epochs": 2, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
    "output": {"samples": 0},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    segkit.run(CONFIG, {"output.dir": str(folder / "full")})
    segkit.run(CONFIG, {"output.dir": str(folder / "longer"), "train.epochs": 3, "train.lr": 0.01})
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Copies that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def page(folder: Path, *runs: str, status: int = 0) -> str:
    places = [str(folder / run) for run in runs or ("full", "longer")]
    assert main(["compare", *places, "--html", str(folder / "page.html")]) == status
    return (folder / "page.html").read_text("utf-8") if status == 0 else ""


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    for place, value in values.items():
        *keys, last = place.split("__")
        table = content
        for key in keys:
            table = table[key]
        table[last] = value
    path.write_text(json.dumps(content))


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)
    assert found
    return found[0]


def cells(text: str, name: str) -> list[list[str]]:
    """The body rows of a section's tables, without tags."""
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", section(text, name), re.DOTALL)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_scores_differences_classes_and_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, score in (("full", 0.25), ("longer", 0.5)):
        change(folder / run / "result.json", splits__test__mean_iou=score, splits__test__floor__mean_iou=0.125)
    change(folder / "longer" / "result.json", splits__test__class_iou__disc=0.875)
    text = page(folder)
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "page.html")
    scores = cells(text, "scores")
    assert [row[:3] for row in scores[-2:]] == [["full", "0.250", "0.125"], ["longer", "0.500", "0.125"]]
    assert "<strong>0.500</strong>" in text
    assert "<strong>0.250</strong>" not in text
    assert cells(text, "differences") == [["train.epochs", "2", "3"], ["train.lr", "0.001", "0.01"]]
    discs = [row for row in cells(text, "classes") if row[0] == "disc"]
    assert len(discs) == 3
    assert discs[-1][-1] == "0.875"
    costs = {row[0]: row[1:] for row in cells(text, "costs")}
    assert costs["precision"] == ["fp32", "fp32"]
    assert [cell.rpartition(" of ")[2] for cell in costs["best epoch"]] == ["2", "3"]


def test_curves_of_unequal_length_have_a_line_a_run_and_the_floor_they_share(folder: Path) -> None:
    text = page(folder)
    charts = re.findall(r"<figcaption>([^<]*)</figcaption>\s*<div class=.chart.*?(<svg.*?</svg>)", text, re.DOTALL)
    assert [title for title, _ in charts] == ["mean_iou of val", "loss of val", "loss of train"]
    assert [">floor 0." in svg for _, svg in charts] == [True, False, False]
    assert all(
        "var(--series-1)" in svg and "var(--series-2)" in svg for svg in re.findall(r"<svg.*?</svg>", text, re.S)
    )
    change_floor = json.loads((folder / "full" / "metrics.jsonl").read_text().splitlines()[-1])
    change_floor["val"]["floor"]["mean_iou"] = 0.9
    lines = (folder / "full" / "metrics.jsonl").read_text().splitlines()[:-1]
    (folder / "full" / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(change_floor)]) + "\n")
    assert ">floor " not in page(folder)


def test_runs_on_other_data_are_no_rivals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "floors differ" not in page(folder)
    assert "floors differ" not in capsys.readouterr().out
    for run, score in (("full", 0.25), ("longer", 0.5)):
        change(folder / run / "result.json", splits__test__mean_iou=score, splits__test__floor__mean_iou=score / 2)
    text = page(folder)
    assert "Test: not to be compared: the floors differ" in text
    assert "<strong>0.500</strong>" not in text
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("the floors differ, so these are other images or other classes") == 1


def test_a_curve_of_one_epoch_is_a_point(folder: Path) -> None:
    lines = (folder / "full" / "metrics.jsonl").read_text().splitlines(keepends=True)
    before = section(page(folder), "curves").count("<use")
    (folder / "full" / "metrics.jsonl").write_text(lines[0])
    assert section(page(folder), "curves").count("<use") > before


def test_names_of_strangers_are_text(folder: Path) -> None:
    named = "<script>x</script>"
    (folder / "full").rename(folder / "a")
    change(folder / "a" / "run.json", config__train__schedule=named)
    for run in ("a", "longer"):
        change(folder / run / "config.json", classes=[named, "b", "c", "d", "e", "f"])
    text = page(folder, "a", "longer")
    assert named not in text
    assert text.count("&lt;script&gt;x&lt;/script&gt;") >= 4


def test_a_run_under_way_and_runs_of_other_classes(folder: Path) -> None:
    (folder / "full" / "result.json").unlink()
    change(folder / "longer" / "config.json", classes=["one", "two", "three", "four", "five", "six"])
    text = page(folder)
    assert "Not finished, the best epoch so far: full" in text
    assert 'id="classes"' not in text
    assert [row[0] for row in cells(text, "scores")] == ["longer", "full", "longer", "longer"]  # train, val, val, test


def test_folders_of_one_name_are_told_by_their_paths(folder: Path) -> None:
    (folder / "other").mkdir()
    shutil.copytree(folder / "full", folder / "other" / "full")
    names = [row[0] for row in cells(page(folder, "full", "other/full"), "scores")][:2]
    assert names == [str(folder / "full"), str(folder / "other" / "full")]
    assert "Their configs are the same." in page(folder, "full", "other/full")


def test_damage_is_told_in_a_line_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "full" / "result.json", splits__test__floor=[1])
    assert page(folder, status=2) == ""
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"segkit: .*full or .*longer is damaged: they cannot be compared \(.*\)\n", told.err)
    assert not (folder / "page.html").exists()


def test_a_place_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folder / "full"), "--html", str(folder / "nowhere" / "page.html")]) == 1
    assert "nowhere" in capsys.readouterr().err
