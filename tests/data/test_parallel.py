"""The cores of a process: what a container or a scheduler leaves it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from segkit.data import parallel as module
from segkit.data.loader import worker_count
from segkit.data.parallel import cores
from segkit.engine import precision


@pytest.mark.parametrize(
    ("quota", "affinity", "expected"),
    [("200000 100000", 8, 2), ("max 100000", 8, 8), ("50000 100000", 8, 1), ("1600000 100000", 4, 4), (None, 3, 3)],
)
def test_the_smaller_of_quota_and_affinity_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, affinity: int, expected: int
) -> None:
    monkeypatch.setattr(module, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert cores() == expected


@pytest.mark.parametrize(
    ("have", "together", "expected"), [(16, "8", 2), (16, None, 8), (6, "4", 1), (2, "8", 1), (64, "2", 8), (4, "?", 4)]
)
def test_the_processes_of_one_machine_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, have: int, together: str | None, expected: int
) -> None:
    monkeypatch.setattr(module, "cores", lambda: have)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if together:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", together)
    assert worker_count("auto", torch.device("cuda")) == expected
    assert worker_count("auto", torch.device("cpu")) == 0
    assert worker_count(5, torch.device("cuda")) == 5


def test_torch_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(precision, "cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    precision.use_cpu()
    monkeypatch.setenv("OMP_NUM_THREADS", "64")  # somebody has said it
    precision.use_cpu()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(precision, "cores", lambda: 64)
    precision.use_cpu()
    assert taken == [2]
