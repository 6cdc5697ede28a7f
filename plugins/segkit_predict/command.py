"""The command line of ``predict``: its options, and the report at the end."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segkit
from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ConfigError, DataError, one_line
from segkit.signals import STOP
from segkit_inspect.describe import descriptions

if TYPE_CHECKING:
    from segkit_predict.writer import Writer

TTA = {"flips": "horizontal", "scales": (0.75, 1.0, 1.25)}  # six views

_NO_RASTERIO = (
    "the masks do not: they are PNG, of the same size, pixel for pixel; after python -m pip install 'segkit[geo]' they "
    "are written as GeoTIFF too"
)
_METAVARS = {"tile": "PIXELS", "overlap": "SHARE", "batch_size": "TILES", "flips": "HOW", "scales": "0.75,1,1.25"}


def _given(text: str, name: str) -> Any:
    """Parse an option's text as a TOML value, or return the text itself; ``scales`` is always a list."""
    values: list[Any] = [text]
    with suppress(tomllib.TOMLDecodeError):
        values = tomllib.loads(f"value = [{text}]")["value"]
    return values if name == "scales" or len(values) != 1 else values[0]


class Predict:
    """Predict the classes of images with a trained model, or with the mean of several.

    Writes for each image, with its name and size: NAME.png, whose palette indices are the classes, and
    NAME_overlay.jpg; for a GeoTIFF, with rasterio, also NAME.tif, the georeferenced mask; with --probabilities
    NAME.npz; with --compare-with NAME_error.png. An image that cannot be read is reported, and the other images
    are predicted. Large images are predicted in overlapping tiles, in memory that does not grow with their height.

    The first argument is a run. Further runs (folders with a run.json or config.json, or weight files) may follow;
    the probabilities of all runs are averaged at each pixel. All other arguments are images.
    """

    first = 3
    synonyms = ("infer", "inference")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the arguments: run, images, output folder, and options for prediction and report."""
        from segkit.inference.options import PredictOptions  # slow to import; --help imports every command

        parser.add_argument(
            "run", metavar="RUN", help="a run folder, or model.safetensors, best.pt or last.pt in it; or several"
        )
        parser.add_argument(
            "images", nargs="+", help="files, folders of them, quoted patterns ('photos/**/*.jpg'); - reads a list"
        )
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write to")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
        group = parser.add_argument_group("how an image is predicted")
        texts = descriptions(PredictOptions)
        for name in PredictOptions.model_fields:
            flag = "--flip" if name == "flips" else f"--{name.replace('_', '-')}"
            how: dict[str, Any] = {"metavar": _METAVARS[name], "default": argparse.SUPPRESS}
            group.add_argument(flag, dest=name, help=texts[name].replace("%", "%%"), **how)
        group.add_argument("--tta", action="store_true", help="as --flip horizontal --scales 0.75,1,1.25")
        group.add_argument("--max-pixels", type=_count, metavar="N", help="of an image (400,000,000: 20,000 x 20,000)")
        group = parser.add_argument_group("what is written and told")
        group.add_argument("--probabilities", action="store_true", help="write NAME.npz too: float16 [C,H,W] and names")
        group.add_argument(
            "--stored-labels",
            action="store_true",
            help="in NAME.png what the masks of the run store (their labels or colours), not the class indices",
        )
        group.add_argument("--no-overlay", action="store_true", help="write no NAME_overlay.jpg")
        group.add_argument(
            "--compare-with", type=Path, metavar="MASKS", help="folder of true masks: scores, and NAME_error.png"
        )
        group.add_argument(
            "--mask-suffix", default="", metavar="TEXT", help="what masks' names have more: _mask, or gt_{id}"
        )
        group.add_argument("--metrics", action="store_true", help="score the predictions; needs --compare-with")
        document = "out, images, skipped files, failed with the reasons, predicted: the share of each class, scores"
        add_output_options(group, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Return 0 if all images were predicted, 1 if some failed or none could be scored, 143 after SIGTERM."""
        _check(arguments)
        skipped: Counter[str] = Counter()
        writer, images = _predict(arguments, skipped)
        scores = None
        try:
            if writer.truth and len(writer.failed) < images:
                scores = writer.truth.scores()
        except DataError as error:  # all masks are void; the predictions are written anyway
            print(f"segkit: {error}", file=sys.stderr)
        shares = writer.pixels / max(1, writer.pixels.sum())  # [C]
        document = {
            "out": arguments.out,
            "images": images,
            "failed": writer.failed,
            "predicted": dict(zip(writer.predictor.classes, map(float, shares), strict=True)),
            "scores": scores,
            "skipped": dict(skipped),
            "georeferenced": writer.georeferenced,
            **({"stored_labels": writer.stored} if writer.stored else {}),
        }
        if arguments.json:
            print_json(document)
        else:
            for line in [] if arguments.quiet else _lines(document, writer):
                print(line)
            if writer.truth and scores:
                print(hanging(f"beside {one_line(arguments.compare_with)}, {writer.truth.how}:", 2))
                print(writer.truth.table(scores))
        return 1 if writer.failed or (writer.truth and not scores) else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    masks = arguments.compare_with
    if arguments.metrics and masks is None:
        raise ConfigError("--metrics compares predictions with true masks; give their folder: --compare-with MASKS")
    if arguments.mask_suffix and masks is None:
        raise ConfigError("--mask-suffix needs true masks; give their folder, --compare-with MASKS, or leave it out")
    if masks is not None and os.path.realpath(masks) == os.path.realpath(arguments.out):
        raise ConfigError(f"--out and --compare-with are the same folder, {masks}; write to another one")


