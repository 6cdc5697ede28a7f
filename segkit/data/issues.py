"""What is wrong or odd about a data set: issues of many files told as one, and the rules for whole splits."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit.data.normalise import measured
from segkit.data.resize import Resize, resized_size
from segkit.data.sample import Dataset
from segkit.errors import DataError, Issue, first_few, one_line
from segkit.settings import AugmentSettings

if TYPE_CHECKING:
    from segkit.data.scan import SampleStatistics

Advise = Callable[[str, Mapping[Any, int], Mapping[Any, int]], str]
"""A dataset's ``advice``: kind of an issue, pixels of what is not allowed, pixels of all stored -> what to do."""
Samples = Mapping[str, Sequence["SampleStatistics"]]
"""The statistics of each sample by split."""

MISREAD = ("palette", "palettes", "label_colours", "black_and_white")
"""Kinds of issues after which the labels of all masks may mean something else than what was read."""

_gathered: ContextVar[list[Issue] | None] = ContextVar("gathered", default=None)


class TooFewImages(DataError):
    """Fewer images than splits; says nothing new where images were left out before."""


def merged(issues: Iterable[Issue], advise: Advise | None = None) -> list[Issue]:
    """Issues of the same kind and words as one each, with the names of the first few files; a file counts once."""
    groups: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        groups.setdefault((issue.kind, issue.what), []).append(issue)
    return [_merge(group, advise) for group in groups.values()]


def messages(issues: Iterable[Issue], advise: Advise | None = None) -> list[str]:
    """The texts of merged issues: ``"12 files: what is wrong: a.png, ... and 7 more (in folder); what to do"``."""
    return [str(issue) for issue in merged(issues, advise)]


def _merge(group: Sequence[Issue], advise: Advise | None) -> Issue:
    split = ", ".join(dict.fromkeys(each.split for each in group))
    group = list({each.file: each for each in group}.values())
    first, files, details = group[0], tuple(each.file for each in group), {each.detail for each in group}
    wrong, stored = _sum(each.wrong for each in group), _sum(each.stored for each in group)
    text = replace(first, advice="").text
    if len(group) > 1:
        folder = os.path.dirname(os.path.commonprefix(files))  # noqa: PTH120, RUF071  (some names are no paths)
        names = [file[len(folder) :].lstrip("/\\") for file in files] if folder else list(files)
        text = f"{len(group)} files: {one_line(first.what)}"
        if wrong:  # the sum of the details
            masks = Counter(value for each in group for value in each.wrong)
            masks_text = {value: f"{count} mask{'s' * (count > 1)}" for value, count in masks.items()}
            counted = [f"{value_text(v)} ({pixels:,} pixels in {masks_text[v]})" for v, pixels in wrong.most_common()]
            text += f", {first_few(counted)}"
        elif len(details) > 1:
            names = [f"{name} ({each.detail})" for name, each in zip(names, group, strict=True)]
        elif first.detail:
            text += f" ({one_line(first.detail)})"
        text += f": {first_few(names)}" + (f" (in {one_line(folder)})" if folder else "")
    advice = (advise(first.kind, wrong, stored) if advise else "") or first.advice
    whole = replace(first, file="", what=text, advice=advice, detail="", wrong=wrong, stored=stored)
    return replace(whole, split=split, files=files)


