"""The names of the output files of each image; they may replace earlier predictions, and no other files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkit.data.read import file_of
from segkit.errors import ConfigError, first_few
from segkit_folder.splits import composed
from segkit_readers.joined import places_of
from segkit_samples.marked import refuse_foreign

ENDINGS = {  # kind of output -> ending of its file name
    "mask": ".png",
    "overlay": "_overlay.jpg",  # the image under the colours of its classes
    "geotiff": ".tif",  # the mask with the georeference of the image, if it has one
    "probabilities": ".npz",  # float16 [C,H,W] and the class names
    "errors": "_error.png",  # image, ground truth, prediction and errors side by side
}
_WITH_A_PLACE = (".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c")  # may hold a georeference


def name_outputs(images: Mapping[Path, str], out: Path, kinds: Sequence[str]) -> list[dict[str, Path]]:
    """Choose the output files of each image, by kind.

    If images share a name, the outputs repeat their subfolders below their common folder; if some are still equal, the
    names end in the suffixes of the images too: ``1_jpg.png`` and ``1_png.png``.

    Args:
        images: images to predict -> their names.
        out: the output folder.
        kinds: keys of :data:`ENDINGS`.

    Raises:
        ConfigError: a file would overwrite an input image, the output of another image, or a file that is not a
            prediction.
    """
    firsts = [Path(os.path.abspath(file_of(places_of(image)[0])[0])) for image in images]  # noqa: PTH100  (leaves "..")
    names = list(images.values())
    if _repeated(names):
        shared = os.path.commonpath([first.parent for first in firsts])
        below = [first.parent.relative_to(shared) for first in firsts]
        names = [(folder / name).as_posix() for folder, name in zip(below, names, strict=True)]
    if _repeated(names):
        names = [f"{name}_{first.suffix[1:]}" for name, first in zip(names, firsts, strict=True)]
    outputs = [
        {
            kind: out / f"{name}{ENDINGS[kind]}"
            for kind in kinds
            if kind != "geotiff" or first.suffix.lower() in _WITH_A_PLACE
        }
        for name, first in zip(names, firsts, strict=True)
    ]
    written = [path for files in outputs for path in files.values()]
    inputs = {os.path.realpath(file) for image in images for file in places_of(image)}
    if over := [str(path) for path in written if os.path.realpath(path) in inputs]:
        raise ConfigError(f"--out {out} would write over {first_few(over)}; give another folder")
    if twice := _repeated([*map(str, written)]):
        raise ConfigError(f"--out {out}: several images would be written to {first_few(twice)}; predict them apart")
    refuse_foreign(written, f"--out {out}")
    return outputs


def _repeated(names: Sequence[str]) -> list[str]:
    """Return the names that occur more than once; some file systems ignore case and Unicode composition."""
    times = Counter(composed(name).casefold() for name in names)
    return [name for name in names if times[composed(name).casefold()] > 1]
