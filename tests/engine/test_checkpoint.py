"""Checkpoints: whole or not there, and never code."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.engine import checkpoint
from segkit.errors import CheckpointError, RunFolderError, WriteError


def test_what_is_saved_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1, "weights": torch.arange(3)})
    checkpoint.save(path, {"step": 2, "weights": torch.arange(3)}, tmp_path / "previous.pt")
    assert checkpoint.load(path)["step"] == 2
    assert checkpoint.load(tmp_path / "previous.pt")["step"] == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.fault("F04")
def test_a_flipped_byte_is_found_and_the_previous_one_is_used(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for step in (1, 2):
        checkpoint.save(path, {"step": step, "weights": torch.arange(1000.0)}, tmp_path / "previous.pt")
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


def test_a_flag_that_makes_torch_read_nothing_is_found(tmp_path: Path) -> None:
    """One bit in the archive's directory, which no checksum covers: torch would give what is in the memory."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"weights": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    entry = content.index(b"data/0", content.index(b"PK\x01\x02"))
    content[content.rindex(b"PK\x01\x02", 0, entry) + 38] ^= 0x10  # "a folder", as DOS had it
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(path)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_the_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "last.pt", list[str]()
    sync, replace = os.fsync, Path.replace

    def recorded_sync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.append(f"{target.name}")
        return replace(self, target)

    checkpoint.save(path, {"step": 1})
    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    checkpoint.save(path, {"step": 2}, tmp_path / "previous.pt")
    assert calls == ["file", "previous.pt", "last.pt", "folder"]


def test_what_the_disk_did_not_keep_takes_nobodys_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written without an error, and other bytes read: the new file is not put in place, the old one is intact."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1, "weights": torch.zeros(1000)})
    sync = os.fsync

    def rot(descriptor: int) -> None:
        sync(descriptor)
        (temporary,) = tmp_path.glob(".last.pt.*.tmp")
        content = bytearray(temporary.read_bytes())
        content[content.index(torch.ones(1000).numpy().tobytes()) + 99] ^= 1
        temporary.write_bytes(content)

    monkeypatch.setattr(os, "fsync", rot)
    with pytest.raises(WriteError, match="has changed since it was written"):
        checkpoint.save(path, {"step": 2, "weights": torch.ones(1000)})
    assert checkpoint.load(path)["step"] == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pt"]


@pytest.mark.fault("F05")
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt is not a weights file, or is damaged") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        checkpoint.load_last(tmp_path)


@pytest.mark.fault("F06")
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


@pytest.mark.fault("F07")
def test_weights_of_another_model_are_listed() -> None:
    theirs = {"weight": torch.zeros(5, 3), "gamma": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(nn.Linear(3, 4), theirs, "best.pt")
    message = str(caught.value)
    assert "1 missing: bias" in message
    assert "1 unexpected: gamma" in message
    assert "weight (5, 3) for (4, 3)" in message


@pytest.mark.fault("F02")
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
