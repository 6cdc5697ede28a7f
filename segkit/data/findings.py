"""What a scan tells people: the faults of many files told once, and what is odd about whole splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from segkit.data.facts import Facts
from segkit.data.issues import Advise, grouped
from segkit.data.leaks import same_pictures, similar_pictures
from segkit.data.normalise import measured
from segkit.data.resize import Resize, resized_size
from segkit.data.sample import Dataset
from segkit.data.seams import interpolated
from segkit.data.stamps import files_at, files_of
from segkit.data.subset import whole_of
from segkit.errors import Issue, first_few
from segkit.settings import AugmentSettings

MISREAD = ("palette", "palettes", "label_colours", "black_and_white")
"""Kinds of errors after which the labels of all masks may mean something else than what was read."""


def _issue(
    kind: str,
    severity: Literal["error", "warning"],
    split: str,
    text: str,
    files: tuple[str, ...] = (),
    skippable: bool = False,
) -> Issue:
    return Issue(kind, what=text, severity=severity, split=split, files=files, skippable=skippable)


def of_faults(
    faults: Mapping[str, Sequence[Issue]],
    facts: Mapping[str, Sequence[Facts]],
    splits: Mapping[str, Dataset],
    on_bad: Literal["stop", "skip"] | None = None,
) -> list[Issue]:
    """The faults of the files of all splits, with one proposal for all; without ``on_bad`` they cannot be skipped."""
    severity: Literal["error", "warning"] = "warning" if on_bad == "skip" else "error"
    found = []
    kinds = {split: {(fault.kind, fault.what) for fault in those} for split, those in faults.items()}
    for group in grouped(fault for those in faults.values() for fault in those):
        where = [split for split, those in kinds.items() if (group.kind, group.what) in those]
        advise = _adviser(splits[where[0]], [each for those in facts.values() for each in those])
        text = ("left out: " if on_bad == "skip" else "") + group.told(advise)
        files = tuple(each.file for each in group.faults)
        found.append(_issue(group.kind, severity, ", ".join(where), text, files, skippable=on_bad is not None))
    return found


def of_nothing(
    splits: Mapping[str, Dataset], facts: Mapping[str, Sequence[Facts]], on_bad: Literal["stop", "skip"]
) -> list[Issue]:
    """Splits of which nothing is left."""
    empty = [name for name, data in splits.items() if not len(data) or (on_bad == "skip" and not facts[name])]
    return [_issue("empty_split", "error", name, "not one image that can be used") for name in empty]


def _adviser(dataset: Dataset, good: Sequence[Facts]) -> Advise | None:
    """A dataset's advice on its faulty masks, in the light of its good ones."""
    advice = getattr(whole_of(dataset), "advice", None)
    if advice is None:
        return None

    def advise(kind: str, wrong: Mapping[Any, int], stored: Mapping[Any, int]) -> str:
        if not good or not stored:
            return str(advice(kind, wrong, stored))
        counts = np.sum([each.counts for each in good], axis=0)
        if kind == "colours":
            if counts[1:-1].any():
                return f"{len(good)} other masks hold labels; export the masks of colours as these"
            greys = {(0, 0, 0): int(counts[0]), (255, 255, 255): int(counts[-1])}  # masks without any other colour
            return str(advice(kind, wrong, Counter(stored) + Counter(greys)))
        if kind in ("values", "palette_values") and getattr(whole_of(dataset), "stores_indices", False):
            own = {label: int(pixels) for label, pixels in enumerate(counts[:-1]) if pixels}
            return str(advice(kind, wrong, Counter(stored) + Counter(own)))
        return str(advice(kind, wrong, wrong or stored))  # what the good masks store is not known

    return advise


