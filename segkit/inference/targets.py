"""What is written for each image, and that it takes the place of nothing but earlier predictions."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.data.pictures import is_prediction
from segkit.errors import ConfigError, first_few, one_line

ARRAYS = ("probabilities", "classes")  # of a NAME.npz


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
    """The files of each image; images of one stem are numbered, and no image is written over.

    Raises:
        ConfigError: a file would take the place of an image, or of one that is no prediction.
    """
    taken: set[str] = set()
    targets = []
    for image in images:
        name, number = image.stem, 1
        while taken & _reserved(name, wanted):
            number += 1
            name = f"{image.stem}_{number}"
        taken |= _reserved(name, wanted)
        targets.append(Target(out / f"{name}.png", wanted))
        if number > 1 and not quiet:
            told = f"another image is called {image.stem}: {image} becomes {name}.png"
            print(f"segkit: {one_line(told)}", file=sys.stderr)
    inputs = {image.resolve() for image in images}
    written = [path for target in targets for path in target.files if path.resolve() in inputs]
    if written:
        raise ConfigError(
            f"--out {out} would write over {first_few([str(path) for path in written])}; give another folder"
        )
    foreign = [str(path) for target in targets for path in _foreign(target)]
    if foreign:
        raise ConfigError(f"--out {out} holds files that are no predictions: {first_few(foreign)}; give another folder")
    return targets


def _reserved(name: str, wanted: Wanted) -> set[str]:
    """Stems of the PNGs of an image; some file systems know no difference between a and A."""
    return {name.casefold()} | ({f"{name}_error".casefold()} if wanted.errors else set())


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