def _predict(arguments: argparse.Namespace, skipped: Counter[str]) -> tuple[Writer, int]:
    """Predict all images; return the writer with its counts, and the number of images."""
    given = {name: _given(text, name) for name, text in vars(arguments).items() if name in _METAVARS}
    from segkit.inference.options import PredictOptions

    options: dict[str, Any] = {**(TTA if arguments.tta else {}), **given}
    checked = PredictOptions(**options)

    from segkit_predict.geotiff import is_installed
    from segkit_predict.ground_truth import GroundTruth, mask_stem, options_of
    from segkit_predict.images import list_images
    from segkit_predict.outputs import name_outputs
    from segkit_predict.writer import Writer

    runs, places = _split(arguments.run, arguments.images)
    predictor = segkit.load(runs if len(runs) > 1 else runs[0], device=arguments.device, precision=arguments.precision)
    checked.refuse_tiles(predictor.resize)
    folder = run if (run := Path(runs[0])).is_dir() else run.parent
    images = list_images(places, skipped, options_of(folder).get("images"))
    if suffix := arguments.mask_suffix:  # exclude masks that lie beside their images
        masks = {(file.parent, mask_stem(name, suffix)) for file, name in images.items()}
        images = {file: name for file, name in images.items() if (file.parent, file.stem) not in masks}
    wanted = {
        "mask": True,
        "geotiff": is_installed(),
        "overlay": not arguments.no_overlay,
        "probabilities": arguments.probabilities,
        "errors": arguments.compare_with is not None,
    }
    outputs = name_outputs(images, arguments.out, [kind for kind, on in wanted.items() if on])
    most_pixels, truth = arguments.max_pixels or predictor.most_pixels, None
    if arguments.compare_with is not None:
        truth = GroundTruth(images, arguments.compare_with, arguments.mask_suffix, folder, predictor, most_pixels)
    writer = Writer(predictor, options, truth, most_pixels, arguments.stored_labels)
    with STOP:
        STOP.kept = f"the files in {one_line(arguments.out)} are whole"
        writer.run(arguments.out, list(zip(images, outputs, strict=True)))
    return writer, len(images)


def _split(run: str, others: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate runs from images: a folder with a run.json or config.json, or a weight file, is a run."""
    count = 0
    for place in map(Path, others[:-1]):
        holds = any((place / name).is_file() for name in ("run.json", "config.json"))
        if not holds and not (place.suffix in (".safetensors", ".pt") and place.is_file()):
            break
        count += 1
    return [run, *others[:count]], list(others[count:])


def _lines(document: Mapping[str, Any], writer: Writer) -> Iterator[str]:
    """Yield the lines of the report: images predicted, what the predictions lack, and the predicted classes."""
    from segkit_folder.splits import by_suffix
    from segkit_predict.geotiff import is_installed

    images, skipped, shares = document["images"], Counter(document["skipped"]), document["predicted"]
    done = images - len(writer.failed)
    yield f"{done} of {images} images predicted" + (f", written to {one_line(document['out'])}" if done else "")
    lines = []
    if skipped:
        of = images + skipped.total()
        lines.append(f"skipped {skipped.total()} of {of} files, which are not read: {by_suffix(skipped)}")
    if writer.georeferenced:
        lines.append(
            f"{writer.georeferenced} of {images} images say where on Earth their pixels lie; "
            + ("NAME.tif beside NAME.png is the mask at the same place" if is_installed() else _NO_RASTERIO)
        )
    if any(shares.values()):
        lines += class_shares(shares)
    if writer.stored and done:
        values = (
            f"{list(value) if isinstance(value, tuple) else value} {name}" for name, value in writer.stored.items()
        )
        lines.append(f"stored in the masks: {', '.join(values)}")
    yield from (hanging(line, 2) for line in lines)


def class_shares(shares: Mapping[str, float]) -> list[str]:
    """Describe each class's share of all predicted pixels; a model that predicts only background shows here."""
    most = sorted(shares.items(), key=lambda pair: -pair[1])
    lines = [f"pixels: {', '.join(f'{name} {share:.1%}' for name, share in most if share)}"]
    never = [name for name, share in shares.items() if not share]
    return lines + ([f"never predicted: {', '.join(never)}"] if never else [])


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)
