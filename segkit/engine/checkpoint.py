"""Checkpoints that are either the old file or the new one, never half of one; loaded without unpickling code."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from segkit.errors import CheckpointError, WriteError, first_few, reason
from segkit.model.weights import is_dense

FORMAT = 2  # 1 kept the state of the random number generators, and none within an epoch


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], Any],
    *,
    durable: bool = True,
    check: Callable[[Path], None] | None = None,
    needed: int = 0,
) -> None:
    """Call ``write(binary file)`` on a temporary file and put it in the place of ``path``.

    Args:
        path: of the file.
        write: what writes it.
        durable: whether to wait until it is on the disk; not needed for what can be written again.
        check: raises an OSError where the temporary file, read again, is not what was written.
        needed: bytes, for the message where they could not be written.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if check:
            check(temporary)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk with a RuntimeError, in words of its own
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise  # of a card that has failed, whose weights cannot be read
        why = "not all of it was taken" if isinstance(error, RuntimeError) else reason(error)
        told = f"{path} could not be written: {why}{_room(path, needed)}; what was there is intact"
        raise WriteError(told) from error
    finally:  # after Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, read it again, and put it in place; the one that was there becomes ``previous.pt``.

    Raises:
        WriteError: the disk is full or the folder cannot be written; what was there is intact.
    """

    def check(temporary: Path) -> None:
        if damaged := _damaged(temporary):
            raise OSError(f"{damaged} in it is not what was written")
        if path.exists():
            link(path, path.with_name("previous.pt"))

    write_atomically(
        path, lambda file: torch.save({"format": FORMAT, **state}, file), check=check, needed=_size_of(state)
    )


def link(path: Path, name: Path) -> None:
    """Give a file a second name, in place of what had it; where a file system has no hard links, to a copy.

    Raises:
        OSError: it cannot be.
    """
    temporary = name.with_name(f".{name.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(name)
    temporary.unlink(missing_ok=True)  # a rename does nothing where both are names of one file already


def _size_of(value: Any) -> int:
    """Bytes of all tensors in it."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return sum(_size_of(each) for each in inside)


def _damaged(path: Path) -> str | None:
    """A part of a checkpoint that does not match its checksum, which torch.load does not look at."""
    if not path.is_file():  # to open a pipe would wait for ever
        raise FileNotFoundError(path)
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; a few kB would unpack to any size
                raise zipfile.BadZipFile(f"{part.filename} in it is compressed")
            if part.external_attr:  # torch would take it for a folder, and read what happens to be in the memory
                return part.filename
        return archive.testzip()


def _room(path: Path, needed: int) -> str:
    """What a file needs and what there is, in words."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f" ({f'{needed:,} bytes are needed, ' if needed else ''}{free:,} are free on the disk)"


def load(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, truncated, damaged (its checksums do not match), holding more than tensors, or
            without one of the ``keys``.
    """
    try:
        if damaged := _damaged(path):
            raise CheckpointError(f"{path} is damaged: {damaged} in it does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors and plain values; it was not loaded") from error
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # what torch and zipfile raise at a file that was made to harm is anything
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one: {reason(error)}") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise CheckpointError(f"{path} is not a checkpoint of segkit")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, of another version of segkit; this one reads {FORMAT}"
        )
    if missing := [key for key in keys if key not in state]:
        raise CheckpointError(f"{path} is no checkpoint to go on from: it lacks {first_few(missing)}")
    return state


def load_last(folder: Path, keys: Collection[str]) -> tuple[dict[str, Any], str]:
    """The last checkpoint of a run folder, or the one before where that is damaged, and a line that says so.

    Raises:
        CheckpointError: there is none that can be used.
    """
    try:
        return load(folder / "last.pt", keys), ""
    except CheckpointError as error:
        with contextlib.suppress(CheckpointError):
            return load(folder / "previous.pt", keys), f"{error}; going on from previous.pt"
        if not (folder / "last.pt").exists():
            raise CheckpointError(f"{folder}: nothing to resume, it holds no last.pt") from error
        raise


def load_weights(model: nn.Module, weights: dict[str, Any], place: str) -> None:
    """Load a state dict into a model; either may be compiled, or wrapped by DataParallel.

    Raises:
        CheckpointError: the weights are another model's; missing, unexpected and mismatched keys are listed.
    """
    expected = model.state_dict()
    own = {plain: key for key, plain in plain_keys(expected).items()}
    weights = {own.get(plain, key): weights[key] for key, plain in plain_keys(weights).items()}
    odd = [key for key, value in weights.items() if not is_dense(value)]
    if odd:
        raise CheckpointError(f"{place} holds other values than tensors: {first_few(odd, 3)}")
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


def plain_keys(keys: Iterable[str]) -> dict[str, str]:
    """The names of a model's tensors, each with it without what torch.compile and DataParallel put into all of them."""
    found = {key: key.replace("_orig_mod.", "") for key in keys}
    wrapped = all(
        plain.startswith("module.") for plain in found.values()
    )  # else a layer of the model's own is called so
    return {key: plain.removeprefix("module.") for key, plain in found.items()} if wrapped else found


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        with contextlib.suppress(OSError):  # there are file systems that cannot, and the file itself is written
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
