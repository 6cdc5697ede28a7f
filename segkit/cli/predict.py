"""The command ``predict``: masks and overlays of images, by a trained model."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.cli.output import add_output_options, messages, print_json
from segkit.cli.predict_images import list_images
from segkit.cli.text import hanging
from segkit.errors import ConfigError, DataError, one_line, printable
from segkit.signals import Interrupted, StopSignals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from segkit.inference.predictor import Predictor
    from segkit.inference.work import Work

TTA_SCALES = (0.75, 1.0, 1.25)  # of --tta; with the mirrored view six in all


class Predict:
    """Predict the classes of images with a trained model.

    For each image files of its own name and size: NAME.png, whose palette indices are the classes, and
    NAME_overlay.jpg; with --probabilities NAME.npz, with --compare-with NAME_error.png. An image that cannot be read
    is named, and the others are done. Large images are predicted in overlapping tiles, in memory that does not grow
    with their height.
    """

    first = 3

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Run, images, where to write, how to predict, what to tell."""
        parser.add_argument("run", help="a run folder, or model.safetensors, best.pt or last.pt in it")
        parser.add_argument(
            "images", nargs="+", help="files, folders of them, quoted patterns ('photos/**/*.jpg'); - reads a list"
        )
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write to")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
        group = parser.add_argument_group("how an image is predicted")
        group.add_argument(
            "--tile",
            default="auto",
            type=_tile,
            metavar="PIXELS",
            help="side of a tile; 0: never in tiles; auto: in tiles where the network would see more than 2048 x 2048",
        )
        group.add_argument(
            "--overlap", type=float, metavar="SHARE", help="of neighbouring tiles, of their side (default 0.5)"
        )
        group.add_argument("--batch-size", default=0, type=int, metavar="TILES", help="at a time (8 on a GPU, else 1)")
        group.add_argument("--tta", action="store_true", help="as --flip horizontal --scales 0.75,1,1.25")
        group.add_argument("--flip", choices=("none", "horizontal", "vertical", "both"), help="average mirrored views")
        group.add_argument("--scales", type=_scales, metavar="0.75,1,1.25", help="average views at these scales")
        group.add_argument("--max-pixels", type=int, metavar="N", help="of an image (400,000,000: 20,000 x 20,000)")
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
        group.add_argument("--mask-suffix", default="", metavar="TEXT", help="what masks' names have more: _mask")
        group.add_argument("--metrics", action="store_true", help="score the predictions; needs --compare-with")
        document = "out, images, skipped files, failed with the reasons, predicted: the share of each class, scores"
        add_output_options(group, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Predict; 0 when every image was done, 1 when some could not be or none could be scored, 143 after SIGTERM."""
        masks = arguments.compare_with
        if arguments.metrics and masks is None:
            raise ConfigError("--metrics compares predictions with true masks; say where: --compare-with MASKS")
        if arguments.mask_suffix and masks is None:
            raise ConfigError(
                "--mask-suffix is of true masks; say where they are, --compare-with MASKS, or leave it out"
            )
        if masks is not None and os.path.realpath(masks) == os.path.realpath(arguments.out):
            raise ConfigError(f"--out and --compare-with are the same folder, {masks}; write to another one")
        if arguments.max_pixels is not None and arguments.max_pixels < 1:
            raise ConfigError(f"--max-pixels {arguments.max_pixels}; 1 or more, or leave it out")
        with messages(aside=arguments.json, quiet=arguments.quiet):
            try:
                work, images, how = _predicted(arguments)
            except Interrupted as interruption:
                print(f"segkit: {interruption}", file=sys.stderr)
                return interruption.status
            scores = _scores(work, images)
        if arguments.json:
            print_json(_document(arguments.out, work, images, scores))
        else:
            _tell(arguments, work, images, scores, how)
        return 1 if work.failed or (work.truth and not scores) else 0


def _predicted(arguments: argparse.Namespace) -> tuple[Work, int, str]:
    """What was done, of how many images, and in words how true masks were read."""
    from segkit.inference.options import PredictOptions
    from segkit.inference.targets import Wanted, name_targets

    options = PredictOptions(
        arguments.tile,
        0.5 if arguments.overlap is None else arguments.overlap,
        arguments.batch_size,
        arguments.flip or ("horizontal" if arguments.tta else "none"),
        arguments.scales or (TTA_SCALES if arguments.tta else (1.0,)),
    )
    wanted = Wanted(not arguments.no_overlay, arguments.probabilities, arguments.compare_with is not None)
    skipped: Counter[str] = Counter()
    images = list_images(arguments.images, skipped)
    targets = name_targets(images, arguments.out, wanted, arguments.quiet)

    from segkit.inference.work import Work
    from segkit.loading import load

    predictor = load(arguments.run, device=arguments.device, precision=arguments.precision)
    truth, how = None, ""
    if arguments.compare_with is not None:
        from segkit.cli.predict_compare import truth_of

        truth, how = truth_of(images, arguments.compare_with, arguments.mask_suffix, Path(arguments.run), predictor)
    work = Work(predictor, options, truth, arguments.max_pixels, arguments.stored_labels)
    work.skipped = skipped
    with StopSignals():
        try:
            work.run(arguments.out, list(zip(images, targets, strict=True)))
        except Interrupted as interruption:
            interruption.kept = f"the files in {one_line(arguments.out)} are whole"
            raise
    return work, len(images), how


def _scores(work: Work, images: int) -> dict[str, Any] | None:
    if work.truth is None or len(work.failed) == images:
        return None
    try:
        return work.truth.scores()
    except DataError as error:  # all masks are void; the predictions are there nevertheless
        print(f"segkit: {printable(error)}", file=sys.stderr)
        return None


def _document(out: Path, work: Work, images: int, scores: dict[str, Any] | None) -> dict[str, Any]:
    shares = work.pixels / max(1, work.pixels.sum())  # [C]
    predicted = dict(zip(work.predictor.classes, map(float, shares), strict=True))
    document = {"out": out, "images": images, "failed": work.failed, "predicted": predicted, "scores": scores}
    document |= {"skipped": dict(work.skipped), "georeferenced": len(work.georeferenced), "other_range": len(work.far)}
    return document | ({"stored_labels": work.stored} if work.stored else {})


def _tell(arguments: argparse.Namespace, work: Work, images: int, scores: dict[str, Any] | None, how: str) -> None:
    """Print what came of it; where it is to be quiet, the scores alone, as the masks are the result."""
    if not arguments.quiet:
        where = f", written to {one_line(arguments.out)}" if len(work.failed) < images else ""
        print(f"{images - len(work.failed)} of {images} images predicted{where}")
        for line in _left_out(work, images):
            print(hanging(printable(line), 2))
        if work.pixels.any():
            for line in class_shares(work.predictor.classes, work.pixels).split("\n"):
                print(hanging(printable(line), 2))
        if work.stored and len(work.failed) < images:
            for line in stored_labels(work.stored, work.predictor).split("\n"):
                print(hanging(printable(line), 2))
    if work.truth and scores:
        print(hanging(f"beside {one_line(arguments.compare_with)}, {how}:", 2))
        print(printable(work.truth.table(scores)))


def _left_out(work: Work, images: int) -> list[str]:
    """What was in the files and is not in the predictions."""
    from segkit.data.splits import by_suffix

    lines = []
    if work.skipped:
        count = work.skipped.total()
        lines.append(f"skipped {count} of {images + count} files, which are not read: {by_suffix(work.skipped)}")
    if work.georeferenced:
        lines.append(
            f"{len(work.georeferenced)} of {images} images say where on Earth their pixels lie (GeoTIFF); the masks do "
            "not: they are PNG, of the same size, pixel for pixel"
        )
    if 2 * len(work.far) > images:
        how = work.predictor.normalisation
        lines.append(
            f"{len(work.far)} of {images} images have values of another range than those the model was trained on, "
            f"which have a mean of {how.mean[0]:.4g} and a deviation of {how.std[0]:.4g}: the masks of these are worth "
            "nothing; give images in the same unit"
        )
    return lines


def class_shares(classes: Sequence[str], pixels: NDArray[Any]) -> str:
    """What was predicted, by share of all pixels: a model that knows only the background shows here."""
    shares = sorted(zip(pixels / pixels.sum(), classes, strict=True), key=lambda pair: -pair[0])
    lines = [f"pixels: {', '.join(f'{name} {share:.1%}' for share, name in shares if share > 0)}"]
    never = [name for name, count in zip(classes, pixels, strict=True) if not count]
    if never:
        lines.append(f"never predicted: {', '.join(never)}")
    return "\n".join(lines)


def stored_labels(stored: dict[str, Any], predictor: Predictor) -> str:
    """What stands in the masks for each class, and where that is one of several."""
    from segkit.data.issues import value_text

    text = ", ".join(f"{value_text(value)} {name}" for name, value in stored.items())
    lines = [f"stored in the masks: {text}"]
    for name, those in zip(stored, predictor.stored or [], strict=True):
        if len(those) > 1:
            lines.append(
                f"the run's masks store {' and '.join(map(value_text, those))} for {name}: the first is written"
            )
    return "\n".join(lines)


def _tile(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _scales(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


_tile.__name__, _scales.__name__ = "number of pixels, or auto", "comma-separated list of factors"  # argparse tells them
