"""What is wrong or odd about a data set: issues of many files told as one, and the rules for whole splits."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import PurePath
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
        names, folder = _below_shared_folder(files)
        text = f"{len(group)} files: {one_line(first.what)}"
        if wrong:  # the sum of the details
            masks = Counter(value for each in group for value in each.wrong)
            text += ", " + first_few(
                [
                    f"{value_text(value)} ({pixels:,} pixels in {masks[value]} mask{'s' * (masks[value] > 1)})"
                    for value, pixels in wrong.most_common()
                ]
            )
        elif len(details) > 1:
            names = [f"{name} ({each.detail})" for name, each in zip(names, group, strict=True)]
        elif first.detail:
            text += f" ({one_line(first.detail)})"
        text += f": {first_few(names)}" + (f" (in {one_line(folder)})" if folder else "")
    advice = (advise(first.kind, wrong, stored) if advise else "") or first.advice
    merged = Issue(first.kind, "", text, advice, wrong=wrong, stored=stored, severity=first.severity, split=split)
    return replace(merged, files=files, skippable=first.skippable)


def _sum(counts: Iterable[Mapping[Any, int]]) -> Counter[Any]:
    return sum(map(Counter, counts), Counter())


def _below_shared_folder(files: Sequence[str]) -> tuple[list[str], str]:
    """The names below the folder that all files share, and that folder, if there is one."""
    try:
        folder = os.path.commonpath([PurePath(file).parent for file in files])
    except ValueError:  # relative and absolute, or on several drives
        folder = "."
    if folder == ".":
        return list(files), ""
    return [str(PurePath(file).relative_to(folder)) for file in files], folder


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
        counts = np.sum([each.counts for each in good], axis=0) if good and stored else np.zeros(0)
        if not len(counts):
            return dataset.advice(kind, wrong, stored)
        if kind == "colours":
            if counts[1:-1].any():
                return f"{len(good)} other masks hold labels; export the masks of colours as these"
            greys = {(0, 0, 0): int(counts[0]), (255, 255, 255): int(counts[-1])}  # masks without any other colour
            return dataset.advice(kind, wrong, Counter(stored) + Counter(greys))
        if kind in ("values", "palette_values") and dataset.stores_indices:
            own = {label: int(pixels) for label, pixels in enumerate(counts[:-1]) if pixels}
            return dataset.advice(kind, wrong, Counter(stored) + Counter(own))
        return dataset.advice(kind, wrong, wrong or stored)  # what the good masks store is not known

    return advise


def _warning(kind: str, split: str, what: str, files: Iterable[str] = ()) -> Issue:
    return Issue(kind, what=what, severity="warning", split=split, files=tuple(files))


def _error(kind: str, split: str, what: str, files: Iterable[str] = ()) -> Issue:
    return Issue(kind, what=what, split=split, files=tuple(files))


def misread_issues(samples: Samples, splits: Mapping[str, Dataset], unreadable: Iterable[Issue]) -> Iterator[Issue]:
    """Labels that may mean something else than was read: palettes that clash, and masks of 0 and 255."""
    dataset = next(iter(splits.values()))
    masks = {  # file -> split and statistics
        str([f"{split}/{each.name}", *splits[split].files(index)][-1]): (split, each)
        for split, those in samples.items()
        for index, each in enumerate(those)
    }
    palettes = {file: each.palette for file, (_, each) in masks.items()}
    clashes = dataset.palette_issues(palettes) if any(palettes.values()) else []
    for issue in merged(clashes, dataset.advice):
        files = [file for pair in issue.files for file in pair.split(" and ") if file in masks]
        split = ", ".join(dict.fromkeys(masks[file][0] for file in files))
        meant = issue.kind == "label_colours" and dataset.labels_are_stated
        yield replace(issue, severity="warning" if meant else "error", split=split, files=tuple(files))
    if "train" in samples and len(dataset.classes) == 2 and dataset.void_is_assumed:
        yield from _black_and_white(dataset, masks, unreadable)


def _black_and_white(
    dataset: Dataset, masks: Mapping[str, tuple[str, SampleStatistics]], unreadable: Iterable[Issue]
) -> Iterator[Issue]:
    """Masks of two classes that hold 255 and no 1, where nobody said that 255 is void: it is likelier the foreground.

    Where other masks hold 1 this is a warning, and where one holds both 1 and 255 nothing is odd.
    """
    counts = {file: each.counts for file, (_, each) in masks.items()}
    odd = {file: own for file, own in counts.items() if own[2] and not own[1]}
    ones = sum(bool(own[1]) for own in counts.values()) + sum(1 in issue.stored for issue in unreadable)
    if not odd or any(own[1] and own[2] for own in counts.values()):
        return
    if ones:
        kind = "mixed_void"
        what = f"holds 255, which is read as void, and no 1, while {ones} other masks hold 1 and no 255"
    elif any(own[0] for own in counts.values()):
        kind, what = "black_and_white", "the only labels are 0 and 255, and 255 is void where nothing else is said"
    else:
        return
    issues = [
        Issue(kind, file, what, split=masks[file][0], stored={0: int(own[0]), 255: int(own[2])})
        for file, own in odd.items()
    ]
    for issue in merged(issues, dataset.advice):
        yield replace(issue, severity="warning" if ones else "error")


def label_issues(samples: Sequence[SampleStatistics], dataset: Dataset, split: str, whole: bool) -> Iterator[Issue]:
    """What is odd about the labels of a split; of one that is not ``whole``, classes may lie in what is left out."""
    counts = np.array([each.counts for each in samples])  # [N,C+1]
    pixels, images, void = counts.sum(0), (counts[:, :-1] > 0).sum(0), int(counts[:, -1].sum())
    if not images.any():
        text = "every mask is void throughout: there is nothing to learn or to score"
        yield _error("all_void", split, text, [each.name for each in samples])
        return
    if split == "train" and np.count_nonzero(images) == 1 and len(dataset.classes) > 1:
        only = dataset.classes[int(images.argmax())]
        share = f", and {void / pixels.sum():.1%} of all pixels are void" if void else ""
        stored = {label: int(pixels[label]) for label in np.flatnonzero(pixels[:-1]).tolist()}
        stored |= {dataset.ignore_index: void} if void else {}
        hint = dataset.advice("one_class", {}, stored) or "which stored label is which class?"
        text = f"every labelled pixel is '{only}'{share}; nothing can be learned; {hint}"
        yield _error("one_class", split, text) if whole else _warning("one_class", split, text)
        return
    if split == "train" and len(dataset.classes) == 1:
        text = (
            f"'{dataset.classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
            "what is not of it, such as the background, is a class too"
        )
        yield _warning("one_class", split, text)
    absent = [name for name, count in zip(dataset.classes, images, strict=True) if not count]
    if absent and whole:
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(dataset.classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        yield _warning("absent_class", split, text, absent)


_IMAGE_RULES: tuple[tuple[str, Callable[[SampleStatistics], bool], str, str], ...] = (
    (
        "no_data",
        lambda each: not math.isnan(each.no_data),
        "hold a value far from all their others",
        "where it marks pixels without data, the network sees little else beside it: put the mean of the others there, "
        "or leave these images out",
    ),
    (
        "turned_image",
        lambda each: each.turned,
        "and their masks are turned differently by their EXIF orientation, which one of the two may lack",
        "if the masks were drawn on the pixels as they are stored, they do not fit: take the orientation out of images "
        "and masks (exiftool -Orientation= FILES); if they were drawn on the upright images, all is well",
    ),
    (
        "constant_image",
        lambda each: each.constant,
        "hold the same value at every pixel, so nothing can be seen in them",
        "export them again, or leave them out",
    ),
)
"""Kind, which images, what is odd about them, what to do."""


def image_issues(samples: Samples, splits: Mapping[str, Dataset]) -> Iterator[Issue]:
    """What is odd about the images of all splits, and about the format of masks."""
    yield from _mixed_formats(samples, splits)
    how = measured(samples["train"]) if any(each.dtype == "float32" for each in samples.get("train", ())) else None
    for split, those in samples.items():
        rules = [
            (kind, [each for each in those if odd(each)], what, advice) for kind, odd, what, advice in _IMAGE_RULES
        ]
        far = [each for each in those if how and each.dtype == "float32" and how.is_far(each.channels)]
        if how and split != "train" and 2 * len(far) > len(those):  # a few images may well differ
            what = (
                f"have values of another range than those of train, which have a mean of {how.mean[0]:.4g} and a "
                f"deviation of {how.std[0]:.4g}"
            )
            rules.append(("other_range", far, what, "the network cannot know what it sees there: save all in one unit"))
        for kind, odd_ones, what, advice in rules:
            if odd_ones:
                names = [each.name for each in odd_ones]
                values = {f"{each.no_data:g}" for each in odd_ones} if kind == "no_data" else set()
                what += f", as {first_few(sorted(values))}" if values else ""
                text = f"{len(names)} of {len(those)} images {what}: {first_few(names)}; {advice}"
                none_left = kind == "constant_image" and split == "train" and len(names) == len(those)
                yield (_error if none_left else _warning)(kind, split, text, names)


def _mixed_formats(samples: Samples, splits: Mapping[str, Dataset]) -> Iterator[Issue]:
    """Images of 8 bits beside images of more, and masks whose 0 is white beside others."""
    every = [(split, index, each) for split, those in samples.items() for index, each in enumerate(those)]

    def named(which: int, chosen: Callable[[SampleStatistics], bool]) -> list[str]:
        """The images' files (0), or the masks' (-1)."""
        return [
            str([*splits[split].files(index), each.name][:2][which]) for split, index, each in every if chosen(each)
        ]

    where = ", ".join(samples)
    deep, plain = named(0, lambda each: each.dtype != "uint8"), named(0, lambda each: each.dtype == "uint8")
    if deep and plain:
        text = (
            f"{len(deep)} of {len(every)} images have more than 8 bits a channel, {first_few(deep)}, and others 8, "
            f"{first_few(plain)}; values of the one mean nothing beside the other's: save all images alike"
        )
        yield _error("mixed_depth", where, text, deep if len(deep) < len(plain) else plain)
    white, black = named(-1, lambda each: each.white_is_zero), named(-1, lambda each: not each.white_is_zero)
    text = f"{len(white)} of {len(every)} masks are TIFFs whose 0 is white (photometric interpretation 0)"
    if white and black:
        text += f", and the others' is black: {white[0]} and {black[0]}; save all masks alike, as PNG"
        yield _error("white_zero", where, text, (white[0], black[0]))
    elif white:
        text += (
            f", as {white[0]}: labels are read as they are stored, 0 as 0. Where what viewers show is what is meant, "
        )
        yield _warning("white_zero", where, text + "export the masks as PNG", white[:1])


def augment_issues(train: Sequence[SampleStatistics], augment: AugmentSettings, resize: Resize) -> Iterator[Issue]:
    """What ``[augment]`` cannot do with the training images, or does to no use: crops that are mostly void."""
    if train and augment.colour and train[0].dtype != "uint8":
        text = f"augment.colour = {augment.colour} changes colours of 8 bits a channel, and these images have more"
        yield _error("colour", "train", f"{text}; leave it out")
    elif train and augment.crop is not None:
        crop = [augment.crop] * 2 if isinstance(augment.crop, int) else list(augment.crop)
        scale = math.sqrt(augment.scale[0] * augment.scale[1])
        sizes = np.array([resized_size(*each.size, resize) for each in train]) * scale  # [N,2]
        void = 1 - float((np.minimum(sizes, crop).prod(axis=1) / np.prod(crop)).mean())
        if void >= 0.5:
            text = (
                f"augment.crop = {augment.crop} is larger than most images (after data.resize and augment.scale): "
                f"{void:.0%} of the crops is void"
            )
            yield _warning("large_crop", "train", text)
