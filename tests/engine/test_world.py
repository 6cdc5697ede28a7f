"""Which launch a run belongs to, and what one process does without others."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import DistError, HashStore
from training import train_and_evaluate

from segkit.engine import distributed
from segkit.engine.criterion import as_criterion
from segkit.engine.distributed import (
    PROCESSES,
    DistributedContext,
    as_process,
    distributed_context,
    global_batch,
    global_rows,
    global_sum,
    launcher,
)
from segkit.engine.run_folder import after_restart, check_folder
from segkit.engine.trainer import Trainer
from segkit.errors import TrainingError


def begun(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"floors": {}, "launcher": launcher()}))
    (folder / "last.pt").write_text("")


def test_a_restart_goes_on_with_what_the_same_launch_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert after_restart(tmp_path, False, False) == (False, False)  # nothing was begun
    begun(tmp_path)
    assert after_restart(tmp_path, False, False) == (True, False)
    assert check_folder(tmp_path, resume=False, overwrite=False)
    assert after_restart(tmp_path, False, True) == (True, False)  # what was to be overwritten is overwritten already
    monkeypatch.setattr("os.getppid", lambda: -1)  # another launch, on the same machine
    assert after_restart(tmp_path, False, False) == (False, False)
    assert after_restart(tmp_path, False, True) == (False, True)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert after_restart(tmp_path, True, False) == (True, False)


def test_a_job_that_is_started_again_goes_on_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-17")
    begun(tmp_path)
    monkeypatch.setattr("os.getppid", lambda: -1)
    assert after_restart(tmp_path, False, False) == (True, False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-18")
    assert after_restart(tmp_path, False, False) == (False, False)


def test_plain_objects_go_on_after_a_restart_too(make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    train_and_evaluate(make_job(epochs=1, schedule="constant"))
    train_and_evaluate(make_job(epochs=2, schedule="constant"))  # the same command, not a word more
    assert len((make_job().folder / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:5"), DistError("x")]
)
def test_a_process_that_is_lost_while_a_loss_is_summed_is_not_the_losss_fault(error: Exception) -> None:
    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        as_criterion(loss)(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64))
    assert caught.value is error


def test_an_observer_of_several_processes_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(DistributedContext, "broadcast_from_main", lambda self, function: function())
    trainer = Trainer.__new__(Trainer)
    trainer.notify = lambda event, **_: seen.append((PROCESSES.rank, PROCESSES.size)) or []  # type: ignore[func-returns-value]
    trainer.observed = None  # type: ignore[assignment]
    with as_process(0, 2):
        assert not trainer._notify("segkit_run_started")
        assert (PROCESSES.rank, PROCESSES.size) == (0, 2)
    assert seen == [(0, 1)]
    assert (PROCESSES.rank, PROCESSES.size) == (0, 1)


def test_one_process_is_a_world_in_which_nothing_is_exchanged() -> None:
    values = torch.tensor([1.0, 2.0])
    with distributed_context("cpu") as distributed:
        assert distributed == PROCESSES == DistributedContext(0, 1)
        assert distributed.broadcast_from_main(lambda: 5) == distributed.main_process_first(lambda: 5) == 5
        assert distributed.gather(5) == [5]
        assert distributed.any_process([True, False]) == [True, False]
        assert distributed.sum(values) is values
        with global_batch():
            assert global_sum(values) is values
            assert global_rows(values) is values


def test_a_process_that_never_starts_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=0.1))
    with pytest.raises(TrainingError, match=r"of 3 processes, \[1, 2\] did not start within 0:00:00\.1"):
        distributed._attempt(HashStore(), 0, 3)
