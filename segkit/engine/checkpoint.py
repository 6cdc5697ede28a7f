"""Checkpoints that are either the old file or the new one, never half of one; loaded without unpickling code."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.errors import CheckpointError, RunFolderError, first_few

FORMAT = 1


def write_atomically(path: Path, write: Any) -> None:
    """Call ``write(binary file)`` on a temporary file, flush it to the disk and put it in the place of ``path``.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk with a RuntimeError
        temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path} could not be written: {error}; what was there before is intact") from error
    except BaseException:  # Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one that was there becomes ``previous.pt``."""
    if path.exists():
        previous = path.with_name("previous.pt")
        link = path.with_name(f".previous.{os.getpid()}.tmp")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)  # never a moment without a `last`
            link.replace(previous)
        except OSError:  # a file system without hard links
            path.replace(previous)
    write_atomically(path, lambda file: torch.save({"format": FORMAT, **state}, file))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, truncated, damaged (its checksums do not match) or holding more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged: {damaged} in it does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors and plain values; it was not loaded") from error
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of segkit")
    return state


def load_last(folder: Path) -> tuple[dict[str, Any], str]:
    """The last checkpoint of a run folder, or the one before where that is damaged, and a line that says so.

    Raises:
        CheckpointError: there is none that can be used.
    """
    try:
        return load(folder / "last.pt"), ""
    except CheckpointError as error:
        with contextlib.suppress(CheckpointError):
            return load(folder / "previous.pt"), f"{error}; going on from previous.pt"
        if not (folder / "last.pt").exists():
            raise CheckpointError(f"{folder}: nothing to resume, it holds no last.pt") from error
        raise


def load_weights(model: nn.Module, weights: dict[str, Any], place: str) -> None:
    """Load a state dict into a model.

    Raises:
        CheckpointError: the weights are another model's; missing, unexpected and mismatched keys are listed.
    """
    expected = model.state_dict()
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    mismatched = [
        f"{key} {tuple(weights[key].shape)} for {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    problems = [f"{len(keys)} {kind}: {first_few(keys, 3)}" for kind, keys in found.items() if keys]
    if problems:
        raise CheckpointError(f"{place} belongs to another model or number of classes: {'; '.join(problems)}")
    model.load_state_dict(weights)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
