"""Unpack a tar archive that is not trusted: all of it or nothing, and only inside one folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from segkit.errors import DownloadError, reason

MOST_LEVELS = 32  # folders in one another; VOC has five, and the system's own limit is not told as one
FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE)


def extract(archive: Path, target: Path, *, most_bytes: int | None = None, most_members: int = 500_000) -> None:
    """Unpack ``archive`` into the folder ``target``, beside what is there.

    The files are written to a folder of their own and moved when all are there; while that folder
    exists the work is :func:`unfinished`. tarfile's own extraction is not used: its filters have been
    bypassed (CVE-2025-4517). Here a member's bytes are copied to a new file, and that is all.

    Args:
        archive: an uncompressed tar file.
        target: the folder, made where missing.
        most_bytes: the size of all files together; None: the size of the archive, which the files
            of an uncompressed one cannot honestly exceed.
        most_members: the number of files and folders.

    Raises:
        DownloadError: it is no tar file, or has a link, a device, a sparse file, an absolute path or
            ``..``, lies too deep, or is too large; ``target`` is then as it was.
    """
    work = _work_folder(archive, target)
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        _write(archive, work, archive.stat().st_size if most_bytes is None else most_bytes, most_members)
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        shutil.rmtree(work, ignore_errors=True)
        member = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        raise DownloadError(f"{archive}: not unpacked into {target}: {reason(error)}{member}") from error
    try:
        _merge(work, target)
    except OSError as error:
        why = f"unpacking into {target} stopped half-way: {reason(error)}"
        raise DownloadError(f"{archive}: {why}; run it again") from error
    shutil.rmtree(work, ignore_errors=True)


def unfinished(archive: Path, target: Path) -> bool:
    """True where an earlier :func:`extract` of this archive was interrupted."""
    return _work_folder(archive, target).exists()


def _work_folder(archive: Path, target: Path) -> Path:
    return target / f".{archive.name}.unpacking"  # in the target, so that the move is a rename


def _write(archive: Path, work: Path, most_bytes: int, most_members: int) -> None:
    size = 0
    with tarfile.open(archive, "r:") as source:  # uncompressed only: no compression, no compression bomb
        progress = tqdm(source, f"unpacking {archive.name}", unit=" files", disable=None)  # only on a terminal
        for count, member in enumerate(progress, start=1):
            if count > most_members:
                raise ValueError(f"it has more than {most_members} members")
            path = work.joinpath(*_safe_parts(member.name))
            if member.type == tarfile.DIRTYPE:
                path.mkdir(parents=True, exist_ok=True)
                continue
            content = source.extractfile(member) if member.type in FILE_TYPES and not member.issparse() else None
            if content is None:
                raise ValueError(f"{member.name!r} is a link, a device or a sparse file; only files and folders may be")
            size += member.size
            if member.size < 0 or size > most_bytes:
                raise ValueError(f"its files are larger than {most_bytes} bytes together")
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("xb") as sink:  # "x": a second member of that name is refused
                shutil.copyfileobj(content, sink, 1 << 20)


def _safe_parts(name: str) -> tuple[str, ...]:
    path = PureWindowsPath(name)  # knows "/" and "\" and drives, so it finds everything that any system would
    if path.anchor or ".." in path.parts or "\0" in name:
        raise ValueError(f"{name!r} points outside the folder")
    if len(path.parts) > MOST_LEVELS:
        raise ValueError(f"{name[:80]!r}... lies more than {MOST_LEVELS} folders deep")
    return path.parts


def _merge(source: Path, target: Path) -> None:
    """Move what is in ``source`` into ``target``: a folder that is new there in one rename."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            entry.replace(place)
