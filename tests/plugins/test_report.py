"""``report.html``: what stands in it, of whole and of damaged runs, and that a report never costs a run anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segkit
import segkit_report
from segkit.cli import main
from segkit.errors import RunFolderError
from segkit_report.report import group, verdict
from segkit_report.story import Story

CONFIG: dict[str, Any] = {
    "dataset": {"name": "shapes", "size": 32, "images": [6, 3, 5]},
    "model": {"name": "unet", "width": 4, "depth": 1},
    "loss": [{"name": "cross_entropy"}],
    "train": {"epochs": 3, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
    "output": {"samples": 2},
}
NAMES = ["background", "disc", "square", "triangle", "cross", "ring"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    segkit.run(CONFIG, {"output.dir": str(folder)})
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "mine"))


def page(run: Path) -> str:
    assert main(["report", str(run)]) == 0
    return (run / "report.html").read_text("utf-8")


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def change(path: Path, **values: Any) -> None:
    content = read(path)
    for place, value in values.items():
        *keys, last = place.split("__")
        table = content
        for key in keys:
            table = table[int(key) if isinstance(table, list) else key]
        table[int(last) if isinstance(table, list) else last] = value
    path.write_text(json.dumps(content))


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)
    assert found, f"no section {name}"
    return found[0]


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))).strip()


def rows(text: str, name: str) -> dict[str, list[str]]:
    """By their first cell, the body rows of a section's tables."""
    found = re.findall(r"<tr>\s*(<th scope=\"row\">.*?)</tr>", section(text, name), re.DOTALL)
    cells = [[plain(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in found]
    return {row[0]: row[1:] for row in cells}


# --- what stands in it


def test_a_run_ends_with_its_report_and_the_command_writes_the_same(run: Path, capsys: Any) -> None:
    written = (run / "report.html").read_text("utf-8")
    (run / "report.html").unlink()
    assert page(run) == written
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert main(["report", str(run), "--output", str(run / "other.html")]) == 0
    assert (run / "other.html").read_text("utf-8") == written


def test_the_verdict_stands_first_and_is_that_of_test(run: Path) -> None:
    ious = dict(zip(NAMES, [0.95, 0.5, 0.26, 0.24, 0.0, None], strict=True))
    floor = {"class": "background", "mean_iou": 0.15, "pixel_accuracy": 0.9}
    change(run / "result.json", collapsed=False, splits__train__mean_iou=0.3, splits__test__mean_iou=0.33)
    change(run / "result.json", splits__test__class_iou=ious, splits__test__floor=floor)
    change(run / "run.json", data__test__pixels=dict.fromkeys(NAMES, 5))  # a sixth each
    (run / "advice.txt").unlink(missing_ok=True)  # as the advice against a collapse does
    text = page(run)
    assert text.index('id="verdict"') < text.index('id="curves"')
    told = plain(section(text, "verdict"))
    assert told.startswith(
        "Verdict 0.330 mean IoU on test The floor is 0.150: what predicting background everywhere scores."
    )
    assert "Learned background disc Learned in part square Hardly learned, or not at all cross" in told
    assert "No better than predicting it everywhere triangle Not in this split ring Learned: an IoU" in told
    assert 'role="alert"' not in text
    assert rows(text, "verdict")["mean_iou"][-2:] == ["0.330", "0.150"]


def told_learned(run: Path, name: str, iou: float, pixels: int) -> str:
    """Of a hundred labelled pixels."""
    other = next(each for each in NAMES if each != name)
    change(run / "result.json", **{f"splits__test__class_iou__{name}": iou})
    change(run / "run.json", data__test__pixels={**dict.fromkeys(NAMES, 0), name: pixels, other: 100 - pixels})
    return group(Story(str(run)), name)


def test_predicting_a_class_everywhere_is_not_to_have_learned_it(run: Path) -> None:
    assert told_learned(run, "background", 0.90, pixels=90) == "at its floor"
    assert told_learned(run, "background", 0.91, pixels=90) == "learned"
    assert told_learned(run, "disc", 0.27, pixels=20) == "at its floor"
    assert told_learned(run, "disc", 0.29, pixels=20) == "in part"
    assert told_learned(run, "background", 1.0, pixels=100) == "at its floor"
    change(run / "run.json", data=None)
    assert group(Story(str(run)), "disc") == "in part"


def test_a_class_that_is_only_predicted_is_not_in_the_split(run: Path) -> None:
    change(run / "run.json", data__test__pixels={**dict.fromkeys(NAMES, 5), "ring": 0})
    change(run / "result.json", splits__test__class_iou=dict.fromkeys(NAMES, 0.5), splits__test__class_iou__ring=0.0)
    found = verdict(Story(str(run)))
    assert found["groups"]["absent"] == ["ring"]
    assert sum(map(len, found["groups"].values())) == 6


def test_a_class_that_is_predicted_too_often_is_told_and_the_higher_iou_is_never_the_worse(run: Path) -> None:
    """A weed field after six epochs: soil has an IoU of 0.90 and precision 1, crop 0.12 of both."""
    matrix = np.zeros((6, 6), int)
    matrix[0] = [9000, 700, 300, 0, 0, 0]  # soil, crop, weed; rows are the truth
    matrix[1, :3], matrix[2, :3] = [5, 95, 0], [10, 10, 80]
    change(run / "details.json", splits__test__confusion=matrix.tolist())
    change(run / "run.json", data__test__pixels=dict(zip(NAMES, matrix.sum(1).tolist(), strict=True)))
    true, predicted, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    ious = [r / (t + p - r) if t else None for r, t, p in zip(right, true, predicted, strict=True)]
    floor = {"class": "background", "mean_iou": 0.33, "pixel_accuracy": 10000 / 10200}
    change(run / "result.json", collapsed=False, splits__test__class_iou=dict(zip(NAMES, ious, strict=True)))
    change(run / "result.json", splits__test__floor=floor, splits__test__pixel_accuracy=9175 / 10200)
    change(run / "result.json", splits__test__mean_iou=0.32)
    found = verdict(Story(str(run)))
    assert found["remarks"] == [
        "mean_iou on test, 0.320, is below its floor: 'background' everywhere scores 0.330",
        "pixel_accuracy on test, 0.900, is below its floor: 'background' everywhere scores 0.980",
        "disc is predicted far too often: precision 0.12, recall 0.95",
        "square is predicted far too often: precision 0.21, recall 0.80",
    ]
    assert found["groups"]["at its floor"] == ["background"]
    assert "disc" in found["groups"]["not learned"]
    assert "Disc is predicted far too often: precision 0.12, recall 0.95." in plain(section(page(run), "verdict"))
    told = segkit_report.segkit_run_ended(SimpleNamespace(folder=run), None)  # is printed at the end of a run
    assert told.splitlines()[:4] == found["remarks"]


@pytest.mark.parametrize("shares", [(0.01, 0.9), (0.9, 0.01), (0.3, 0.3)])
def test_of_two_classes_the_one_with_the_higher_iou_is_never_called_the_worse(
    run: Path, shares: tuple[float, float]
) -> None:
    order = ["not learned", "in part", "learned"]
    pixels = [round(1000 * share) for share in shares]
    change(run / "run.json", data__test__pixels=dict(zip(NAMES, [*pixels, 1000 - sum(pixels), 0, 0, 0], strict=True)))
    for low, high in ((0.05, 0.12), (0.12, 0.9), (0.3, 0.45), (0.55, 0.9)):
        change(run / "result.json", splits__test__class_iou=dict(zip(NAMES, [low, high, *[0.0] * 4], strict=True)))
        worse, better = (group(Story(str(run)), name) for name in NAMES[:2])
        if {worse, better} <= set(order):  # what is no better than a constant is no step of this ladder
            assert order.index(worse) <= order.index(better)


def test_a_run_under_way_that_has_recovered_is_no_failure(run: Path) -> None:
    (run / "result.json").unlink()
    *lines, last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    floor = last["val"]["floor"]

    def trouble(mean_iou: float) -> str:
        now = {**last, "val": {**last["val"], "mean_iou": mean_iou, "mean_accuracy": mean_iou}}
        written = [{**line, "collapsed": True} for line in lines] + [now]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
        return verdict(Story(str(run)))["trouble"]

    assert "learned next to nothing" in trouble(floor["mean_iou"])
    assert trouble(0.8) == ""


def test_a_collapsed_run_says_so_and_what_to_try(run: Path) -> None:
    change(run / "result.json", collapsed=True)
    (run / "advice.txt").write_text("What helps: less of this\n")
    told = plain(section(page(run), "verdict"))
    assert "What helps: less of this" in told


def test_classes_have_shares_scores_precision_and_recall_of_their_own(run: Path) -> None:
    matrix = np.zeros((6, 6), int)
    matrix[0, 0], matrix[1, 1], matrix[1, 0], matrix[0, 1], matrix[2, 1] = 60, 20, 10, 5, 5  # rows are the truth
    change(run / "details.json", splits__test__confusion=matrix.tolist())
    change(run / "run.json", data__test__pixels=dict(zip(NAMES, [65, 30, 5, 0, 0, 0], strict=True)))
    change(run / "result.json", splits__test__class_iou__disc=0.5)
    text = page(run)
    disc = rows(text, "classes")[next(name for name in rows(text, "classes") if name.startswith("disc"))]
    assert disc[0] == "30.00 %"
    assert disc[-3:] == ["0.500", "0.667", "0.667"]  # IoU of test; 20 of 30 predicted; 20 of 30 true
    cross = rows(text, "classes")[next(name for name in rows(text, "classes") if name.startswith("cross"))]
    assert cross[-2:] == ["–", "–"]
    assert "confusions of test" in section(text, "confusion")


def test_the_hardest_images_are_those_and_their_pictures_what_was_drawn(run: Path) -> None:
    images = read(run / "details.json")["splits"]["test"]["images"]
    ranked = sorted(images, key=lambda each: each["mean_iou"])
    shown = re.findall(r"<figcaption><strong>(.*?)</strong> mean IoU ([\d.]+)", section(page(run), "images"))
    expected = [(each["name"], f"{each['mean_iou']:.3f}") for each in ranked]
    drawn = len(list((run / "samples").glob("hardest_*.png")))
    assert shown == expected[:drawn] + expected[::-1][:drawn]
    with Image.open(run / "samples" / "hardest_1.png") as picture:
        row = np.asarray(picture.convert("RGB"))
    (first,) = re.findall(rf'src="data:image/webp;base64,(\S+)"[^>]*errors of {ranked[0]["name"]}"', page(run))[:1]
    (run / "row.webp").write_bytes(base64.b64decode(first))
    with Image.open(run / "row.webp") as picture:
        shown_row = np.asarray(picture.convert("RGB"))
    assert shown_row.shape == row.shape
    assert np.abs(shown_row.astype(int) - row).mean() < 4


def test_curves_have_their_floors_and_the_data_its_findings(run: Path) -> None:
    found = {"split": "train", "text": "3 masks are void alone", "files": ["a.png", "b.png", "c.png"]}
    change(run / "run.json", warnings=[found], data__val__void=0)
    text = page(run)
    charts = re.findall(r"<figcaption>([^<]*)</figcaption>\s*<div class=.chart.*?(<svg.*?</svg>)", text, re.DOTALL)
    floors = {name: ">floor " in svg for name, svg in charts if "confusions" not in name}
    assert floors == {
        "loss": False,
        "mean_iou": True,
        "pixel_accuracy": True,
        "mean_accuracy": True,
        "mean_dice": True,
        "learning rate": False,
    }
    data = plain(section(text, "data"))
    assert "train: 3 masks are void alone 3 files a.png b.png c.png" in data
    assert rows(text, "data")["val"] == ["3", "0.00 %"]
    costs = rows(text, "run")
    assert costs["precision"] == ["fp32"]
    assert costs["best epoch"][0].endswith(" of 3")
    assert "cross_entropy" in section(text, "run")


def test_a_run_of_plain_objects(tmp_path: Path) -> None:
    shapes = segkit.datasets["shapes"]
    segkit.fit(
        model=segkit.models["unet"](num_classes=6, width=4, depth=1),
        loss=segkit.losses["cross_entropy"](num_classes=6, ignore_index=255),
        train=shapes(split="train", size=32, images=[4, 2, 2]),
        val=shapes(split="val", size=32, images=[4, 2, 2]),
        output=str(tmp_path / "mine"),
        epochs=1,
        device="cpu",
    )
    assert (tmp_path / "mine" / "report.html").exists()
    text = page(tmp_path / "mine")
    assert "mean IoU on val" in plain(section(text, "verdict"))
    assert len(rows(text, "classes")) == 6


# --- a page of strangers' words


def test_words_of_strangers_are_text_and_nothing_is_loaded(run: Path) -> None:
    named = "<img src=x onerror=alert(1)>\x1b[2J$x^2$"
    change(run / "config.json", classes__1=named)
    for split in ("train", "val", "test"):
        change(run / "result.json", **{f"splits__{split}__class_iou__{named}": 0.5})
        change(run / "run.json", **{f"data__{split}__pixels__{named}": 5})
        change(run / "details.json", **{f"splits__{split}__images__0__name": named})
    change(run / "run.json", warnings=[{"split": named, "text": named, "files": [named]}], config__model__name=named)
    text = page(run)
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 8
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert not re.search(r"url\((?!#)|@import", text)


def test_the_policy_allows_this_script_alone(run: Path) -> None:
    text = page(run)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert policy
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy[1])
    assert html.unescape(policy[1]).startswith("default-src 'none'")
    assert not re.search(r"<[^>]+\son\w+=", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))


