"""Where an export is written: checked before the work begins, filled at its end, nothing of others replaced."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from segkit.errors import ConfigError, PluginError, did_you_mean, first_few

MARK = "segkit_export"  # in all that is written, by which the next export knows what it may replace
CARD = "README.md"
FORMATS = {"onnx": "model.onnx", "torch-export": "model.pt2", "safetensors": "model.safetensors"}
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Place:
    """A folder and the names of the files that come into it, the model's first."""

    to: str
    folder: Path
    names: tuple[str, ...]

    @property
    def model(self) -> Path:
        """The file that holds the model."""
        return self.folder / self.names[0]


def find_place(to: str, output: Path | None, run: Path | None = None) -> Place:
    """The place that ``--output`` names, or the run's own folder for exports.

    Raises:
        ConfigError: there is no such format, or a file's name is another format's.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to}: allowed are {', '.join(FORMATS)}{did_you_mean(to, FORMATS)}")
    name, rest = FORMATS[to], ("config.json", CARD) if to == "safetensors" else (CARD,)
    if output is None:
        folder = run if run is None or run.is_dir() else run.parent
        output = (folder or Path()) / "export" / to
    suffixes = {Path(each).suffix: each for each in FORMATS.values()}
    if output.suffix not in suffixes or output.is_dir():
        return Place(to, output, (name, *rest))
    if to == "safetensors":
        raise ConfigError(f"--output {output}: safetensors is a folder of {first_few([name, *rest])}; give a folder")
    if output.suffix != Path(name).suffix:
        raise ConfigError(f"--output {output}: a file of --to {to} ends in {Path(name).suffix}")
    return Place(to, output.parent, (output.name, *rest))


def require_packages(to: str) -> None:
    """Refuse what needs packages that are not installed.

    Raises:
        PluginError: with the command that installs them.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None] if to == "onnx" else []
    if missing:
        raise PluginError(f"--to onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")


def refuse_foreign(place: Place) -> None:
    """Refuse a place that is no folder, or that holds files of others.

    Raises:
        ConfigError: which, and what to do.
    """
    if place.folder.exists() and not place.folder.is_dir():
        raise ConfigError(f"--output {place.folder} is not a folder; give another place")
    foreign = [name for name in place.names if not _replaceable(place.folder / name)]
    if foreign:
        raise ConfigError(
            f"{place.folder} holds {first_few(foreign)}, which no export has written; give another folder with --output"
        )


@contextlib.contextmanager
def filled(place: Place) -> Iterator[Path]:
    """A temporary folder; what is in it at the end of the block comes into the place, and nothing after an error.

    Raises:
        ConfigError: the place cannot be written.
    """
    refuse_foreign(place)
    missing = [folder for folder in (place.folder, *place.folder.parents) if not folder.exists()]
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=place.folder) as temporary:
            yield Path(temporary)
            for name in place.names:
                (Path(temporary) / name).replace(place.folder / name)
    except OSError as error:
        raise ConfigError(
            f"--output {place.folder} cannot be written: {error.strerror or error}; give another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # those that are not empty stay
            for folder in missing:
                folder.rmdir()


def _replaceable(path: Path) -> bool:
    """Whether nothing is there, or a file that an export has written."""
    if not path.exists() and not path.is_symlink():
        return True
    if path.is_symlink() or not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(MARK.encode()) >= 0
