from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segkit.cli import main
from segkit_report.compare import differences

SCORES = {"mean_iou": 0.5, "pixel_accuracy": 0.9, "mean_dice": 0.6, "floor": {"mean_iou": 0.1, "pixel_accuracy": 0.7}}


def write_run(folder: Path, precision: str, mean_iou: float, finished: bool = True) -> Path:
    folder.mkdir()
    config = {
        "model": {"name": "unet", "width": 16},
        "loss": [{"name": "dice", "scale": 1.0}],
        "train": {"precision": precision, "epochs": 3},
        "output": {"dir": str(folder)},
    }
    record = {"segkit": "0.1.0", "packages": {"torch": "2.14"}, "config": config}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps({"precision": precision}))
    scores: dict[str, Any] = {**SCORES, "mean_iou": mean_iou}
    if finished:
        result = {"splits": {"val": scores, "test": {**scores, "mean_iou": mean_iou - 0.1}}, "best_epoch": 3}
        result |= {"seconds": 61.25, "images_per_second": 7.5, "peak_memory_bytes": 3 << 20}
        result |= {"precision": precision, "device": "cpu"}
        (folder / "result.json").write_text(json.dumps(result))
    else:
        epochs = [
            {
                "epoch": number,
                "best": best,
                "train": {"images_per_second": 5.0, "seconds": 7.0},
                "val": {**scores, "mean_iou": iou},
            }
            for number, best, iou in [(1, True, 0.2), (2, True, mean_iou), (3, False, 0.1)]
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in epochs))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [str(write_run(tmp_path / "full", "fp32", 0.512)), str(write_run(tmp_path / "mixed", "bf16", 0.498))]


def rows(printed: str, title: str) -> list[list[str]]:
    """The cells of a table's lines, without the name."""
    block = next(part for part in printed.split("\n\n") if part.split()[0] == title)
    return [line.split()[1:] for line in block.splitlines()[1:]]


def test_runs_side_by_side_by_split(runs, capsys):
    assert main(["compare", *runs]) == 0
    printed = capsys.readouterr().out
    assert rows(printed, "val") == [
        ["0.512", "0.100", "0.900", "0.700", "0.600", "-"],
        ["0.498", "0.100", "0.900", "0.700", "0.600", "-"],
    ]
    assert [row[0] for row in rows(printed, "test")] == ["0.412", "0.398"]
    assert rows(printed, "best")[0] == ["3", "61.2", "7.5", "3", "fp32", "cpu"]
    assert max(map(len, printed.splitlines())) <= 80


def test_what_differs_and_nothing_else(runs, capsys):
    main(["compare", *runs])
    differing = capsys.readouterr().out.partition("what differs\n")[2].split()
    assert differing[0] == "train.precision"
    assert differing[1::2] == ["fp32", "bf16"]
    assert "output.dir" not in differing
    main(["compare", runs[0], runs[0]])  # once is enough
    assert "what differs" not in capsys.readouterr().out


def test_settings_are_named_as_on_the_command_line():
    one = {"loss": [{"name": "dice", "scale": 1.0}, {"name": "focal", "scale": 1.0}], "model": {"name": "unet"}}
    two = {"loss": [{"name": "dice", "scale": 0.5}], "model": {"name": "smp", "encoder": "resnet18"}}
    assert differences([one, two]) == {
        "loss.dice.scale": [1.0, 0.5],
        "loss.focal": ["yes", None],
        "loss.focal.scale": [1.0, None],
        "model.name": ["unet", "smp"],
        "model.encoder": [None, "resnet18"],
    }
    assert differences([one, one]) == {}


def test_two_losses_of_one_name_are_two():
    one, two, three = (
        {"loss": [{"name": "dice", "scale": scale} for scale in scales]} for scales in ([1.0, 2.0], [3.0, 2.0], [1.0])
    )
    assert differences([one, two]) == {"loss.dice.scale": [1.0, 3.0]}
    assert differences([one, three]) == {"loss.dice-2": ["yes", None], "loss.dice-2.scale": [2.0, None]}


def test_long_values_and_long_names_that_end_alike_stay_apart(tmp_path, capsys):
    places = []
    for number in (1, 2):
        place = tmp_path / f"{number}" / "camvid-resnet34-with-a-long-name"
        place.parent.mkdir()
        write_run(place, "fp32", 0.1 * number)
        record = json.loads((place / "run.json").read_text())
        record["config"]["dataset"] = {"root": f"/a/long/way/to/where/the/datasets/are/camvid_v{number}/{'x' * 20}"}
        (place / "run.json").write_text(json.dumps(record))
        places.append(str(place))
    assert main(["compare", *places]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()[1:3]] == [["run", "1", "0.100"], ["run", "2", "0.200"]]
    changed = " ".join(printed.partition("what differs")[2].split())
    assert f"camvid_v1/{'x' * 20} run 1" in changed
    assert f"camvid_v2/{'x' * 20} run 2" in changed
    assert printed.endswith(f"run 1: {places[0]}\nrun 2: {places[1]}\n")


def test_a_run_under_way_shows_its_best_epoch(runs, tmp_path, capsys):
    going = write_run(tmp_path / "going", "fp32", 0.333, finished=False)
    assert main(["compare", runs[0], str(going)]) == 0
    printed = capsys.readouterr().out
    assert rows(printed, "val")[1][0] == "0.333"
    assert len(rows(printed, "test")) == 1
    assert rows(printed, "best")[1] == ["2", "21.0", "5.0", "-", "fp32", "-"]
    assert printed.splitlines()[-1].startswith("not finished, the best epoch so far: ")


def test_json(runs, capsys):
    assert main(["compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["splits"]["val"]["mean_iou"] for run in found["runs"]] == [0.512, 0.498]
    assert found["differences"] == {"train.precision": ["fp32", "bf16"]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "is not a folder; give a run folder"),
        ({}, "run.json"),
        ({"run.json": "{}"}, "run.json is damaged: it holds no config"),
        ({"run.json": '{"config": {}}'}, "no epoch of this run has ended yet"),
        ({"run.json": '{"config": {}}', "metrics.jsonl": "7\n"}, "metrics.jsonl cannot be read"),
        ({"run.json": '{"config": {}}', "result.json": '{"splits": {"val": {}}}'}, "result.json is damaged"),
    ],
)
def test_folders_that_are_no_runs(files, message, tmp_path, capsys):
    folder = tmp_path / "run"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    assert main(["compare", str(folder)]) != 0
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_folder_of_runs_is_all_of_them(runs, tmp_path, capsys):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text('{"config": {}}')
    assert {str(Path(run).parent) for run in runs} == {str(tmp_path)}
    assert main(["compare", *runs]) == 0
    expected = capsys.readouterr().out
    assert main(["compare", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert sorted(printed.out.splitlines()) == sorted(expected.splitlines())
    assert printed.err == f"left out: {tmp_path / 'begun'}: no epoch of this run has ended yet\n"


def test_one_run_alone_ends_without_blank_lines(runs, capsys):
    assert main(["compare", str(runs[0])]) == 0
    assert not capsys.readouterr().out.endswith("\n\n")