def test_every_identifier_is_there_once_and_every_reference_has_one(run: Path) -> None:
    text = page(run)
    identifiers = re.findall(r'\sid="(.*?)"', text)
    assert len(identifiers) == len(set(identifiers))
    wanted = set(re.findall(r'href="#(.*?)"', text)) | set(re.findall(r"url\(#(.*?)\)", text))
    assert wanted <= set(identifiers)
    assert len(wanted) > 7


# --- damaged, unfinished, in the way


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("run.json", "{}", "run.json is damaged: it holds no config"),
        ("run.json", None, "run.json"),
        ("result.json", "[1]", "result.json"),
        ("result.json", '{"splits": {"test": {"floor": {}}}}', "is damaged: no report can be made of it (KeyError"),
        ("config.json", '{"classes": ["a"], "palette": [[0, 0, 0]]}', "is damaged: no report can be made of it"),
        ("metrics.jsonl", "7\n", "metrics.jsonl cannot be read"),
        ("metrics.jsonl", '{"epoch": 1}\n', "is damaged: no report can be made of it"),
        ("details.json", '{"splits": {"test": {"confusion": [[1]], "images": []}}}', "is damaged: no report can be"),
        ("run.json", '{"config": {}, "warnings": [{}]}', "is damaged: no report can be made of it (UndefinedError"),
        ("samples/hardest_1.png", "no picture", "is damaged: no report can be made of it"),
    ],
)
def test_damage_is_told_in_a_line_and_the_old_report_stays(
    run: Path, name: str, content: str | None, told: str, capsys: Any
) -> None:
    (run / "report.html").write_text("old")
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    assert main(["report", str(run)]) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert (run / "report.html").read_text() == "old"


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder"])
def test_what_is_no_run(tmp_path: Path, what: str, capsys: Any) -> None:
    place = tmp_path / "place"
    if what == "a file":
        place.write_text("")
    elif what == "an empty folder":
        place.mkdir()
    assert main(["report", str(place)]) == 2
    assert str(place) in capsys.readouterr().err
    assert not (place / "report.html").exists()


