"""Run folders: refused before anything is read, locked while in use."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from training import train_and_evaluate

import segkit
from segkit.engine.inputs import TrainerInputs
from segkit.engine.run_folder import check_folder, clear, locked, read_json
from segkit.errors import RunFolderError
from segkit.files import write_json
from segkit.runs import launch

MakeJob = Callable[..., TrainerInputs]


def check(folder: Path, resume: bool = False, overwrite: bool = False) -> None:
    check_folder(folder, resume=resume, overwrite=overwrite)


def test_a_new_folder_is_accepted_and_not_yet_made(tmp_path: Path) -> None:
    check(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_file_in_its_place_or_above_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError, match="file is not a folder; choose"):
            check(folder)


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(RunFolderError, match="link is not a folder; choose"):
        check(tmp_path / "link")


@pytest.mark.fault("F17")
def test_a_folder_with_a_run_needs_a_word(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"floors": {}}')
    check(tmp_path)  # stopped in its first epoch: nothing is lost
    with pytest.raises(RunFolderError, match="nothing to resume"):
        check(tmp_path, resume=True)
    (tmp_path / "last.pt").write_text("")
    with pytest.raises(
        RunFolderError,
        match=r"unfinished run; resume=True .* overwrite=True replaces it, another",
    ):
        check(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RunFolderError, match="a finished run"):
        check(tmp_path)
    check(tmp_path, overwrite=True)
    check(tmp_path, resume=True)


def test_files_of_somebody_else_are_never_replaced(tmp_path: Path) -> None:
    for name, content in (("config.json", "{}"), ("run.json", '{"theirs": 1}')):
        (tmp_path / name).write_text(content)
        with pytest.raises(RunFolderError, match=f"holds .*{name}.* but no segkit run"):
            check(tmp_path, overwrite=True)


def test_a_folder_in_use_names_the_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass  # free again


def test_clearing_leaves_what_is_not_ours(tmp_path: Path) -> None:
    for name in ("last.pt", "metrics.jsonl", ".last.pt.1.tmp", "mine.png"):
        (tmp_path / name).write_text("")
    clear(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.png"]


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": math.nan, "y": [1.5, math.inf], "path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1.5, None], "path": str(tmp_path)}
    assert read_json(tmp_path / "a.json")["y"] == [1.5, None]
    with pytest.raises(RunFolderError, match=r"not a run folder: it holds no run\.json"):
        read_json(tmp_path / "run.json")


def test_json_holds_numpys_numbers_objects_and_names_that_are_no_utf_8(tmp_path: Path) -> None:
    content = {"width": np.int64(8), "weights": torch.tensor([0.5]), "kind": int, "name": "f\udcfc.png ü"}
    write_json(tmp_path / "a.json", content)
    found = read_json(tmp_path / "a.json")
    assert found == {"width": 8, "weights": [0.5], "kind": "<class 'int'>", "name": "f\udcfc.png ü"}
    assert "ü" in (tmp_path / "a.json").read_text("utf-8")


@pytest.mark.fault("F19")
def test_a_run_that_another_process_wrote_while_this_one_read_its_data_is_not_replaced(make_job: MakeJob) -> None:
    job = make_job(epochs=1)

    def build(resume: bool) -> TrainerInputs:
        train_and_evaluate(make_job(epochs=1))
        return job

    with pytest.raises(RunFolderError, match="holds a finished run; resume=True"):
        launch(build, job.train, job.folder)
    assert segkit.read_run(job.folder).result


def test_a_path_that_leads_nowhere_is_named(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(RunFolderError, match="a is not a folder; choose another"):
        train_and_evaluate(make_job(fields={"folder": tmp_path / "a" / "run"}))


def test_a_folder_may_be_below_the_home(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_job().folder
    monkeypatch.setenv("HOME", str(folder.parent))
    result = train_and_evaluate(make_job(epochs=1, fields={"folder": Path("~/run")}))
    assert result.folder == folder


def test_keys_that_an_older_version_wrote_are_read_by_their_new_names(tmp_path: Path) -> None:
    for name, expected in (("run.json", "encoder_lr_mult"), ("config.json", "encoder_lr")):
        tables = {"train": {"lr": 0.01, "encoder_lr": 0.1}, "data": {"scan": "all"}, "model": {"name": "smp"}}
        write_json(tmp_path / name, {"config": tables})
        assert read_json(tmp_path / name)["config"]["train"] == {"lr": 0.01, expected: 0.1}
        assert read_json(tmp_path / name)["config"]["data"] == ({} if name == "run.json" else {"scan": "all"})
    write_json(tmp_path / "run.json", {"config": {"train": 3}})
    assert read_json(tmp_path / "run.json") == {"config": {"train": 3}}


def test_read_run_gives_what_a_run_folder_holds(make_job: MakeJob) -> None:
    job = make_job(epochs=2, fields={"record": {"config": {"train": {"epochs": 2}}}})
    result = train_and_evaluate(job)
    found = segkit.read_run(job.folder)
    assert found.config["train"] == {"epochs": 2}
    assert found.model["classes"] == list(job.splits["train"].classes)
    assert [line["epoch"] for line in found.epochs] == [1, 2]
    assert found.best["epoch"] == found.result["best_epoch"] == result.best_epoch
    assert found.splits["val"]["floor"] == result.splits["val"]["floor"]
    assert set(found.details) == {"train", "val", "test"}
    (job.folder / "result.json").unlink()
    unfinished = segkit.read_run(job.folder)
    assert not unfinished.result
    assert list(unfinished.splits) == ["val"]


def test_read_run_refuses_a_folder_of_no_run_and_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        segkit.read_run(tmp_path)
    write_json(tmp_path / "run.json", {"config": []})
    with pytest.raises(RunFolderError, match=r"run\.json is damaged: its config is not a table"):
        _ = segkit.read_run(tmp_path).config
    write_json(tmp_path / "run.json", {"config": {}})
    with pytest.raises(RunFolderError, match="no epoch of this run has ended yet"):
        _ = segkit.read_run(tmp_path).best
    (tmp_path / "metrics.jsonl").write_text("7\n")
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl cannot be read: 'int' object"):
        _ = segkit.read_run(tmp_path).epochs
    (tmp_path / "metrics.jsonl").write_text('{"best": true}\n')
    with pytest.raises(RunFolderError, match="it holds no splits with scores and floors"):
        _ = segkit.read_run(tmp_path).splits


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_damaged_file_is_in_the_way_of_nothing_that_does_not_need_it(make_job: MakeJob, name: str) -> None:
    job = make_job(epochs=1)
    train_and_evaluate(job)
    for again in ({"overwrite": True}, *([{"resume": True}] if name == "result.json" else [])):
        (job.folder / name).write_text("{")
        assert len(segkit.read_run(job.folder).epochs) == 1
        train_and_evaluate(make_job(epochs=1), **again)
        assert read_json(job.folder / name)


@pytest.mark.fault("F16")
def test_a_run_is_not_resumed_on_other_samples(make_job: MakeJob) -> None:
    train_and_evaluate(make_job(epochs=1, schedule="constant"))
    first = make_job().splits["train"]
    others = {"train": type(first)(8), "val": type(first)(4, 100), "test": type(first)(4, 201)}  # type: ignore[call-arg]
    with pytest.raises(RunFolderError, match="was trained on other samples: test has changed since"):
        train_and_evaluate(make_job(epochs=2, schedule="constant", fields={"splits": others}), resume=True)
    train_and_evaluate(make_job(epochs=2, schedule="constant"), resume=True)
