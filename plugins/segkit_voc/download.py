"""Fetch one file over HTTP: mirrors in turn, resumed where it was cut, verified before anything reads it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from segkit.errors import DownloadError, reason

CHUNK = 1 << 20  # bytes


def fetch(urls: Sequence[str], file: Path, checksum: str, *, timeout: float = 30.0, most_bytes: int = 1 << 36) -> Path:
    """Return ``file`` once its content has the checksum; download it where it is not there.

    A transfer that is cut stays in ``<file>.part`` and is continued by the next mirror or the next
    call; one with a wrong checksum is removed.

    Args:
        urls: mirrors, tried in turn.
        file: where the file belongs, in a folder that exists; one that a person has put there is
            verified and used.
        checksum: ``"md5:..."``, ``"sha256:..."`` or another algorithm of ``hashlib``, in hexadecimal.
        timeout: seconds without an answer or a byte after which a mirror is given up.
        most_bytes: the longest file accepted, so that an endless answer cannot fill the disk.

    Raises:
        DownloadError: no mirror delivered the file; the message says why for each, and where to put it.
    """
    if file.exists():
        if problem := _differs(file, checksum):
            raise DownloadError(f"{file}: {problem}; delete it, or put the right file there")
        return file
    part = file.with_name(file.name + ".part")
    problems = []
    for url in urls:
        resumed = part.exists()
        problem = _try(url, part, checksum, timeout, most_bytes)
        if problem and resumed and not part.exists():  # the bad bytes may be those of an earlier call
            problem = _try(url, part, checksum, timeout, most_bytes)
        if not problem:
            part.replace(file)
            return file
        problems.append(f"{url}: {problem}")
    size = part.stat().st_size if part.exists() else 0
    if not size:
        part.unlink(missing_ok=True)
    kept = f"; {size} bytes are kept in {part}, the next try continues there" if size else ""
    raise DownloadError(
        f"{file.name} could not be downloaded: {'; '.join(problems)}{kept}; put the file here: {file} ({checksum})"
    )


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Hold the lock ``file``, so that of several processes of a run one downloads and the others wait.

    Where the download fails before anything came, the folders that were made for it are removed again.
    """
    made = [place for place in (file.parent, *file.parent.parents) if not place.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("w")
    except OSError as error:
        raise DownloadError(f"{file.parent}: nothing can be downloaded to it: {reason(error)}") from error
    with handle:
        if sys.platform != "win32":  # there is no flock there; a single process needs none
            import fcntl

            with suppress(OSError):  # some network file systems know no locks either
                fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # a part that can be resumed keeps its folder
                file.unlink()
                for place in made:
                    place.rmdir()
            raise


def _try(url: str, part: Path, checksum: str, timeout: float, most_bytes: int) -> str:
    """Download and verify; the problem in words, or ``""``. A bad part is removed, a cut one kept."""
    try:
        _transfer(url, part, timeout, most_bytes)
        problem = _differs(part, checksum)
    except HTTPError as error:
        return f"HTTP status {error.code} ({error.reason})"
    except URLError as error:
        return f"no connection ({reason(error)})"
    except (OSError, HTTPException) as error:
        return reason(error) or type(error).__name__
    if problem:
        part.unlink()
    return problem


def _transfer(url: str, part: Path, timeout: float, most_bytes: int) -> None:
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "segkit"}  # some servers refuse Python's own
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code == 416 and start:
            return  # nothing is left to send: the checksum decides
        raise
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise OSError("a web page came instead of the file")
        if answer.status != 206:  # the server ignores Range and sends everything
            start = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError(f"asked for the bytes from {start}, the answer has {answer.headers.get('Content-Range')}")
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        with (
            part.open("ab" if start else "wb") as sink,
            # disable=None: no bar where the output is not a terminal
            tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := answer.read(CHUNK):
                start += len(block)
                if start > most_bytes:
                    part.unlink()
                    raise OSError(f"more than {most_bytes} bytes were sent")
                sink.write(block)
                bar.update(len(block))
    if total is not None and start < total:
        raise OSError(f"the transfer was cut after {start} of {total} bytes")


def _differs(file: Path, checksum: str) -> str:
    """``""``, or both checksums in words."""
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as source:
        found = hashlib.file_digest(source, algorithm).hexdigest()
    return "" if found == expected.lower() else f"its {algorithm} is {found}, not {expected}"
