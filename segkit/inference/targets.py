"""What is written for each image, and that it takes the place of nothing but earlier predictions."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.data.splits import composed
from segkit.data.visualize import is_prediction
from segkit.errors import ConfigError, first_few, one_line

ARRAYS = ("probabilities", "classes")  # of a NAME.npz
LONGEST_STEM = 200  # bytes: most file systems allow 255, and a number, an ending and what is temporary are added


@dataclass(frozen=True)
class Wanted:
    """Which files are written beside each mask."""

    overlay: bool = True
    probabilities: bool = False
    errors: bool = False


@dataclass(frozen=True)
class Target:
    """The files of one image."""

    mask: Path
    wanted: Wanted

    @property
    def overlay(self) -> Path:
        """The image under the colours of its classes."""
        return self.mask.with_name(f"{self.mask.stem}_overlay.jpg")

    @property
    def probabilities(self) -> Path:
        """float16 ``[C,H,W]`` and the names of the classes."""
        return self.mask.with_suffix(".npz")

    @property
    def errors(self) -> Path:
        """Image, truth, prediction and errors side by side."""
        return self.mask.with_name(f"{self.mask.stem}_error.png")

    @property
    def files(self) -> list[Path]:
        """All that are written."""
        chosen = [(self.overlay, self.wanted.overlay), (self.probabilities, self.wanted.probabilities)]
        return [self.mask, *(path for path, wanted in [*chosen, (self.errors, self.wanted.errors)] if wanted)]


def name_targets(images: Sequence[Path], out: Path, wanted: Wanted, quiet: bool = False) -> list[Target]:
    """The files of each image; images of one stem are numbered, long names cut, and no image is written over.

    Raises:
        ConfigError: a file would take the place of an image, or of one that is no prediction.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last one that was given to a stem
    targets = []
    for image in images:
        name = stem = _short(image.stem)
        number = numbers.get(stem, 1)
        while taken & _reserved(name, wanted):
            number += 1
            name = f"{stem}_{number}"
        numbers[stem] = number
        taken |= _reserved(name, wanted)
        targets.append(Target(out / f"{name}.png", wanted))
        if name != image.stem and not quiet:
            why = "the name is too long" if name == stem else f"another image is called {stem}"
            print(f"segkit: {one_line(f'{why}: {image} becomes {name}.png')}", file=sys.stderr)
    inputs = {os.path.realpath(image) for image in images}
    written = [path for target in targets for path in target.files if os.path.realpath(path) in inputs]
    if written:
        raise ConfigError(
            f"--out {out} would write over {first_few([str(path) for path in written])}; give another folder"
        )
    try:
        foreign = [str(path) for target in targets for path in _foreign(target)]
    except OSError as error:  # a path that is too long, a folder that others may not look into
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from error
    if foreign:
        raise ConfigError(f"--out {out} holds files that are no predictions: {first_few(foreign)}; give another folder")
    return targets


def _short(stem: str) -> str:
    stem = stem[:LONGEST_STEM]
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem


def _reserved(name: str, wanted: Wanted) -> set[str]:
    """Stems of the PNGs of an image; some file systems know no difference between a and A, or how ä is written."""
    return {composed(name).casefold()} | ({composed(f"{name}_error").casefold()} if wanted.errors else set())


def _foreign(target: Target) -> list[Path]:
    """Those of its files that are there and no prediction of ours, or links, which would be written through."""
    found = []
    for path in target.files:
        if path == target.overlay:  # ours are never without their mask
            ours = target.mask.exists()
        else:
            ours = _is_of_probabilities(path) if path == target.probabilities else is_prediction(path)
        if path.is_symlink() or (path.exists() and not ours):
            found.append(path)
    return found


def _is_of_probabilities(path: Path) -> bool:
    if not path.is_file():  # to open a pipe would wait for ever
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist() == [f"{name}.npy" for name in ARRAYS]
    except (OSError, zipfile.BadZipFile):
        return False
