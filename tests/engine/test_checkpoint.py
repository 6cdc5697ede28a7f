"""Checkpoints: whole or not there, and never code."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.engine import checkpoint
from segkit.errors import CheckpointError, RunFolderError


def test_what_is_saved_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1, "weights": torch.arange(3)})
    checkpoint.save(path, {"step": 2, "weights": torch.arange(3)})
    assert checkpoint.load(path)["step"] == 2
    assert checkpoint.load(tmp_path / "previous.pt")["step"] == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


def test_a_flipped_byte_is_found_and_the_previous_one_is_used(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for step in (1, 2):
        checkpoint.save(path, {"step": step, "weights": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    place = content.find(torch.arange(1000.0).numpy().tobytes()[400:440])
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        checkpoint.load(path)
    state, note = checkpoint.load_last(tmp_path)
    assert state["step"] == 1
    assert "last.pt" in note
    assert "previous.pt" in note


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        checkpoint.load_last(tmp_path)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    path = tmp_path / "last.pt"
    torch.save({"format": checkpoint.FORMAT, "model": Bomb()}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        checkpoint.load(path)
    assert not (tmp_path / "boom").exists()
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not (tmp_path / "boom").exists()


def test_nothing_to_resume_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        checkpoint.load_last(tmp_path)


def test_weights_of_another_model_are_listed() -> None:
    theirs = {"weight": torch.zeros(5, 3), "gamma": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(nn.Linear(3, 4), theirs, "best.pt")
    message = str(caught.value)
    assert "1 missing: bias" in message
    assert "1 unexpected: gamma" in message
    assert "weight (5, 3) for (4, 3)" in message


def test_a_full_disk_leaves_the_old_checkpoint_intact(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write_atomically(path, lambda file: torch.save({"format": checkpoint.FORMAT, "step": 1}, file))
    script = f"""
import resource, signal, sys, torch
from pathlib import Path
from segkit.engine import checkpoint
from segkit.errors import RunFolderError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.write_atomically(Path({str(path)!r}), lambda f: torch.save({{"w": torch.zeros(1_000_000)}}, f))
except RunFolderError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "last.pt could not be written" in done.stdout
    assert checkpoint.load(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_atomically(tmp_path / "last.pt", interrupted)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match="could not be written"):
        checkpoint.write_atomically(tmp_path / "missing" / "last.pt", lambda file: None)
