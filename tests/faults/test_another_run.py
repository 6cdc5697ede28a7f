"""What is gone on with is this run, whole: not less of it, and none of another one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def begun(place: Any, whole: Path) -> Any:
    """A place with a copy of a whole run."""
    shutil.copytree(whole, place.path())
    shutil.copy(whole.with_suffix(".seen"), place.path().with_suffix(".seen"))
    return place


def refused(place: Any, *arguments: str) -> str:
    before = {file.name: file.read_bytes() for file in place.path().iterdir() if file.is_file() and file.suffix}
    process = place.start("--resume", *arguments)
    assert process.wait() == 2, process.err
    assert process.err.startswith("segkit: ")
    assert "Traceback" not in process.err
    after = {file.name: file.read_bytes() for file in place.path().iterdir() if file.is_file() and file.suffix}
    assert before == after
    return str(process.err)


def test_with_fewer_epochs_than_were_done_nothing_is_left_to_train(begun: Any, whole: Path) -> None:
    process = begun.run("--resume", "train.epochs=2")
    assert "best epoch: " in process.out
    assert " of 3, by mean_iou on val" in process.out
    begun.assert_same(whole)


def test_more_epochs_plan_the_learning_rate_anew_and_say_so(begun: Any) -> None:
    process = begun.run("--resume", "train.epochs=4")
    assert process.err.startswith("warning: train.epochs was 3 and is 4: the learning rate schedule changes\n")
    assert "resumed after epoch 3 of 4" in process.out


def test_a_checkpoint_of_another_run_is_not_taken_for_this_ones(begun: Any) -> None:
    begun.run("train.seed=1", to="other")
    shutil.copy(begun.path("other") / "last.pt", begun.path() / "last.pt")
    assert "the checkpoint is not of the run in run.json" in refused(begun)


def test_weights_alone_are_no_state_to_go_on_from(begun: Any) -> None:
    shutil.copy(begun.path() / "best.pt", begun.path() / "last.pt")
    assert "the checkpoint is not of the run in run.json" in refused(begun)


def test_the_best_weights_are_not_those_of_a_file_that_others_may_change(begun: Any, whole: Path) -> None:
    (begun.path() / "best.pt").write_bytes(b"of another run, or damaged")
    (begun.path() / "model.safetensors").unlink()
    begun.run("--resume")
    begun.assert_same(whole)
