"""Downloads the archives of Pascal VOC, verifies their checksums and unpacks them."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from segkit.errors import DataError, reason


class DownloadError(DataError):
    """An archive could not be fetched, did not match its checksum or is not safe to unpack."""


MIRRORS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",  # the older address of the same university
    "https://data.pjreddie.com/files/{name}",
)
"""Tried in turn; the checksum is the same wherever a file comes from."""

ARCHIVES = {
    "2007": (
        ("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", "train"),
        ("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", "test"),
    ),
    "2012": (("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", "train"),),
}
"""Per year: the name of each archive, its MD5 (as listed by torchvision), and a split that it contains."""

TIMEOUT = 30.0  # seconds without a response or a byte before a mirror is given up


def download(year: str, home: Path, wanted: Callable[[], Sequence[tuple[str, str]]]) -> None:
    """Download archives into a folder and unpack them there; one process does it while the others wait.

    Args:
        year: the year of the challenge.
        home: the folder; created if missing.
        wanted: returns the names and checksums of the archives that are needed; called once the folder is locked.

    Raises:
        DownloadError: no mirror delivered an archive, or it cannot be unpacked.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".VOC{year}.lock"):
            for name, checksum in wanted():
                unpack(fetch([mirror.format(year=year, name=name) for mirror in MIRRORS], home / name, checksum), home)
    except OSError as error:
        raise DownloadError(f"{home}: nothing can be downloaded to it: {reason(error)}") from error


def fetch(urls: Sequence[str], file: Path, checksum: str) -> Path:
    """Return ``file`` after checking its MD5; download it from the first working mirror if it is missing.

    Raises:
        DownloadError: an existing file has another checksum, or no mirror delivered the file; the message gives the
            reason for each mirror, and where to put the file.
    """
    if file.exists():
        if problem := _differs(file, checksum):
            raise DownloadError(f"{file}: {problem}; delete it, or put the right file there")
        return file
    part, problems = file.with_name(f"{file.name}.part"), []
    for url in urls:
        if not (problem := _copy(url, part) or _differs(part, checksum)):
            return part.replace(file)
        problems.append(f"{url}: {problem}")
        part.unlink(missing_ok=True)
    raise DownloadError(
        f"{file.name} could not be downloaded: {'; '.join(problems)}; put the file here: {file} (md5 {checksum})"
    )


def _copy(url: str, part: Path) -> str:
    """Download to ``part``, with a progress bar on a terminal; return a description of the problem, or ``""``."""
    try:
        request = Request(url, headers={"User-Agent": "segkit"})
        with urlopen(request, timeout=TIMEOUT) as answer, part.open("wb") as file:
            how: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
            with tqdm.wrapattr(answer, "read", total=answer.length, desc=part.stem, **how) as body:
                shutil.copyfileobj(body, file, 1 << 20)
    except HTTPError as error:
        return f"HTTP status {error.code} ({error.reason})"
    except URLError as error:
        return f"no connection ({reason(error.reason) if isinstance(error.reason, OSError) else error.reason})"
    except (OSError, HTTPException) as error:
        return reason(error) or type(error).__name__
    return ""


def _differs(file: Path, checksum: str) -> str:
    """Return ``""``, or a description of both checksums if they differ."""
    with file.open("rb") as source:
        found = hashlib.file_digest(source, "md5").hexdigest()
    return "" if found == checksum else f"its md5 is {found}, not {checksum}"


def unpack(archive: Path, home: Path) -> None:
    """Unpack an archive with a verified checksum; :func:`unfinished` is true until all of it is unpacked.

    Raises:
        DownloadError: the archive is not a tar file, or its content cannot be written.
    """
    marker = home / f".{archive.name}.unpacking"
    try:
        marker.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r:") as source:
            # the filter refuses devices, and links and paths outside the folder; Python before 3.11.4 has no filters
            source.extraction_filter = getattr(tarfile, "data_filter", None)
            source.extractall(home)
        marker.rmdir()
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        raise DownloadError(f"{archive}: not unpacked into {home}: {reason(error)}; run it again") from error


def unfinished(archive: Path, home: Path) -> bool:
    """Whether an earlier :func:`unpack` of this archive was interrupted."""
    return (home / f".{archive.name}.unpacking").exists()
