"""Processes that load data: one that raises, one that is killed, other ways to start them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from segkit.engine import checkpoint

BROKEN = """
from segkit_shapes import dataset
real = dataset.ShapesDataset.__getitem__
def broken(self, index):
    if open("begun", "a").tell() > 0 and index == 5:
        raise ERROR
    return real(self, index)
dataset.ShapesDataset.__getitem__ = broken
at(TrainingLoop, 'run_epoch', 1, lambda: open("begun", "w").write("x"))
"""


@pytest.mark.fault("F32")
@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_dataset_raises_is_told_with_the_place(place: Any, workers: int) -> None:
    """An error that nobody expected shows where it comes from, in a worker too, and nothing hangs."""
    process = place.start(f"train.workers={workers}", before=BROKEN.replace("ERROR", "ValueError('no such leaf')"))
    assert process.wait() == 1
    assert "ValueError: no such leaf" in process.err
    assert "in broken" in process.err  # the line that raised it
    assert "sample 5 of ShapesDataset" in process.err


@pytest.mark.fault("F32")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_goes_bad_while_training_is_named_in_a_line(place: Any, workers: int) -> None:
    """Where the dataset knows what is wrong, no traceback."""
    error = "DataError('leaf.png: the file is cut off')"
    code = BROKEN.replace("ERROR", error) + "from segkit.errors import DataError\ndataset.DataError = DataError\n"
    process = place.start(f"train.workers={workers}", before=code.replace("raise DataError", "raise dataset.DataError"))
    assert process.wait() == 2, process.err
    first, second = process.err.splitlines()
    assert first == "segkit: leaf.png: the file is cut off"
    assert second.startswith(f"saved in {place.path()} after epoch 0 of 3")
    assert second.endswith("; --resume continues from there")


@pytest.mark.fault("F32")
def test_a_disk_that_goes_away_names_the_sample_and_keeps_what_was_done(place: Any, whole: Path) -> None:
    """Between two steps; in the batch of the first epoch that holds sample 5."""
    process = place.start(before=BROKEN.replace("ERROR", "OSError(5, 'Input/output error')"))
    assert process.wait() == 2, process.err
    first, second = process.err.splitlines()
    assert first.startswith("segkit: sample 5 of ShapesDataset")
    assert first.endswith("cannot be read: Input/output error")
    assert "--resume continues from there" in second
    place.run("--resume")
    place.assert_same(whole)


@pytest.mark.fault("F32")
@pytest.mark.parametrize("inside", ["a loader's process", "the run"])
def test_an_error_while_val_is_scored_does_not_keep_the_run_from_ending(place: Any, inside: str) -> None:
    """Its traceback holds the loader's iterator, whose processes would be waited for when Python ends."""
    code = BROKEN.replace("index == 5", "len(self) == 6 and index == 5").replace("ERROR", "ValueError('no such leaf')")
    if inside == "the run":
        code = "def fail():\n    raise ValueError('no such leaf')\nat(evaluate.Evaluator, '_batch_values', 1, fail)"
    process = place.start("train.workers=2", before=code)
    assert process.wait() == 1
    assert "ValueError: no such leaf" in process.err


@pytest.mark.fault("F33")
def test_a_worker_that_is_killed_ends_the_run_and_no_work_is_lost(place: Any, whole: Path) -> None:
    """Within seconds, as when memory is short; the checkpoint goes on."""
    kill = """
from segkit.data import loader
from torch.utils.data import get_worker_info
def killed(self, keys, real=loader.TrainBatches.__getitem__):
    if keys[0][0] == 2 and get_worker_info().id == 1:
        send(signal.SIGKILL)()
    return real(self, keys)
loader.TrainBatches.__getitem__ = killed
"""
    process = place.start("train.workers=2", before=kill)
    assert process.wait() == 1
    process.assert_left_within(10, since=place.folder / "sent")
    assert "a process that loads data ended" in process.err
    assert "train.workers" in process.err
    assert "--resume continues" in process.err
    assert "Traceback" not in process.err
    # the end of the first epoch, or a step more where the other worker's batch came before the end was seen
    assert checkpoint.load(place.path() / "last.pt")["step"] in (4, 5)
    place.run("train.workers=2", "--resume")
    place.assert_same(whole)


@pytest.mark.fault("F33")
def test_a_worker_that_is_killed_while_a_step_is_under_way_does_not_leave_half_a_step(place: Any, whole: Path) -> None:
    """torch would raise in the main thread at once, here between the optimizer's step and its being counted."""
    kill = """
import multiprocessing
from pathlib import Path
def kill():
    worker = multiprocessing.active_children()[0].pid
    os.kill(worker, signal.SIGKILL)
    while Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
at(torch.optim.AdamW, 'step', 6, kill, after=True)
"""
    process = place.start("train.workers=1", before=kill)
    assert process.wait() == 1
    assert "a process that loads data ended" in process.err
    assert checkpoint.load(place.path() / "last.pt")["step"] == 6
    place.run("train.workers=1", "--resume")
    place.assert_same(whole)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_the_number_of_workers_changes_nothing(place: Any, whole: Path, workers: str) -> None:
    """Views are a function of (seed, epoch, index)."""
    place.run(f"train.workers={workers}")
    place.assert_same(whole)


@pytest.mark.slow
@pytest.mark.fault("F44")
def test_workers_may_be_spawned(place: Any, whole: Path) -> None:
    """As on Windows and macOS, where nothing is inherited."""
    place.run("train.workers=1", before="import multiprocessing\nmultiprocessing.set_start_method('spawn', force=True)")
    place.assert_same(whole)


@pytest.mark.slow
@pytest.mark.fault("F44", "F09")
def test_a_signal_ends_spawned_workers_too(place: Any) -> None:
    spawn = "import multiprocessing\nmultiprocessing.set_start_method('spawn', force=True)\n"
    group = "at(TrainingLoop, '_forward_backward', 6, send(signal.SIGTERM, group=True))"
    process = place.start("train.workers=1", before=spawn + group)
    assert process.wait() == 128 + signal.SIGTERM
    assert process.err.count("\n") == 1, process.err
