"""The names of the output files of each image; they may replace earlier predictions, and no other files."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkit.errors import ConfigError, first_few, one_line
from segkit_folder.splits import composed
from segkit_readers.joined import places_of
from segkit_samples.sheets import is_prediction

ENDINGS = {  # kind of output -> ending of its file name
    "mask": ".png",
    "overlay": "_overlay.jpg",  # the image under the colours of its classes
    "geotiff": ".tif",  # the mask with the georeference of the image, if it has one
    "probabilities": ".npz",  # float16 [C,H,W] and the class names
    "errors": "_error.png",  # image, ground truth, prediction and errors side by side
}
_WITH_A_PLACE = (".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c")  # may hold a georeference
LONGEST_STEM = 200  # bytes: most file systems allow 255; a number, an ending and a temporary suffix are added


def name_outputs(
    images: Mapping[Path, str], out: Path, kinds: Sequence[str], quiet: bool = False
) -> list[dict[str, Path]]:
    """Choose the output files of each image, by kind; long names are cut, and no input image is overwritten.

    If images share a name, the output repeats their subfolders below their common folder; names that are still equal
    get a number.

    Args:
        images: images to predict -> their names.
        out: the output folder.
        kinds: keys of :data:`ENDINGS`.
        quiet: do not report images whose output gets another name.

    Raises:
        ConfigError: a file would overwrite an input image, or a file that is not a prediction.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # stem -> the last number used
    outputs = []
    folders = [Path(os.path.abspath(places_of(image)[0])).parent for image in images]  # noqa: PTH100  (that leaves "..")
    alike = len({composed(called).casefold() for called in images.values()}) < len(images)
    for (image, called), folder in zip(images.items(), folders, strict=True):
        below = folder.relative_to(os.path.commonpath(folders)) if alike else Path()
        short = os.fsencode(called)[:LONGEST_STEM].decode(errors="ignore")
        name = stem = (below / (called if len(os.fsencode(called)) <= LONGEST_STEM else short)).as_posix()
        while taken & _reserved(name, kinds):
            numbers[stem] = numbers.get(stem, 1) + 1
            name = f"{stem}_{numbers[stem]}"
        taken |= _reserved(name, kinds)
        has_place = places_of(image)[0].suffix.lower() in _WITH_A_PLACE
        outputs.append({kind: out / f"{name}{ENDINGS[kind]}" for kind in kinds if kind != "geotiff" or has_place})
        if name != (below / called).as_posix() and not quiet:
            why = "the name is too long" if name == stem else f"another image is called {stem}"
            print(f"segkit: {one_line(f'{why}: {image} becomes {name}.png')}", file=sys.stderr)
    inputs = {os.path.realpath(file) for image in images for file in places_of(image)}
    written = [str(path) for each in outputs for path in each.values() if os.path.realpath(path) in inputs]
    if written:
        raise ConfigError(f"--out {out} would write over {first_few(written)}; give another folder")
    try:
        foreign = [str(path) for each in outputs for kind, path in each.items() if not _replaceable(kind, path, each)]
    except OSError as error:  # the path is too long, or a folder may not be read
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
    if foreign:
        raise ConfigError(f"--out {out} holds files that are no predictions: {first_few(foreign)}; give another folder")
    return outputs


def _reserved(name: str, kinds: Sequence[str]) -> set[str]:
    """Return the stems of an image's PNGs, normalised: some file systems ignore case and Unicode composition."""
    return {composed(each).casefold() for each in (name, *([f"{name}_error"] if "errors" in kinds else []))}


def _replaceable(kind: str, path: Path, outputs: dict[str, Path]) -> bool:
    """Whether the path is free or holds an earlier prediction; never a link, whose target would be overwritten."""
    if path.is_symlink() or not path.exists():
        return not path.is_symlink()
    if kind == "overlay":  # an overlay is never written without its mask
        return outputs["mask"].exists()
    if kind != "probabilities":
        return is_prediction(path)
    if not path.is_file():  # opening a pipe would block
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist() == ["probabilities.npy", "classes.npy"]
    except zipfile.BadZipFile:
        return False