def of_palettes(facts: Mapping[str, Sequence[Facts]], splits: Mapping[str, Dataset]) -> list[Issue]:
    """Masks whose palettes contradict each other, or that of the classes."""
    dataset, masks = _masks(facts, splits)
    drawn = {
        file: {label: tuple(colour.tolist()) for label, colour in each.drawn.items()}
        for file, (_, each) in masks.items()
    }
    if not any(drawn.values()) or not hasattr(dataset, "palette_faults"):
        return []
    faults = dataset.palette_faults(drawn)
    files = [file for fault in faults for file in fault.file.split(" and ") if file in masks]
    where = ", ".join(dict.fromkeys(masks[file][0] for file in files))
    return [
        _issue(
            group.kind,
            "warning" if group.kind == "label_colours" and dataset.labels_are_stated else "error",
            where,
            group.told(dataset.advice),
            tuple(files),
        )
        for group in grouped(faults)
    ]


def of_black_and_white(
    facts: Mapping[str, Sequence[Facts]], splits: Mapping[str, Dataset], others: Iterable[Issue]
) -> list[Issue]:
    """Masks of two classes that hold 255 and no 1, where nobody said that 255 is void: it is likelier the foreground.

    Where other masks hold 1 this is a warning, and where one holds both 1 and 255 nothing is odd.
    """
    dataset, masks = _masks(facts, splits)
    if "train" not in facts or len(dataset.classes) != 2 or not getattr(dataset, "void_is_assumed", False):
        return []
    odd = {file: each for file, each in masks.items() if each[1].counts[2] and not each[1].counts[1]}
    ones = sum(bool(each.counts[1]) for _, each in masks.values()) + sum(1 in fault.stored for fault in others)
    if not odd or any(each.counts[1] and each.counts[2] for _, each in masks.values()):
        return []
    if ones:
        kind, what = (
            "mixed_void",
            f"holds 255, which is read as void, and no 1, while {ones} other masks hold 1 and no 255",
        )
    elif any(each.counts[0] for _, each in masks.values()):
        kind, what = "black_and_white", "the only labels are 0 and 255, and 255 is void where nothing else is said"
    else:
        return []
    faults = [
        Issue(kind, file, what, stored={0: int(each.counts[0]), 255: int(each.counts[2])})
        for file, (_, each) in odd.items()
    ]
    where = ", ".join(dict.fromkeys(split for split, _ in odd.values()))
    (group,) = grouped(faults)
    return [_issue(kind, "warning" if ones else "error", where, group.told(dataset.advice), tuple(odd))]


def _masks(
    facts: Mapping[str, Sequence[Facts]], splits: Mapping[str, Dataset]
) -> tuple[Any, dict[str, tuple[str, Facts]]]:
    """The dataset of the first split, and the split and facts of each mask by its file, or by its name without one."""
    masks = {}
    for split, those in facts.items():
        for each, files in zip(those, files_of(splits[split]), strict=True):
            masks[str(files[-1]) if files else f"{split}/{each.name}"] = (split, each)
    return whole_of(next(iter(splits.values()))), masks


def of_facts(facts: Sequence[Facts], dataset: Dataset, split: str, whole: bool) -> list[Issue]:
    """What is odd about the labels of a split; of one that is not ``whole``, classes may lie in what is left out."""
    if not facts:
        return []
    found = []
    images = (np.array([each.counts for each in facts])[:, :-1] > 0).sum(0)
    if not images.any():
        text = "every mask is void throughout: there is nothing to learn or to score"
        return [_issue("all_void", "error", split, text, tuple(each.name for each in facts))]
    if split == "train" and np.count_nonzero(images) == 1 and len(dataset.classes) > 1:
        counts = np.sum([each.counts for each in facts], axis=0)
        void = f", and {counts[-1] / counts.sum():.1%} of all pixels are void" if counts[-1] else ""
        only = dataset.classes[int(images.argmax())]
        stored = {label: int(count) for label, count in enumerate(counts[:-1]) if count}
        stored |= {dataset.ignore_index: int(counts[-1])} if counts[-1] else {}
        advice = getattr(whole_of(dataset), "advice", None)
        hint = (advice and advice("one_class", {}, stored)) or "which stored label is which class?"
        text = f"every labelled pixel is '{only}'{void}; nothing can be learned; {hint}"
        return [_issue("one_class", "error" if whole else "warning", split, text)]
    if split == "train" and len(dataset.classes) == 1:
        text = (
            f"'{dataset.classes[0]}' is the only class, so every prediction is right and nothing can be learned; "
            "what is not of it, such as the background, is a class too"
        )
        found.append(_issue("one_class", "warning", split, text))
    absent = [name for name, count in zip(dataset.classes, images, strict=True) if not count]
    if absent and whole:
        lacking = "no network can learn these" if split == "train" else "these have no score here"
        text = f"{len(absent)} of {len(dataset.classes)} classes in no image; {lacking}: {first_few(absent, 20)}"
        found.append(_issue("absent_class", "warning", split, text, tuple(absent)))
    blended = [facts[index].name for index in interpolated([each.seams for each in facts])]
    if blended:
        text = (
            f"{len(blended)} of {len(facts)} masks look interpolated, with thin seams of other labels along the "
            f"borders of two: {first_few(blended)}; resize masks by the nearest pixel, and never keep them as JPEG"
        )
        found.append(_issue("interpolated", "warning", split, text, tuple(blended)))
    return found


