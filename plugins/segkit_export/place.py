"""The output of an export: checked before the work begins, written at its end; only earlier exports are replaced."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from segkit.errors import ConfigError, PluginError, did_you_mean, first_few

MARK = "segkit_export"  # stands in every written file; a later export replaces only files that contain it
CARD = "README.md"
FORMATS = {"onnx": "model.onnx", "torch-export": "model.pt2", "safetensors": "model.safetensors"}


@dataclass(frozen=True)
class Place:
    """An output folder and the names of the files to write, the model's file first."""

    to: str
    folder: Path
    names: tuple[str, ...]


def find_place(to: str, output: Path) -> Place:
    """Return the place that ``--output`` names.

    Raises:
        ConfigError: the format is unknown, the suffix belongs to another format, or a file there is not from an export.
        PluginError: packages that the format needs are not installed.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to}: allowed are {', '.join(FORMATS)}{did_you_mean(to, FORMATS)}")
    name, rest = FORMATS[to], ("config.json", CARD) if to == "safetensors" else (CARD,)
    folder = output
    if output.suffix in {Path(each).suffix for each in FORMATS.values()} and not output.is_dir():
        if to == "safetensors":
            raise ConfigError(
                f"--output {output}: safetensors is a folder of {first_few([name, *rest])}; give a folder"
            )
        if output.suffix != Path(name).suffix:
            raise ConfigError(f"--output {output}: a file of --to {to} ends in {Path(name).suffix}")
        folder, name = output.parent, output.name
    needed = ("onnx", "onnxscript", "onnxruntime") if to == "onnx" else ()
    if missing := [each for each in needed if find_spec(each) is None]:
        raise PluginError(f"--to onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is not a folder; give another place")
    from segkit_samples.marked import refuse_foreign  # imports Pillow; --help imports this file

    refuse_foreign([folder / each for each in (name, *rest)], f"--output {folder}", MARK)
    return Place(to, folder, (name, *rest))


@contextlib.contextmanager
def filled(place: Place) -> Iterator[Path]:
    """Yield a temporary folder whose files are moved into the place at the end of the block; after an error none are.

    Raises:
        ConfigError: the output folder cannot be written.
    """
    near = next(each for each in (place.folder, *place.folder.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=near) as temporary:
            yield Path(temporary)
            place.folder.mkdir(parents=True, exist_ok=True)
            for name in place.names:
                (Path(temporary) / name).replace(place.folder / name)
    except OSError as error:
        raise ConfigError(
            f"--output {place.folder} cannot be written: {error.strerror or error}; give another place"
        ) from error
