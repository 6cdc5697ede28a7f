"""The command ``check``: the content of a dataset and its problems, before training."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.cli.output import add_output_options, print_json, table
from segkit.errors import ConfigError, DataError, RunFolderError

if TYPE_CHECKING:
    from PIL.Image import Image

    from segkit.config import Config
    from segkit.data.scan import Scan

_NONE = "no image that can be used"


class Check:
    """Read every image and mask of a config, and report their content and problems.

    A run does the same before its first step. Results are cached by the names, sizes and times of the files, so the
    next start takes no time. The exit status is 2 if there are errors, which stop a run, and 0 otherwise.
    """

    first = 2

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the config, overrides and options of the pictures."""
        parser.add_argument("config", help="a TOML file; its tables [dataset], [data] and [augment] are used")
        parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data")
        document = "splits, median_frequency, errors and warnings, with all file names"
        add_output_options(parser, document=document)
        parser.add_argument("--pictures", metavar="DIR", help="write a contact sheet per split, rarest classes first")
        help_text = "with --pictures: train_augmented.png, crops as the network sees them"
        parser.add_argument("--augmented", action="store_true", help=help_text)
        help_text = "also take a training step, and report the time, memory and disk space that a run would need"
        parser.add_argument("--forecast", action="store_true", help=help_text)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Scan and print; return 2 if there are errors."""
        from segkit.config import read_config

        config = read_config(arguments.config, arguments.overrides)
        if arguments.augmented and not arguments.pictures:
            raise ConfigError("--augmented draws pictures; add --pictures DIR to say where")
        from segkit.compose import scan_dataset

        began = time.perf_counter()
        try:
            scan = scan_dataset(config)
        except DataError as error:
            if not arguments.json:
                raise
            print_json({"errors": [{"kind": "dataset", "text": str(error)}]})
            return error.exit_status
        splits, weights = {name: _contents(scan, name) for name in scan.splits}, _weights(scan)
        if arguments.json:
            errors, warnings = ([each.record() for each in issues] for issues in (scan.errors, scan.warnings))
            for record in (*errors, *warnings):
                del record["severity"]
            print_json({"splits": splits, "median_frequency": weights, "errors": errors, "warnings": warnings})
        else:
            if not arguments.quiet:
                images, seconds = sum(each["images"] for each in splits.values()), time.perf_counter() - began
                print(f"{config.dataset.name}: {images} images and masks in {seconds:.1f} s\n")
            print(_text(scan, splits, weights, arguments.quiet))
        if arguments.forecast and not scan.errors:
            print(_forecast(config), file=sys.stderr if arguments.json else sys.stdout)
        if arguments.pictures:
            _draw(scan, Path(arguments.pictures).expanduser(), config, arguments)
        return 2 if scan.errors else 0


def _forecast(config: Config) -> str:
    from segkit.compose import build_inputs
    from segkit.engine.inputs import open_trainer

    with open_trainer(build_inputs(config, pretrained=False)) as trainer:
        trainer.plan()
        return trainer.expected()


def _contents(scan: Scan, split: str) -> dict[str, Any]:
    """Return the content of a split as JSON."""
    dataset, counts = scan.splits[split], scan.counts(split)
    sizes = sorted((each.size for each in scan.statistics[split]), key=lambda size: size[0] * size[1])
    found = zip(counts.pixels.tolist(), counts.shares.tolist(), counts.images.tolist(), strict=True)
    rows = [dict(zip(("pixels", "share", "images"), row, strict=True)) for row in found]
    return {
        "images": len(dataset),
        "sizes": dict(Counter(f"{width} x {height}" for height, width in sizes)),
        "void": counts.void,
        "void_images": counts.void_images,
        "classes": dict(zip(dataset.classes, rows, strict=True)),
        "floor": scan.floor(split) if counts.pixels.any() else None,
    }


def _weights(scan: Scan) -> dict[str, float]:
    """Return the median-frequency weight of each class in train; empty if train has no labelled pixel."""
    counts = scan.counts("train")
    weights = counts.class_weights("median_frequency") if counts.pixels.any() else []
    return dict(zip(scan.splits["train"].classes, weights, strict=False))


def _text(scan: Scan, splits: Mapping[str, Any], weights: Mapping[str, float], quiet: bool) -> str:
    """Format a table with the share and number of images of each class by split, then the issues."""
    from segkit_folder.files import MISREAD

    rows = [["share of pixels", *(title for name in splits for title in (name, "images")), "weight"]]
    for name in scan.splits["train"].classes:
        own = [each["classes"][name] for each in splits.values()]
        weight = f"{weights[name]:.2f}" if own[0]["images"] else "-"
        rows.append([name, *(cell for each in own for cell in (f"{each['share']:.2%}", str(each["images"]))), weight])
    rows.append(["void, of all pixels"])
    for each in splits.values():
        pixels = each["void"] + sum(own["pixels"] for own in each["classes"].values())
        rows[-1] += [f"{each['void'] / max(1, pixels):.2%}", str(each["void_images"])]
    for key in ("mean_iou", "pixel_accuracy"):
        rows.append([f"floor {key}"])
        for each in splits.values():
            rows[-1] += [f"{each['floor'][key]:.3f}" if each["floor"] else "-", ""]
    rows = [row + [""] * (len(rows[0]) - len(row)) for row in rows]
    lines = [table(rows, align="<" + ">" * (len(rows[0]) - 1), flexible=0)]
    lines.append('weight: what class_weights = "median_frequency" gives each class')
    for name, each in splits.items():
        sizes = list(each["sizes"])
        size = f"{sizes[0]} to {sizes[-1]} pixels ({len(sizes)} sizes)" if sizes[1:] else f"{' '.join(sizes)} pixels"
        always = f", the floor is '{each['floor']['class']}' everywhere" if each["floor"] else ""
        lines.append(f"{name}: " + (f"{_count(each['images'], 'image')} of {size}" if sizes else _NONE) + always)
    lines.append("")
    if any(error.kind in MISREAD for error in scan.errors):
        lines += ["These are the labels as they were read; an error below explains why they are wrong.", ""]
    lines += [f"{issue.severity}: {issue}" for issue in [*scan.errors, *scan.warnings]]
    lines.append(f"{_count(len(scan.errors), 'error')}, {_count(len(scan.warnings), 'warning')}")
    if scan.hint and not quiet:
        lines.append(f"--json names every file; {scan.hint}")
    return "\n".join(lines)


def _draw(scan: Scan, folder: Path, config: Config, arguments: argparse.Namespace) -> None:
    """Write a contact sheet for each split and, with ``--augmented``, augmented crops.

    Raises:
        ConfigError: a file exists and was not written by segkit.
        RunFolderError: a file cannot be written.
    """
    from segkit_checks.contact import augmented_sheet, contact_sheet
    from segkit_samples.marked import refuse_foreign, signature

    drawn: dict[str, Callable[[], Image]] = {}
    for name, dataset in scan.splits.items():
        if not len(dataset):
            print(f"no pictures of {name}: {_NONE}", file=sys.stderr)
            continue
        drawn[name] = partial(contact_sheet, dataset, scan.pixels(name)[:, :-1], rgb=config.data.rgb)
    if arguments.augmented and scan.errors:
        print("no pictures of augmented crops: the errors that were found stop a run", file=sys.stderr)
    elif arguments.augmented:
        drawn["train_augmented"] = partial(augmented_sheet, config)
    paths = {name: folder / f"{name}.png" for name in drawn}
    refuse_foreign(paths.values(), f"--pictures {folder}")
    for name, path in paths.items():
        picture = drawn[name]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, pnginfo=signature())
        except OSError as error:
            raise RunFolderError(f"--pictures: {path} cannot be written: {error.strerror or error}") from error
        if not arguments.quiet:
            print(f"pictures: {path}", file=sys.stderr)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' * (number != 1)}"