def of_images(facts: Mapping[str, Sequence[Facts]], splits: Mapping[str, Dataset]) -> list[Issue]:
    """What is odd about the pictures of a data set."""
    found = []
    files: dict[str, list[str]] = {}
    for split, those in facts.items():
        for index, each in enumerate(those):
            files.setdefault(each.dtype, []).append(_file(splits[split], each, index))
    if len(files) > 1:
        fewer, more = sorted(files.values(), key=len)
        kind = "8 bits" if fewer is files["uint8"] else "more"
        text = (
            f"images of 8 bits a channel beside images of more: {kind} have {len(fewer)} of {len(fewer) + len(more)}, "
            f"{first_few(fewer)}, and others not, as {more[0]}; values of the one mean nothing beside the other's: "
            "save all images alike"
        )
        found.append(_issue("mixed_depth", "error", ", ".join(facts), text, tuple(fewer)))
    elif "float32" in files:
        found += _of_ranges(facts)
    found += _of_white_zeros(facts, splits)
    every = [each for those in facts.values() for each in those]
    marked = tuple(each.name for each in every if not math.isnan(each.mark))
    if marked:
        values = sorted({each.mark for each in every if not math.isnan(each.mark)})
        text = (
            f"{_of(marked, every)} hold a value far from all their others, as {first_few([f'{v:g}' for v in values])}: "
            f"{first_few(marked)}; where it marks pixels without data, the network sees little else beside it: put the "
            "mean of the others there, or leave these images out"
        )
        found.append(_issue("no_data", "warning", ", ".join(facts), text, marked))
    turned = tuple(each.name for each in every if each.turned)
    if turned:
        text = (
            f"{_of(turned, every)} and their masks are turned differently by their EXIF orientation, which one of the "
            f"two may lack: {first_few(turned)}; if the masks were drawn on the pixels as they are stored, they do not "
            "fit: take the orientation out of images and masks (exiftool -Orientation= FILES); if they were drawn on "
            "the upright images, all is well"
        )
        found.append(_issue("turned_image", "warning", ", ".join(facts), text, turned))
    for split, those in facts.items():
        constant = tuple(each.name for each in those if each.constant)
        if constant:
            text = f"{_of(constant, those)} hold the same value at every pixel, so nothing can be seen in them"
            whole = len(constant) == len(those) and split == "train"
            text += f": {first_few(constant)}; "
            text += "nothing can be learned from them" if whole else "export them again, or leave them out"
            found.append(_issue("constant_image", "error" if whole else "warning", split, text, constant))
    return found


def _of_ranges(facts: Mapping[str, Sequence[Facts]]) -> list[Issue]:
    """Splits whose values have another unit or range than those of train; a few images may well differ."""
    if not facts.get("train"):
        return []
    how = measured(facts["train"])
    found = []
    for split, those in facts.items():
        far = tuple(each.name for each in those if how.is_far(each.channels))
        if split != "train" and 2 * len(far) > len(those):
            text = (
                f"{_of(far, those)} have values of another range than those of train, which have a mean of "
                f"{how.mean[0]:.4g} and a deviation of {how.std[0]:.4g}: {first_few(far)}; the network cannot know "
                "what it sees there: save all images in the same unit"
            )
            found.append(_issue("other_range", "warning", split, text, far))
    return found


