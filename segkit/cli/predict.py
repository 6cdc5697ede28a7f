"""The command ``predict``: masks and overlays of images, by a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.errors import ConfigError, DataError, first_few, one_line, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segkit.inference.predictor import Predictor


class Predict:
    """Predict the classes of images with a trained model.

    For each image two files of its own size: NAME.png, whose palette indices are the classes, and
    NAME_overlay.jpg. An image that cannot be read is named, and the others are done.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Run, images, and where to write."""
        parser.add_argument("run", help="a run folder, or model.safetensors, best.pt or last.pt in it")
        parser.add_argument("images", nargs="+", type=Path, help="image files, and folders of them")
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write to")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Predict; 0 when every image was done, 1 when some could not be."""
        import numpy as np
        from tqdm import tqdm

        from segkit.loading import load

        images = list_images(arguments.images)
        targets = name_targets(images, arguments.out)
        predictor = load(arguments.run, device=arguments.device, precision=arguments.precision)
        with _writing(arguments.out):
            arguments.out.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros(len(predictor.classes), np.int64)
        failed = 0
        for image, target in tqdm(list(zip(images, targets, strict=True)), unit="image", leave=False, disable=None):
            try:
                pixels += _predict(predictor, image, target)
            except DataError as error:
                failed += 1
                tqdm.write(f"segkit: {printable(error)}", file=sys.stderr)
        print(f"{len(images) - failed} of {len(images)} images predicted, written to {one_line(arguments.out)}")
        if pixels.any():
            print(printable(class_shares(predictor.classes, pixels)))
        return 1 if failed else 0


def list_images(places: Sequence[Path]) -> list[Path]:
    """The files, and the images directly in the folders, in order; a file that is named twice comes once.

    Raises:
        DataError: a folder holds none.
    """
    from segkit.data.pairing import SUFFIXES

    found = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            raise DataError(f"{place} holds no image; looked for {', '.join(SUFFIXES)}")
        found += inside
    return list({file.resolve(): file for file in found}.values())


def name_targets(images: Sequence[Path], out: Path) -> list[Path]:
    """A mask's path for each image; images of one stem are numbered, and no image is written over.

    Raises:
        ConfigError: a mask or an overlay would take the place of an image.
    """
    taken: set[str] = set()
    targets = []
    for image in images:
        name, number = image.stem, 1
        while name.casefold() in taken:  # some file systems know no difference between a and A
            number += 1
            name = f"{image.stem}_{number}"
        taken.add(name.casefold())
        targets.append(out / f"{name}.png")
        if number > 1:
            told = f"another image is called {image.stem}: {image} becomes {name}.png"
            print(f"segkit: {one_line(told)}", file=sys.stderr)
    inputs = {image.resolve() for image in images}
    written = [path for target in targets for path in (target, _overlay(target)) if path.resolve() in inputs]
    if written:
        raise ConfigError(
            f"--out {out} would write over {first_few([str(path) for path in written])}; give another folder"
        )
    from segkit.data.pictures import is_prediction

    foreign = [str(target) for target in targets if target.exists() and not is_prediction(target)]
    overlays = [(_overlay(target), target) for target in targets]  # ours are never without their mask
    foreign += [str(path) for path, target in overlays if path.exists() and not target.exists()]
    foreign += [str(path) for pair in overlays for path in pair if path.is_symlink()]  # would be written through
    if foreign:
        raise ConfigError(f"--out {out} holds files that are no predictions: {first_few(foreign)}; give another folder")
    return targets


def class_shares(classes: Sequence[str], pixels: NDArray[Any]) -> str:
    """What was predicted, by share of all pixels: a model that knows only the background shows here."""
    shares = sorted(zip(pixels / pixels.sum(), classes, strict=True), key=lambda pair: -pair[0])
    lines = [f"pixels: {', '.join(f'{name} {share:.1%}' for share, name in shares if share > 0)}"]
    never = [name for name, count in zip(classes, pixels, strict=True) if not count]
    if never:
        lines.append(f"never predicted: {', '.join(never)}")
    return "\n".join(lines)


def _overlay(target: Path) -> Path:
    return target.with_name(f"{target.stem}_overlay.jpg")


def _predict(predictor: Predictor, image: Path, target: Path) -> NDArray[Any]:
    """Write the two files of an image; returns the pixels of each class."""
    import numpy as np
    from PIL import Image

    from segkit.data.pictures import overlay, save_palette_png
    from segkit.data.read import read_image

    pixels = read_image(image)
    mask = predictor.predict(pixels)
    blended = overlay(pixels, mask, predictor.palette, predictor.ignore_index)
    with _writing(target.parent):
        save_palette_png(mask, predictor.palette, target, predictor.ignore_index)
        Image.fromarray(blended).save(_overlay(target), quality=90)
    return np.bincount(mask.ravel(), minlength=len(predictor.classes))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be written: {error}") from error