def test_a_run_under_way_and_one_before_its_first_epoch(run: Path, capsys: Any) -> None:
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    text = page(run)
    assert "goes on, or was stopped: epoch 2 of 3" in plain(text)
    assert "mean IoU on val" in plain(section(text, "verdict"))
    assert 'id="confusion"' not in text  # those of an older result would lie
    (run / "metrics.jsonl").write_text("")
    capsys.readouterr()
    assert main(["report", str(run)]) == 2
    assert "no epoch of this run has ended yet" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_goes_on_leaves_no_picture_of_its_former_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    segkit.run(CONFIG, {"output.dir": str(folder), "train.epochs": 1})
    assert (folder / "samples" / "hardest_2.png").exists()
    segkit.run(CONFIG, {"output.dir": str(folder), "train.epochs": 2, "output.samples": 1}, resume=True)
    assert (folder / "samples" / "hardest_1.png").exists()
    assert not list((folder / "samples").glob("*est_2.png"))


def test_a_place_that_cannot_be_written(run: Path, capsys: Any) -> None:
    assert main(["report", str(run), "--output", str(run / "nowhere" / "page.html")]) == 1
    assert "nowhere" in capsys.readouterr().err


# --- the observer


def test_it_is_written_after_each_epoch_but_takes_a_small_part_of_the_time(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written, told = [100.0], [], SimpleNamespace(folder=run, first_epoch=2)
    monkeypatch.setattr(segkit_report, "_due", {})
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def write(story: Any, path: Path) -> None:
        clock[0] += 1.0  # a second for each report
        written.append((clock[0], path))

    monkeypatch.setattr("segkit_report.page.write_report", write)
    segkit_report.segkit_run_started(told)
    for _ in range(200):
        segkit_report.segkit_epoch_ended(told)
        assert written or clock[0] < 100.0 + segkit_report.FIRST + 1
        clock[0] += 1.0  # and one for each epoch
    spent = len(written)
    assert spent == 2  # after 120 and 170 seconds; 2 % of 200 would be 4
    segkit_report.segkit_run_ended(told, None)
    assert [path for _, path in written] == [run / "report.html"] * (spent + 1)


def test_a_run_that_is_stopped_has_every_epoch_in_its_report_once_the_process_ends(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    told = SimpleNamespace(folder=run)
    monkeypatch.setattr(segkit_report, "_due", {run: time.monotonic() + 100})
    monkeypatch.setattr("segkit_report.page.write_report", lambda story, path: written.append(path))
    segkit_report.segkit_epoch_ended(told)
    monkeypatch.setitem(segkit_report._due, tmp_path / "removed", time.monotonic() + 100)
    segkit_report.segkit_epoch_ended(SimpleNamespace(folder=tmp_path / "removed"))
    assert written == []
    segkit_report.catch_up()
    segkit_report.catch_up()
    assert written == [run / "report.html"]
    segkit_report.segkit_epoch_ended(told)
    segkit_report.segkit_run_ended(told, None)
    segkit_report.catch_up()
    assert written == [run / "report.html"] * 2


def test_left_out_if_wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGKIT_REPORT", "0")
    segkit.run(CONFIG, {"output.dir": str(tmp_path / "run"), "train.epochs": 1})
    assert (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("written", [True, False])
def test_the_last_lines_of_a_run_name_the_report_and_what_to_do_next(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    monkeypatch.setenv("SEGKIT_REPORT", str(int(written)))
    monkeypatch.chdir(tmp_path)
    config = {**CONFIG, "train": {**CONFIG["train"], "epochs": 1}}
    for folder in ("my runs/a", str(tmp_path / "b")):
        segkit.run(config, {"output.dir": folder})
    out = capsys.readouterr().out
    last = "\nnext:   segkit predict {} photo.jpg --out masks\n"
    report = "report: my runs/a/report.html" if written else ""
    assert f"{report}{last.format(repr('my runs/a'))}" in out
    assert out.endswith(last.format("b"))
    assert ("report: b/report.html" in out) is written
    segkit.run(config, {"output.dir": "b"}, overwrite=True)


def test_a_report_that_fails_ends_no_run(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RunFolderError("no report today")

    monkeypatch.setattr("segkit_report.page.write_report", broken)
    segkit.run(CONFIG, {"output.dir": str(tmp_path / "run"), "train.epochs": 1})
    assert (tmp_path / "run" / "result.json").exists()
    assert "no report today" in capsys.readouterr().err
