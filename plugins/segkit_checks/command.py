"""The command ``check``: what is in a data set, and what is wrong with it, before anything is trained."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.cli.output import add_output_options, messages, print_json, terminal_width
from segkit.config import read_config
from segkit.errors import DataError, RunFolderError, one_line, printable

if TYPE_CHECKING:
    from segkit.data.scan import Scan

_NONE = "no image that can be used"


class Check:
    """Read every image and mask that a config names, and tell what is in them and what is wrong.

    A run does the same before its first step. What was read is remembered by the files' names, sizes and times, so that
    the next start costs nothing. The status is 2 when there are errors, which no run goes on with; warnings leave it 0.
    """

    first = 2

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Config, overrides, and where the pictures go."""
        parser.add_argument("config", help="a TOML file; its tables [dataset], [data] and [augment] are what counts")
        parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data")
        document = "splits, median_frequency, errors and warnings, all file names included"
        add_output_options(parser, document=document)
        parser.add_argument("--pictures", metavar="DIR", help="write a contact sheet a split, rarest classes first")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Scan and print; 2 where there are errors."""
        config = read_config(arguments.config, arguments.overrides)
        from segkit.compose import scan_dataset
        from segkit.data.issues import MISREAD
        from segkit.data.scan import SKIP

        folder = _picture_folder(arguments.pictures) if arguments.pictures else Path()
        began = time.perf_counter()
        try:
            with messages(aside=arguments.json, quiet=arguments.quiet):
                scan = scan_dataset(config).with_augment(config.augment, config.data.resize)
        except DataError as error:
            if not arguments.json:
                raise
            print_json({"errors": [{"kind": "dataset", "text": str(error)}]})
            return error.exit_status
        seconds = time.perf_counter() - began
        splits = {name: _contents(scan, name) for name in scan.splits}
        if arguments.json:
            print_json(_document(scan, splits))
        else:
            images = sum(each["images"] for each in splits.values())
            if not arguments.quiet:
                print(f"{config.dataset.name}: {images} images and masks in {seconds:.1f} s\n")
            print(f"{printable(_table(scan, splits))}\n")
            if any(error.kind in MISREAD for error in scan.errors):
                print("These are the labels as they are read, and an error below says why that is wrong.\n")
            for issue in [*scan.errors, *scan.warnings]:
                print(f"{issue.severity}: {printable(issue)}")
            print(f"{_count(len(scan.errors), 'error')}, {_count(len(scan.warnings), 'warning')}")
            if any(issue.skippable for issue in scan.errors) and not arguments.quiet:
                print(f"--json names every file; {SKIP}")
        if arguments.pictures:
            _write_pictures(scan, folder, arguments.quiet)
        return 2 if scan.errors else 0


def _contents(scan: Scan, split: str) -> dict[str, Any]:
    """What is in a split, as JSON holds it."""
    from segkit.engine.evaluate import floor

    dataset, counts = scan.splits[split], scan.counts(split)
    sizes = sorted((each.size for each in scan.statistics[split]), key=lambda size: size[0] * size[1])
    found = zip(counts.pixels.tolist(), counts.shares.tolist(), counts.images.tolist(), strict=True)
    return {
        "images": len(dataset),
        "sizes": dict(Counter(f"{width} x {height}" for height, width in sizes)),
        "void": counts.void,
        "void_images": counts.void_images,
        "classes": {
            name: {"pixels": pixels, "share": share, "images": images}
            for name, (pixels, share, images) in zip(dataset.classes, found, strict=True)
        },
        "floor": floor(counts, dataset) if counts.pixels.any() else None,
    }


def _weights(scan: Scan) -> dict[str, float]:
    """The weight of each class by median frequency in train; empty where nothing is labelled there."""
    from segkit.data.class_weights import class_weights

    counts = scan.counts("train")
    if not counts.pixels.any():
        return {}
    weights = class_weights("median_frequency", counts.pixels.tolist(), counts.image_pixels.tolist())
    return dict(zip(scan.splits["train"].classes, weights, strict=True))


def _document(scan: Scan, splits: Mapping[str, Any]) -> dict[str, Any]:
    issues: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
    for issue in scan.issues:
        record = issue.record()
        issues[record.pop("severity")].append(record)
    errors, warnings = issues["error"], issues["warning"]
    return {"splits": splits, "median_frequency": _weights(scan), "errors": errors, "warnings": warnings}


def _table(scan: Scan, splits: Mapping[str, Any]) -> str:
    """A row a class, two columns a split: its share of the labelled pixels, and how many images contain it."""
    from segkit.engine.console import cut

    weights, classes = _weights(scan), scan.splits["train"].classes
    room = terminal_width() - 16 * len(splits) - 11
    label = max(len("floor: pixel_accuracy"), min(room, max(map(len, classes))))

    def row(title: str, cells: Sequence[tuple[str, str]], weight: str = "") -> str:
        return f"{cut(title, label):{label}}" + "".join(f"  {a:>7} {b:>6}" for a, b in cells) + f"  {weight:>9}"

    lines = [
        f"{'':{label}}" + "".join(f"  {name:^14}" for name in splits) + f"  {'median-':>9}",
        row("class", [("share", "images") for _ in splits], "frequency"),
    ]
    for name in classes:
        own = [each["classes"][name] for each in splits.values()]
        cells = [(f"{each['share']:.2%}", f"{each['images']}") for each in own]
        lines.append(row(name, cells, f"{weights[name]:.2f}" if own[0]["images"] else "-"))
    cells = []
    for each in splits.values():
        pixels = each["void"] + sum(own["pixels"] for own in each["classes"].values())
        cells.append((f"{each['void'] / max(1, pixels):.2%}", str(each["void_images"])))
    lines.append(row("void, of all pixels", cells))
    for key in ("mean_iou", "pixel_accuracy"):
        floors = [(f"{each['floor'][key]:.3f}" if each["floor"] else "-", "") for each in splits.values()]
        lines.append(row(f"floor: {key}", floors))
    for name, each in splits.items():
        always = f", the floor is '{each['floor']['class']}' everywhere" if each["floor"] else ""
        size = f"{_count(each['images'], 'image')} of {_sizes(list(each['sizes']))}" if each["images"] else _NONE
        lines.append(f"{name}: {size}{always}")
    return "\n".join(line.rstrip() for line in lines)


def _sizes(sizes: Sequence[str]) -> str:
    """``480 x 360 pixels``, or the smallest and the largest."""
    return f"{sizes[0]} pixels" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} pixels ({len(sizes)} sizes)"


def _write_pictures(scan: Scan, folder: Path, quiet: bool) -> None:
    from segkit.data.visualize import is_prediction, signature
    from segkit_checks.contact import contact_sheet

    for name, dataset in scan.splits.items():
        path = folder / f"{name}.png"
        if not len(dataset):
            print(f"no pictures of {name}: {_NONE}", file=sys.stderr)
            continue
        if path.is_symlink() or (path.exists() and not is_prediction(path)):
            raise RunFolderError(f"{path} is there and no sheet of segkit's; choose another folder for --pictures")
        sheet = contact_sheet(dataset, scan.pixels(name)[:, :-1])
        try:
            sheet.save(path, pnginfo=signature())
        except OSError as error:
            raise RunFolderError(f"{path} cannot be written: {error.strerror or error}") from error
        if not quiet:
            print(f"pictures: {one_line(path)}", file=sys.stderr)


def _picture_folder(text: str) -> Path:
    """The folder for pictures, made before anything is read.

    Raises:
        RunFolderError: it cannot be.
    """
    folder = Path(text).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"--pictures {folder}: {error.strerror}; choose another folder") from error
    return folder


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' * (number != 1)}"