def _sum(counts: Iterable[Mapping[Any, int]]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return total


def value_text(value: Any) -> str:
    """A stored label or colour: ``200``, ``[9, 8, 7]``."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


@contextmanager
def gathered() -> Iterator[list[Issue]]:
    """Inside, :func:`refuse` adds to this list instead of raising: a dataset goes on with the files it can use.

    Raises:
        DataError: the dataset could not go on; with what was gathered until then, which is why there are too few files.
    """
    issues: list[Issue] = []
    token = _gathered.set(issues)
    try:
        yield issues
    except DataError as error:
        if not issues:
            raise
        own = [] if isinstance(error, TooFewImages) else [str(error)]
        raise DataError("\n".join([*messages(issues), *own])) from error
    finally:
        _gathered.reset(token)


def refuse(issues: Sequence[Issue]) -> None:
    """Report all issues of a dataset's files together, before any file is read.

    Raises:
        DataError: there are issues, and nobody gathers them.
    """
    found = _gathered.get()
    if found is not None:
        found.extend(issues)
    elif issues:
        raise DataError("\n".join(messages(issues)), issues[0] if len(issues) == 1 else None)


def advice_of(dataset: Dataset, good: Sequence[SampleStatistics]) -> Advise:
    """A dataset's advice on its faulty masks, in the light of its good ones."""

    def advise(kind: str, wrong: Mapping[Any, int], stored: Mapping[Any, int]) -> str:
        known: dict[Any, int]
        if not good or not stored:
            return dataset.advice(kind, wrong, stored)
        counts = np.sum([each.counts for each in good], axis=0)
        if kind == "colours":
            if counts[1:-1].any():
                return f"{len(good)} other masks hold labels; export the masks of colours as these"
            known = {(0, 0, 0): int(counts[0]), (255, 255, 255): int(counts[-1])}  # masks without any other colour
        elif kind in ("values", "palette_values") and dataset.stores_indices:
            known = dict(enumerate(counts[:-1].tolist()))
        else:  # what the good masks store is not known
            return dataset.advice(kind, wrong, wrong or stored)
        return dataset.advice(kind, wrong, Counter(stored) + Counter(known))

    return advise


def _warning(kind: str, split: str, what: str, files: Iterable[str] = ()) -> Issue:
    return Issue(kind, what=what, severity="warning", split=split, files=tuple(files))


def misread_issues(samples: Samples, splits: Mapping[str, Dataset], unreadable: Sequence[Issue]) -> list[Issue]:
    """Labels that may mean something else than was read: palettes that clash, and masks of 0 and 255."""
    dataset = next(iter(splits.values()))
    masks = {  # file -> split and statistics
        str([f"{split}/{each.name}", *splits[split].files(index)][-1]): (split, each)
        for split, those in samples.items()
        for index, each in enumerate(those)
    }
    found: list[Issue] = []
    palettes = {file: each.palette for file, (_, each) in masks.items()}
    clashes = dataset.palette_issues(palettes) if any(palettes.values()) else []
    for issue in merged(clashes, dataset.advice):
        files = tuple(file for pair in issue.files for file in pair.split(" and ") if file in masks)
        split = ", ".join(dict.fromkeys(masks[file][0] for file in files))
        stated = issue.kind == "label_colours" and dataset.labels_are_stated
        found.append(replace(issue, severity="warning" if stated else "error", split=split, files=files))
    if "train" in samples and len(dataset.classes) == 2 and dataset.void_is_assumed:
        found += merged(_black_and_white(masks, unreadable), dataset.advice)
    return found


def _black_and_white(masks: Mapping[str, tuple[str, SampleStatistics]], unreadable: Sequence[Issue]) -> Iterator[Issue]:
    """Masks of two classes that hold 255 and no 1, where nobody said that 255 is void: it is likelier the foreground.

    Where other masks hold 1 this is a warning, and where one holds both 1 and 255 nothing is odd.
    """
    counts = np.array([each.counts for _, each in masks.values()]).reshape(-1, 3)  # of 0, 1 and 255
    zeros, ones, both = counts[:, 0].any(), np.count_nonzero(counts[:, 1]), (counts[:, 1:] > 0).all(1).any()
    ones += sum(1 in issue.stored for issue in unreadable)
    kind, what = "black_and_white", "the only labels are 0 and 255, and 255 is void where nothing else is said"
    if ones:
        kind, what = (
            "mixed_void",
            f"holds 255, which is read as void, and no 1, while {ones} other masks hold 1 and no 255",
        )
    for (file, (split, _)), (background, foreground, void) in zip(masks.items(), counts.tolist(), strict=True):
        if void and not foreground and not both and (ones or zeros):
            stored = {0: background, 255: void}
            yield Issue(kind, file, what, stored=stored, severity="warning" if ones else "error", split=split)


def label_issues(samples: Sequence[SampleStatistics], dataset: Dataset, split: str, whole: bool) -> Iterator[Issue]:
    """What is odd about the labels of a split; of one that is not ``whole``, classes may lie in what is left out."""
    counts = np.array([each.counts for each in samples])  # [N,C+1]
    pixels, images, classes = counts.sum(0).tolist(), (counts[:, :-1] > 0).sum(0), dataset.classes
    present = np.flatnonzero(images).tolist()
    if not present:
        text = "every mask is void throughout: there is nothing to learn or to score"
        yield Issue("all_void", what=text, split=split, files=tuple(each.name for each in samples))
    elif split == "train" and len(present) == 1 and len(classes) > 1:
        void = f", and {pixels[-1] / sum(pixels):.1%} of all pixels are void" if pixels[-1] else ""
        stored = {
            label: pixels[at] for at, label in ((present[0], present[0]), (-1, dataset.ignore_index)) if pixels[at]
        }
        hint = dataset.advice("one_class", {}, stored) or "which stored label is which class?"
        text = f"every labelled pixel is '{classes[present[0]]}'{void}; nothing can be learned; {hint}"
        yield Issue("one_class", what=text, severity="error" if whole else "warning", split=split)
    elif split == "train" and len(classes) == 1:
        text = f"'{classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
        yield _warning("one_class", split, text + "what is not of it, such as the background, is a class too")
    elif whole and len(present) < len(classes):
        absent = [name for name, count in zip(classes, images, strict=True) if not count]
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        yield _warning("absent_class", split, text, absent)


ODD_IMAGES = {
    "white_zero": (
        "have masks that are TIFFs whose 0 is white (photometric interpretation 0)",
        "labels are read as they are stored, 0 as 0; where what viewers show is meant, export the masks as PNG",
    ),
    "no_data": (
        "hold a value far from all their others",
        "where it marks pixels without data, the network sees little else beside it: data.no_data = that value makes "
        "such pixels void",
    ),
    "declared_no_data": (
        "hold the value that their file declares as no data",
        'the network learns it as any other; data.no_data = "void" leaves such pixels out',
    ),
    "holes": (
        "have pixels without data",
        "these are void, and the network sees the mean there",
    ),
    "turned_image": (
        "and their masks are turned differently by their EXIF orientation, which one of the two may lack",
        "if the masks were drawn on the pixels as they are stored, they do not fit: take the orientation out of images "
        "and masks (exiftool -Orientation= FILES); if they were drawn on the upright images, all is well",
    ),
    "constant_image": (
        "hold the same value at every pixel, so nothing can be seen in them",
        "export them again, or leave them out",
    ),
}
"""Kind -> what is odd about such images, and what to do."""


def image_issues(samples: Samples) -> Iterator[Issue]:
    """What is odd about the images of all splits, and about the format of masks."""
    every = [each for those in samples.values() for each in those]
    wide = {each.dtype for each in every} == {"float32"} and samples.get("train")
    unit = measured(wide) if wide else None
    for split, those in samples.items():
        rows = [(kind, [each for each in those if kind in each.odd], *texts) for kind, texts in ODD_IMAGES.items()]
        if those:
            usual = _usual(every, lambda each: each.dtype)
            other = [each for each in those if each.dtype != usual.dtype]
            advice = "8 bits and more mean nothing beside each other: save all images alike; 8 of full 16 bits are, in "
            advice += "NumPy, (pixels / 257).round().astype('uint8')"
            rows.append(("mixed_depth", other, f"have more or fewer bits a channel than {usual.name}", advice))
            usual = _usual(every, lambda each: "no_colours" in each.odd)
            other = [each for each in those if "no_colours" in each.odd and "no_colours" not in usual.odd]
            what = f"are grey or CMYK, unlike {usual.name}, and are read as RGB: grey as three equal channels, CMYK "
            what += "without its colour profile"
            rows.append(("no_colours", other, what, "where that is not meant, save all images alike"))
            usual = _usual(every, lambda each: "white_zero" in each.odd)
            other = [each for each in those if ("white_zero" in each.odd) != ("white_zero" in usual.odd)]
            what = f"have masks unlike that of {usual.name}: TIFFs whose 0 is white, or not"
            rows.append(("mixed_white_zero", other, what, "save all masks alike, as PNG"))
        far = [each for each in those if unit and unit.is_far(each.channels)]
        if unit and split != "train" and 2 * len(far) > len(those):  # a few images may well differ
            what = "have values of another range than those of train, which have a mean of "
            what += f"{unit.mean[0]:.4g} and a deviation of {unit.std[0]:.4g}"
            advice = "the network cannot know what it sees there: save all images in the same unit"
            rows.append(("other_range", far, what, advice))
        for kind, odd, what, advice in rows:
            if odd:
                stop = kind.startswith("mixed") or (kind, split, len(odd)) == ("constant_image", "train", len(those))
                names = [each.name + (f" ({each.odd[kind]})" if each.odd.get(kind) else "") for each in odd]
                text = f"{len(odd)} of {len(those)} images {what}: {first_few(names)}; {advice}"
                files = tuple(each.name for each in odd)
                yield Issue(kind, "", text, severity="error" if stop else "warning", split=split, files=files)


def _usual(samples: Sequence[SampleStatistics], kind: Callable[[SampleStatistics], Any]) -> SampleStatistics:
    """The first sample of the kind that most of them are of."""
    ((most, _),) = Counter(map(kind, samples)).most_common(1)
    return next(each for each in samples if kind(each) == most)


def augment_issues(train: Sequence[SampleStatistics], augment: AugmentSettings, resize: Resize) -> Iterator[Issue]:
    """What ``[augment]`` cannot do with the training images, or does to no use: crops that are mostly void."""
    if train and augment.crop is not None:
        sizes = np.array([resized_size(*each.size, resize) for each in train])  # [N,2]
        covered = np.minimum(sizes * math.sqrt(math.prod(augment.scale)) / augment.crop, 1).prod(axis=1)
        if (void := 1 - float(covered.mean())) >= 0.5:
            text = f"augment.crop = {augment.crop} is larger than most images (after data.resize and augment.scale): "
            yield _warning("large_crop", "train", f"{text}{void:.0%} of the crops is void")
