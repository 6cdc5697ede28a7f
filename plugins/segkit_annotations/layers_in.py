"""Recognises folders with several masks per image: by folders, by file names, or as the bands of an array."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.read import opened
from segkit.errors import DataError, LabelError
from segkit_annotations import files
from segkit_folder.masks import read_mask
from segkit_folder.pairs import Pattern, numbered
from segkit_folder.pictures import certain_parts
from segkit_folder.propose import Proposal, propose_layout
from segkit_folder.splits import SEVERAL, SUFFIXES, split_in

_NO_IMAGES = re.compile(  # words in names of folders without images
    r"(?i)mask|label|annot|boundar|overlay|visuali|preview|(?<![a-z])(gt|seg|vi[sz](?![a-z]))"
)
_BETWEEN = re.compile(r"\.\w+#|[_\-. ]")  # separators between an image's name and a class
_OF_IMAGES = re.compile(r"(?i)(\.\w+#|[_\-. ])(images?|img|photo|picture|rgb|orig(inal)?|raw|input|scan|sat|x|data)$")
_COUNTED = re.compile(r"(?i)(?<!class)(?<!label)[\W_]*\d+$")  # the number of an object within its class
_FEW = 5  # how many images' masks are compared
_SOME = 400  # how many names of a folder are examined
_FOLDERS = 100
_SAME = 0.75  # share of common pixels above which two masks are two annotators' and not two objects
_APART = 0.98  # least share of pixels that are set in one band at most, if each band is a class
_MOST_CLASSES = 64


def recognised(root: Path) -> list[dict[str, Any]]:
    """Return the possible options of the dataset ``layers`` for a folder; empty if it holds one mask per image."""
    folders: dict[Path, set[str]] = {}
    has_arrays = False
    for path in files.walk(root, "*"):
        own = folders.setdefault(path.parent.relative_to(root), set())
        if path.suffix.lower() in SUFFIXES:
            own.add(path.stem)
        if path.suffix.lower() in SEVERAL:
            has_arrays = True
            own.update(f"{path.name}#{part}" for part in (certain_parts(path) if len(own) < _SOME else ()))
    folders = {folder: stems for folder, stems in folders.items() if stems}
    plain = {folder: {stem for stem in stems if "#" not in stem} for folder, stems in folders.items()}
    plain = {folder: stems for folder, stems in plain.items() if stems}
    ways = [(f"{images.as_posix()}|{masks.as_posix()}", is_sure) for images, masks, is_sure in _layouts(plain)]
    named = {f"{images}|{masks}" for images, masks in _by_names(folders)}
    proposals = propose_layout(root) if ways or named or has_arrays else []
    if bands := [options for each in proposals if (options := _by_bands(each))]:
        return bands[:1]
    paired = [each.options.get("masks", "") for each in proposals]
    merged = [way for way in _merged(files.patterns(named)) if _are_layers(root, way.split("|")[1])]
    merged = merged or _merged(files.patterns({way for way, is_sure in ways if is_sure or not paired}))
    found = [each.split("|") for each in merged]
    return [  # a folder with one mask per image elsewhere is preferred
        {"images": images, "annotations": masks}
        for images, masks in found
        if not any(map(_NO_IMAGES.search, {*images.split("/")} - {*masks.split("/")}))
        if not paired
        or (all(mask.startswith(re.split("[{*]", masks)[0]) for mask in paired) and not _cover_the_same(root, masks))
    ]


def _by_names(folders: Mapping[Path, set[str]]) -> Iterator[tuple[str, str]]:
    """Yield patterns of masks named by image and class, ``7_hair`` or ``7.npz#hair``, also in numbered folders."""
    groups: dict[Path, set[str]] = {}
    folders = dict(islice(folders.items(), _FOLDERS))  # a few folders suffice: those of many patients are alike
    for folder, stems in folders.items():
        groups.setdefault(folder.with_name("*") if folder.name.isdecimal() else folder, set()).update(stems)
    for (images, theirs), (masks, own) in product(folders.items(), groups.items()):
        place = masks.parent if masks.name == "*" else masks
        if images != place and not _belong_together(images, place):
            continue
        for tail in sorted({""} | {match[0] for stem in theirs if (match := _OF_IMAGES.search(stem))}):
            called = [stem for stem in theirs if stem.endswith(tail)]
            if images == masks and not tail:
                called = [each for each in theirs if not any(id in theirs for id, _, _ in _divided(each))]
            ids = {numbered(stem.removesuffix(tail)) for stem in called}
            rest = sorted(own - {*called} if images == masks else own)[:_SOME]
            for order in ("{id}%s{class}", "{class}%s{id}"):
                fits = [(each, *fit) for each in rest for fit in _fits(each, ids, order)]
                classes = Counter(name for _, _, name, _ in fits)
                distinct = {_COUNTED.sub("", name) for name in classes}
                once = len({each for each, *_ in fits})
                several = max(Counter(id for _, id, _, _ in fits).values(), default=0)
                if 0.95 * len(rest) <= once == len(fits) and 1 < len(distinct) <= len(classes) <= _MOST_CLASSES:
                    between = Counter(sep for *_, sep in fits).most_common(1)[0][0]
                    if several > 1 and once >= 2 * len(classes) and not any("/" in name for name in classes):
                        yield str(images / f"{{id}}{tail}"), str(masks / (order % between))


