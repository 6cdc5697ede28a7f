"""Look at a folder: which data set it is, what its masks store, what a scan of it says, and what stays open."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.compose import build_splits, scan_dataset
from segkit.config import Config, read_config
from segkit.data.issues import messages
from segkit.data.parallel import cores, read_ahead
from segkit.data.read import read_mask
from segkit.data.scan import Scan
from segkit.errors import DataError, SegkitError, cause, first_few, reason
from segkit.options import MISSING, describe
from segkit.registry import datasets
from segkit_init.findings import Answer, Findings, Question, StoredLabels
from segkit_init.groups import group_of
from segkit_init.labels import questions_of, stored_labels
from segkit_init.plan import Facts
from segkit_init.text import options_text

_FEW = 12  # masks that tell readings of a folder apart
_TOO_FEW = 10  # pictures: a score of one or two says next to nothing
_NAMES = re.compile(r".*(class|label|names|categor|codes|colou?r).*\.(txt|csv|names)", re.IGNORECASE)
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy")


class Reading(NamedTuple):
    """A data set that may read the folder, its options, and whether it lacks the names of classes."""

    dataset: str
    options: Mapping[str, Any]
    asks_for_classes: bool


def look(root: Path) -> Findings:
    """All that is found in a folder; of what is open, the first answer is taken, and the question kept.

    Raises:
        SegkitError: nothing can be trained from it, and why.
    """
    readings, notes = readings_of(root)
    questions: list[Question] = []
    labels = None
    if readings[0].asks_for_classes:
        readings, labels, why = _judged(readings)
        notes += why
    reading = readings[0]
    if len(readings) > 1:
        answers = tuple(Answer(_said(each, readings)) for each in readings)
        questions.append(Question("the folder can be read in several ways: which one is meant?", answers, "root"))
    options = dict(reading.options)
    if labels is not None:
        options, asked = _with_classes(root, reading, labels)
        questions.append(asked)
    options, data, scan, asked_of_splits = _scanned(reading.dataset, options)
    notes += [issue.what for issue in scan.warnings if issue.kind == "dataset"]
    return Findings(root, reading.dataset, options, data, labels, scan, [*questions, *asked_of_splits], notes)


# ---- which data set ----


def readings_of(root: Path) -> tuple[list[Reading], list[str]]:
    """What every data set that is installed says of the folder, or else of the folders in it; and what failed.

    Those that know their classes go before those which have to be told.

    Raises:
        DataError: nobody can read it; with what lies there.
    """
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        advice = "; give the folder that it lies in" if root.is_file() else ""
        raise DataError(f"{root} cannot be looked into: {reason(error)}{advice}") from error
    notes: list[str] = []
    for has_classes, place in product((True, False), (root, *inside)):
        if found := _asked(place, has_classes, notes):
            whole = [{*map(repr, each.options.items())} for each in found]
            # what needs more options to be read does not overlook them, such as lists of the splits
            return [
                each for each, own in zip(found, whole, strict=True) if not any(own < other for other in whole)
            ], notes
    raise DataError(_nothing(root))


def _asked(place: Path, has_classes: bool, notes: list[str]) -> list[Reading]:
    """What the data sets that know their classes, or those that do not, say of a folder; a failure becomes a note."""
    found = []
    for component in datasets.components():
        try:
            required = {option.name for option in describe(component).settable if option.default is MISSING}
            recognise = getattr(component.load(), "recognise", None)
            if recognise and has_classes is ("classes" not in required):
                own = [{"root": str(place), **options} for options in recognise(place)]
                found += [Reading(datasets.shortest_name(component), each, "classes" not in each) for each in own]
        except Exception as error:  # a plugin of somebody else's may raise what it likes
            notes.append(f"{component} could not look at {place}: {cause(error)}")
    return [each._replace(asks_for_classes=each.asks_for_classes and not has_classes) for each in found]


def _said(reading: Reading, others: Sequence[Reading]) -> str:
    """What sets a reading apart from the others."""
    own = {key: value for key, value in reading.options.items() if any(o.options.get(key) != value for o in others)}
    text = options_text(own)
    return text if len({each.dataset for each in others}) == 1 else f"the data set {reading.dataset} {text}".rstrip()


def _nothing(root: Path) -> str:
    """What lies in a folder that nobody can read, and what to do about it."""
    counted: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    for folder, _, names in os.walk(root):
        counted.update(Path(name).suffix.lower() or "no suffix" for name in names if not name.startswith("."))
        here = str(Path(folder).relative_to(root))
        folders.update({here: sum(Path(name).suffix.lower() in _PICTURES for name in names)})
    pictures = {name: number for name, number in folders.items() if number}
    if not counted:
        return f"{root} holds no files"
    if not pictures:
        held = first_few([f"{number} {suffix}" for suffix, number in counted.most_common()], 4)
        return f"{root} holds no pictures, but {held}; unpack archives, and give the folder of images and masks"
    held = first_few([f"{number} in {name}" for name, number in sorted(pictures.items())], 6)
    return (
        f"{root} holds pictures ({held}), and nothing says which are the masks of which images: give both the same "
        "names in two folders, images and masks, or names that differ in one part, as cat.jpg and cat_mask.png; "
        "`show dataset folder` has patterns for all else"
    )


# ---- what the masks store ----


def _judged(readings: Sequence[Reading]) -> tuple[list[Reading], StoredLabels, list[str]]:
    """The readings that are not ruled out by their masks, what those of the first one store, and what was ruled out.

    Raises:
        DataError: none is left.
    """
    pairs: dict[int, list[tuple[Path, ...]]] = {}
    errors: list[str] = []
    for number, reading in enumerate(readings):
        try:
            pairs[number] = _pairs(reading)
        except SegkitError as error:
            errors.append(str(error))
    most = max(map(len, pairs.values()), default=0)
    kept: list[tuple[Reading, list[NDArray[Any]], StoredLabels]] = []
    notes = []
    for number, own in pairs.items():
        if 2 * len(own) <= most:  # chance has paired some of the files
            continue
        reading = readings[number]
        few = own[:: -(-len(own) // _FEW)]
        try:
            labels = _stored([files[1] for files in few])
        except SegkitError as error:
            errors.append(str(error))
            continue
        masks = [each for _, path, *_ in few if (each := _regions(path)) is not None]
        said = _said(reading, readings)
        twin = next((place for place, each in enumerate(kept) if _divide_alike(masks, each[1])), None)
        if len(readings) > 1 and _are_one_picture(masks):
            notes.append(f"not read as labels, since they are nearly the same for every image: {said}")
        elif twin is None:
            kept.append((reading, masks, labels))
        else:  # labels say which class comes first, and colours do not; ids of few objects are classes, too
            worse = max((kept[twin], (reading, masks, labels)), key=lambda each: _oddness(each[2]))
            kept[twin] = kept[twin] if worse[0] is reading else (reading, masks, labels)
            notes.append(f"not read, since they divide the images alike: {_said(worse[0], readings)}")
    if not kept:
        raise DataError("\n".join(errors))
    of_classes = [each for each in kept if not each[2].of_objects]
    if of_classes and len(of_classes) < len(kept):
        notes += [
            f"not read, since they number single objects: {_said(each[0], readings)}"
            for each in kept
            if each[2].of_objects
        ]
        kept = of_classes
    kept.sort(key=lambda each: each[2].has_colours)  # labels say more: which class is the first one
    best = kept[0][0]
    chosen = [files[1] for files in pairs[readings.index(best)]]
    return [reading for reading, *_ in kept], _stored(chosen), notes


def _oddness(labels: StoredLabels) -> tuple[bool, int]:
    """What makes masks the worse ones of two that say the same: colours, and large labels."""
    return labels.has_colours, 0 if labels.has_colours else max(labels.pixels)


def _pairs(reading: Reading) -> list[tuple[Path, ...]]:
    """The files of all samples of a reading whose classes are not known yet."""
    needed = {"classes": ["?"]} if reading.asks_for_classes else {}
    splits, *_ = build_splits(config_of(reading.dataset, {**reading.options, **needed}))
    return [files for data in splits.values() for files in map(data.files, range(len(data))) if len(files) > 1]


def _raw(path: Path) -> NDArray[Any] | dict[Any, int] | DataError:
    """The labels of a mask ``[H,W]``; where it holds colours, pixels by colour; or why it cannot be read."""
    try:
        return read_mask(path)
    except DataError as error:
        return dict(error.issue.stored) if error.issue and error.issue.kind == "colours" else error


def _regions(path: Path) -> NDArray[np.int64] | None:
    """A mask as numbers 0, 1, 2, ... ``[H,W]`` that differ where its labels or colours do."""
    mask = _raw(path)
    if isinstance(mask, dict):
        mask = read_mask(path, {colour: index for index, colour in enumerate(mask)})
    if isinstance(mask, DataError):
        return None
    regions: NDArray[np.int64] = np.unique(mask, return_inverse=True)[1].reshape(mask.shape)
    return regions


def _are_one_picture(masks: Sequence[NDArray[Any]]) -> bool:
    """Whether masks are all but equal, as the field of view of one camera is."""
    same = [one.shape == masks[0].shape and bool((one == masks[0]).mean() > 0.97) for one in masks[1:]]
    varied = bool(masks) and bool((masks[0] != masks[0].flat[0]).mean() > 0.05)
    return len(same) >= 3 and all(same) and varied


def _divide_alike(masks: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> bool:
    """Whether two sets of masks divide their pictures into the same regions."""
    if not masks or len(masks) != len(others):
        return False
    for one, other in zip(masks, others, strict=True):
        if one.shape != other.shape:
            return False
        pairs = len(np.unique(one.astype(np.int64) << 32 | other))
        if not pairs == one.max() + 1 == other.max() + 1:
            return False
    return True


def _stored(paths: Sequence[Path]) -> StoredLabels:
    """What masks store.

    Raises:
        DataError: most of them cannot be read.
    """
    errors: list[DataError] = []

    def read() -> Iterator[NDArray[Any] | dict[Any, int]]:
        for mask in read_ahead(lambda index: _raw(paths[index]), range(len(paths)), cores(), "masks", True):
            if isinstance(mask, DataError):
                errors.append(mask)
            else:
                yield mask

    stored = stored_labels(read())
    if 2 * len(errors) > len(paths):
        raise DataError("\n".join(messages([error.issue for error in errors if error.issue])))
    return stored


def _with_classes(root: Path, reading: Reading, labels: StoredLabels) -> tuple[dict[str, Any], Question]:
    """The options with the classes, from a file of names where one fits, and the question that is open about them."""
    plain = {label for label in labels.pixels if label not in (255, (224, 224, 192))}
    names: Sequence[str] = ()
    base = Path(reading.options["root"])
    files = sorted(path for place in {base, root} for deep in ("*", "*/*") for path in place.glob(deep))
    for path in files:
        if not _NAMES.fullmatch(path.name) or not path.is_file():
            continue
        own = {**reading.options, "classes": os.path.relpath(path, base)}
        try:
            dataset = next(iter(build_splits(config_of(reading.dataset, own))[0].values()))
        except SegkitError:
            continue
        known = {label for those in dataset.stored or () for label in those}
        if plain <= known and (len(plain) > 2 or len(known) <= 2 * len(plain)):
            return own, Question("", (Answer(f"names of {path.name}", own),), "classes", must=False)
        names = names or dataset.classes
    (question,) = questions_of(labels, names)
    return {**reading.options, **question.answers[0].options}, question


# ---- what a scan says ----


def config_of(dataset: str, options: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> Config:
    """A config with this data set, and a model and a loss that do not matter."""
    tables = {"dataset": {"name": dataset, **options}, "model": {"name": "unet"}, "loss": [{"name": "cross_entropy"}]}
    return read_config({**tables, "data": dict(data or {})})


def _scanned(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Scan, list[Question]]:
    """Options and keys of ``[data]`` with which a run would start, the scan, and what is open about its splits."""
    data: dict[str, Any] = {}
    questions: list[Question] = []
    scan = scan_dataset(config_of(name, options))
    known = {option.name for option in describe(datasets.find(name)).settable}
    is_dealt = _are_dealt(name, options, known)
    group = None
    if is_dealt and "group" in known - {*options}:
        group = group_of([*scan.splits.values()], Path(options["root"]).expanduser())
    if group:
        texts = f"the names come in {group.number} groups"
        alike = f"a picture is like another of its group ({group.inside:.2f}) and unlike others ({group.between:.2f})"
        option = {"group": group.pattern}
        if group.tells:
            options = {**options, **option}
            scan = scan_dataset(config_of(name, options))
            questions.append(Question(f"{texts}, and {alike}: no group is in two splits", key="group", must=False))
        else:
            more = Answer("where these are of one object, patient or film each", option)
            questions.append(Question(f"{texts}: do these belong together?", (Answer(""), more), "root", must=False))
    for issue in scan.errors:
        answer = None
        if issue.kind == "same_picture" and "allow_leaks" not in data:
            answer = Answer("go on; the scores are then flattered", data={"allow_leaks": True})
        elif issue.kind in ("image_without_mask", "mask_without_image") and "skip_unpaired" not in options:
            answer = Answer("leave them out", {"skip_unpaired": True})
        elif issue.skippable and 5 * len(issue.files) < sum(map(len, scan.splits.values())) and "on_bad" not in data:
            answer = Answer("leave these files out", data={"on_bad": "skip"})
        if answer:
            data, options = {**data, **answer.data}, {**options, **answer.options}
            key = next(iter({**answer.data, **answer.options}))
            questions.append(Question(str(issue), (answer, Answer("mend that first, and start again")), key))
    if any(question.must for question in questions):
        scan = scan_dataset(config_of(name, options, data))
    if not scan.statistics["train"]:
        scan.refuse_errors()
    total = sum(map(len, scan.splits.values()))
    if total < _TOO_FEW and not any(question.must for question in questions):
        text = f"{total} pictures in all: there is little to learn from, and scores of so few say next to nothing"
        fractions = {"fractions": [0.7, 0.3]} if is_dealt and "fractions" in known - {*options} else {}
        answers = (Answer("go on, to see that training works", fractions), Answer("label some 20 more first"))
        questions.append(Question(text, answers, "fractions" if fractions else "root"))
        options = {**options, **fractions}
        scan = scan_dataset(config_of(name, options, data)) if fractions else scan
    return options, data, scan, questions


def _are_dealt(name: str, options: Mapping[str, Any], known: Collection[str]) -> bool:
    """Whether chance has divided the pictures: another seed, another division."""
    if "split_seed" not in known:
        return False
    both = [build_splits(config_of(name, {**options, "split_seed": seed}))[0]["train"] for seed in (0, 1)]
    files = [[data.files(index) for index in range(len(data))] for data in both]
    return files[0] != files[1]


def facts_of(found: Findings) -> Facts:
    """What the plan follows from."""
    dataset, train = found.scan.splits["train"], found.scan.statistics["train"]
    return Facts(
        sizes=[each.size for each in train],
        channels=len(dataset[0].image),
        is_8_bit=train[0].dtype == "uint8",
        shares=found.scan.counts("train").shares.tolist(),
        card=torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0,
    )
