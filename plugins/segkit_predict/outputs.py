"""The files that are written for each image; they take the place of earlier predictions, and of nothing else."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkit.data.read import places_of
from segkit.errors import ConfigError, first_few, one_line
from segkit_folder.splits import composed
from segkit_samples.sheets import is_prediction

ENDINGS = {  # what is written -> how its name ends
    "mask": ".png",
    "overlay": "_overlay.jpg",  # the image under the colours of its classes
    "geotiff": ".tif",  # of images that say where on Earth they lie, the mask at the same place
    "probabilities": ".npz",  # float16 [C,H,W] and the names of the classes
    "errors": "_error.png",  # image, ground truth, prediction and errors side by side
}
_WITH_A_PLACE = (".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c")  # what may say where on Earth it lies
LONGEST_STEM = 200  # bytes: most file systems allow 255, and a number, an ending and a temporary one are added


def name_outputs(
    images: Mapping[Path, str], out: Path, kinds: Sequence[str], quiet: bool = False
) -> list[dict[str, Path]]:
    """The files of each image by kind; long names are cut, and no image is written over.

    Where images of several folders have one name, the files lie in the folders that the images have below the folder
    they share; what is of one name even so is numbered.

    Args:
        images: that are predicted -> what they are called.
        out: the folder for the files.
        kinds: of :data:`ENDINGS`.
        quiet: whether images that get another name are not told of.

    Raises:
        ConfigError: a file would take the place of an image, or of one that is no prediction.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one that was given to a stem
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
    except OSError as error:  # a path that is too long, a folder that others may not look into
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
    if foreign:
        raise ConfigError(f"--out {out} holds files that are no predictions: {first_few(foreign)}; give another folder")
    return outputs


def _reserved(name: str, kinds: Sequence[str]) -> set[str]:
    """Stems of the PNGs of an image; some file systems know no difference between a and A, or how ä is written."""
    return {composed(each).casefold() for each in (name, *([f"{name}_error"] if "errors" in kinds else []))}


def _replaceable(kind: str, path: Path, outputs: dict[str, Path]) -> bool:
    """Whether nothing is there, or an earlier prediction; a link would be written through."""
    if path.is_symlink() or not path.exists():
        return not path.is_symlink()
    if kind == "overlay":  # ours are never without their mask
        return outputs["mask"].exists()
    if kind != "probabilities":
        return is_prediction(path)
    if not path.is_file():  # to open a pipe would wait for ever
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist() == ["probabilities.npy", "classes.npy"]
    except zipfile.BadZipFile:
        return False