def _divided(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield all splits of a name at a separator, as (before, separator, after); the longest ``before`` first."""
    for match in reversed([*_BETWEEN.finditer(name)]):
        yield name[: match.start()], match[0], name[match.end() :]


def _fits(name: str, ids: set[str], order: str) -> Iterator[tuple[str, str, str]]:
    """Yield the image id, the class and the separator in a name, at most once: with the longest known id."""
    ways = [*_divided(name)]
    ways = ways if order.startswith("{id}") else [(after, sep, before) for before, sep, after in reversed(ways)]
    known = [(id, rest, sep) for id, sep, rest in ways if numbered(id) in ids and rest and not rest.isdecimal()]
    yield from known[:1]


def _by_bands(proposal: Proposal) -> dict[str, Any] | None:
    """Return the options if masks are arrays ``[H,W,C]`` with one band per class; one band may be the background."""
    stacks = []
    masks = [*proposal.layout.masks.values()]
    for path in masks[:: -(-len(masks) // _FEW) or 1] if "masks" in proposal.options else ():
        with suppress(DataError), opened(path) as raster:
            if len(raster.shape) == 3 and raster.shape[2] > 1 and not hasattr(raster, "has_colours"):
                stacks.append(np.asarray(raster[...]))
    if not stacks or len({each.shape[2] for each in stacks}) > 1:
        return None
    pixels = np.concatenate([each.reshape(-1, each.shape[2]) for each in stacks])  # [N,C]
    covered = (pixels != 0).sum(1)
    if (pixels < 0).any() or (pixels != np.rint(pixels)).any() or (covered < 2).mean() < _APART or not covered.any():
        return None
    share = (pixels != 0).mean(0)
    names = {f"band {number + 1}": f"class_{number + 1}" for number in range(len(share))}
    options = {"annotations" if key == "masks" else key: value for key, value in proposal.options.items()}
    if covered.min() > 0:  # the bands cover all pixels, so one of them may be the background
        largest = f"band {share.argmax() + 1}"
        is_beside = largest in (next(iter(names)), f"band {len(share)}")
        options["background"] = names[largest] = "background" if is_beside else names[largest]
    return {**options, "class_map": names}


def _are_layers(root: Path, masks: str) -> bool:
    """Whether each of some masks holds one label besides 0, and masks of the same image cover different pixels."""
    for each in Pattern(root, masks, "annotations").files()[: _FEW * _FEW]:
        try:
            if len({0, *np.unique(read_mask(each.path)).tolist()}) > 2:
                return False
        except DataError:
            return False
    return not _cover_the_same(root, masks)


def _layouts(folders: Mapping[Path, set[str]]) -> Iterator[tuple[Path, Path, bool]]:
    """Yield the pattern of the images, the pattern of the masks, and whether an image has several masks.

    Recognises one folder per image that holds images/ and masks/, one mask folder per image, and one per class.

    Args:
        folders: path below the root -> stems of the pictures in it.
    """
    both = {
        each: len(stems)
        for each, stems in folders.items()
        if each.name == "masks" and len(folders.get(each.with_name("images"), ())) == 1
    }
    for place in {each.parents[1] for each in both if len(each.parts) > 1}:
        counts = [count for each, count in both.items() if each.parents[1] == place]
        yield place / "{id}/images/*", place / "{id}/masks/*", sum(counts) > len(counts)
    inside: dict[Path, dict[str, set[str]]] = {}
    for folder, stems in folders.items():
        if folder.name:  # the root lies in no folder
            inside.setdefault(folder.parent, {})[folder.name] = stems
    several = {place: own for place, own in inside.items() if len(own) > 1 and not any(map(split_in, own))}
    near: dict[Any, list[Path]] = {}  # keys: the parent folder, and all parts of the path except one
    for place in several:
        for key in (place.parent, *_but_one(place)):
            near.setdefault(key, []).append(place)
    for folder, stems in folders.items() if not both else ():
        for place in dict.fromkeys(each for key in (folder, *_but_one(folder)) for each in near.get(key, ())):
            own = several[place]
            if not _belong_together(folder, place):
                continue
            number, called = sum(map(len, own.values())), {*()}.union(*own.values())
            are_ids, are_classes = stems >= {*own}, stems >= called
            if are_ids and not (called == stems != {*own}):  # folders called 0, 1, 2 of images called 0 to 9
                uncounted = {_COUNTED.sub("", name) for name in called}
                are_words = 1 < len(uncounted) == len(called) <= min(_MOST_CLASSES, number // 2)  # that come again
                yield folder / "{id}", place / ("{id}/{class}" if are_words else "{id}/*"), number > len(own)
            if are_classes and (called == stems or not are_ids):
                yield folder / "{id}", place / "{class}/{id}", number > len(called)


def _but_one(path: Path) -> list[tuple[Any, ...]]:
    """For each part of a path, return its index and the other parts."""
    return [(at, *path.parts[:at], *path.parts[at + 1 :]) for at in range(len(path.parts))]


def _merged(ways: list[str]) -> list[str]:
    """Merge patterns that differ only in one folder, such as a patient's, into one with ``{folder}``."""
    rows = [[side.split("/") for side in way.split("|")] for way in ways]
    for place in range(min((len(side) for row in rows for side in row), default=1) - 1):
        if len(rows) > 1 and all(images[place] == masks[place] for images, masks in rows):
            one = {"|".join("/".join((*x[:place], "{folder}", *x[place + 1 :])) for x in row) for row in rows}
            if len(one) == 1:
                return [*one]
    return ways


def _cover_the_same(root: Path, masks: str) -> bool:
    """Whether masks of the same image cover nearly the same pixels, as masks by several annotators do."""
    of: dict[tuple[str, ...], list[Path]] = {}
    for each in Pattern(root, masks, "annotations").files():
        of.setdefault(tuple(text for word, text in each.values.items() if word != "class"), []).append(each.path)
    shares = []
    for one, other, *_ in [those for those in of.values() if len(those) > 1][:_FEW]:
        with suppress(DataError, LabelError):  # reported when the mask is read
            pair = [read_mask(path) != 0 for path in (one, other)]
            if pair[0].shape == pair[1].shape and (covered := (pair[0] | pair[1]).sum()):
                shares.append((pair[0] & pair[1]).sum() / covered)
    return bool(shares) and float(np.median(shares)) > _SAME


def _belong_together(images: Path, masks: Path) -> bool:
    """Whether ``masks`` is a child of ``images``, or their paths differ in one part by more than a split or number."""
    if images.is_relative_to(masks) or masks.is_relative_to(images):
        return masks.parent == images
    apart = [each for each in zip(images.parts, masks.parts, strict=False) if each[0] != each[1]]
    return (
        len(images.parts) == len(masks.parts)
        and len(apart) == 1
        and not any(map(split_in, apart[0]))
        and (len({re.sub(r"\d", "", each) for each in apart[0]}) == 2)
    )