def _of_white_zeros(facts: Mapping[str, Sequence[Facts]], splits: Mapping[str, Dataset]) -> list[Issue]:
    """Masks whose labels are read as they are stored, and shown inverted by viewers."""
    places = [(split, i, each) for split, those in facts.items() for i, each in enumerate(those)]
    files = {each.white_is_zero: _file(splits[split], each, i, 1) for split, i, each in reversed(places)}
    if True not in files:
        return []
    count = sum(each.white_is_zero for *_, each in places)
    text = f"{count} of {len(places)} masks are TIFFs whose 0 is white (photometric interpretation 0)"
    if False in files:
        text += f", and the others' is black: {files[True]} and {files[False]}; save all masks alike, as PNG"
        return [_issue("white_zero", "error", ", ".join(facts), text, (files[True], files[False]))]
    text += (
        f", as {files[True]}: read are the labels that are stored, 0 as 0. Where what viewers show is what is meant, "
        "export the masks as PNG"
    )
    return [_issue("white_zero", "warning", ", ".join(facts), text, (files[True],))]


def _of(some: Sequence[str], those: Sequence[Facts]) -> str:
    return f"{len(some)} of {len(those)} images"


def _file(dataset: Dataset, facts: Facts, index: int, which: int = 0) -> str:
    """The file of an image, or ``which = 1`` of a mask, or what its dataset calls it."""
    files = files_at(dataset, index)
    return str(files[which]) if len(files) > which else facts.name


def of_leaks(facts: Mapping[str, Sequence[Facts]], allowed: bool) -> list[Issue]:
    """Pictures that are in two splits: the same ones, and nearly the same."""
    prints = {split: [each.fingerprint for each in those] for split, those in facts.items()}
    found = []
    for kind, pairs in (("same_picture", same_pictures(prints)), ("similar_picture", similar_pictures(prints))):
        for first, second in dict.fromkeys((a, b) for a, _, b, _ in pairs):
            own = [(facts[a][i].name, facts[b][j].name) for a, i, b, j in pairs if (a, b) == (first, second)]
            listed = first_few([one if one == other else f"{one} = {other}" for one, other in own])
            certain = kind == "same_picture"
            seen = "were trained on" if first == "train" else "the best epoch is chosen by"
            number = f"{len(own)} pictures are" if len(own) > 1 else "1 picture is"
            text = (
                f"{number} {'' if certain else 'nearly the same '}in both; the score on {second} is of pictures that "
            )
            text += f"{seen}: {listed}"
            text += "; take them out of one" if certain else "; keep pictures of one scene or film in one split"
            if certain and not allowed:
                text += ", or set data.allow_leaks = true"
            severity: Literal["error", "warning"] = "error" if certain and not allowed else "warning"
            files = tuple(dict.fromkeys(name for pair in own for name in pair))
            found.append(_issue(kind, severity, f"{first} and {second}", text, files))
    return found


def of_augment(facts: Sequence[Facts], augment: AugmentSettings, resize: Resize) -> list[Issue]:
    """What ``[augment]`` cannot do with the training images, or does to no use: crops that are mostly void."""
    if facts and augment.colour and facts[0].dtype != "uint8":
        text = (
            f"augment.colour = {augment.colour} changes colours of 8 bits a channel, and these images have more; "
            "leave it out"
        )
        return [_issue("colour", "error", "train", text)]
    if augment.crop is None or not facts:
        return []
    crop = [augment.crop] * 2 if isinstance(augment.crop, int) else list(augment.crop)
    scale = math.sqrt(augment.scale[0] * augment.scale[1])
    sizes = np.array([resized_size(*each.size, resize) for each in facts]) * scale  # [N,2]
    void = 1 - float((np.minimum(sizes, crop).prod(axis=1) / np.prod(crop)).mean())
    if void < 0.5:
        return []
    text = (
        f"augment.crop = {augment.crop} is larger than most images (after data.resize and augment.scale): "
        f"{void:.0%} of the crops is void"
    )
    return [_issue("large_crop", "warning", "train", text)]
