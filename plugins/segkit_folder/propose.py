"""Propose ways to read a folder: patterns and lists that pair its files, most likely first."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkit.data.read import opened
from segkit.errors import DataError, SegkitError, gathered
from segkit_folder.differences import patterns_of, starred
from segkit_folder.differences import shared_ends as shared_ends
from segkit_folder.layout import Layout, read_layout
from segkit_folder.lists import candidates
from segkit_folder.masks import AT_ENDS
from segkit_folder.pictures import MOST_FILES, pictures_in
from segkit_folder.records import RECORDS
from segkit_folder.splits import SPLIT_IN_A_NAME, SPLIT_NAMES, split_called, split_in

MOST_COLOURS = 4096  # colours that are counted in a picture
MOST_OF_A_MASK = 256  # the most colours in a mask

SIDE_LOOKED_AT = 512  # the most pixels in a row or column that are compared
MOST_TRIED = 60  # patterns whose pairs are counted
MOST_SEEN = 5  # pairs of a pattern that are opened
_OF_IMAGES = re.compile(r"(?i)image|img|photo|picture|rgb|raw|scan|input")
_OF_MASKS = re.compile(r"(?i)mask|label|annot|truth|segm|(?<![a-z])(gt|seg|target|y(?![a-z]))")


class Proposal(NamedTuple):
    """A way to read a folder.

    Attributes:
        options: options of the dataset ``folder``: images and masks, with or without lists; or pairs.
        layout: the layout that the options give.
    """

    options: dict[str, Any]
    layout: Layout

    @property
    def pairs(self) -> int:
        """Number of images in the layout that have a mask."""
        return sum(each.path in self.layout.masks for each in self.layout.images)

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of images with a mask; empty if no split is assigned yet."""
        return {split: len(those) for split in self.layout.splits if (those := self.layout.of(split))}


def propose_layout(root: Path, images: Sequence[Path] = ()) -> list[Proposal]:
    """Return the ways to read a folder, most likely first: those with lists, then those with the most pairs.

    Args:
        root: the folder.
        images: the images, if they are known; default: all pictures, of which any may be an image or a mask.
    """
    every = [*islice(pictures_in(root), MOST_FILES)]
    found: list[Proposal] = []
    masks = set[Path]()
    for patterns in patterns_of(root, images or every, every):
        ways = [_split_by_names(root, way) for way in _likely(root, _counted(root, patterns))]
        ways = [way for way in ways if 2 * len(masks & way.layout.masks.keys()) <= way.pairs]  # masks are no images
        found = ways if ways and (not found or ways[0].pairs > found[0].pairs) else found
        read = {path for one in found for path in one.layout.masks}
        masks = {path for one in found for path in one.layout.masks.values()}
        if found and not found[0].layout.issues and min(len(read), len(masks)) <= 2 * found[0].pairs:
            break  # looser patterns cannot pair more files
    return [*_with_lists(root, found), *found]


def without_splits(root: Path) -> list[Proposal]:
    """Return ways to read a folder whose splits lack train: they ignore the splits, so all pairs can be divided."""
    found = []
    for way in [each for each in propose_layout(root) if {*each.options} == {"images", "masks"}]:
        for word in ["*", *(word for split in way.splits for word in SPLIT_NAMES[split])][len(way.splits) == 1 :]:
            has_split = "{split}" in "".join(way.options.values())  # else it names folders with split subfolders
            sides = {side: text if has_split else f"{text}/{{split}}/{{id}}" for side, text in way.options.items()}
            sides = {side: text.replace("{split}", word) for side, text in sides.items()}
            read = _read(root, sides)
            found += [read] if read and not read.layout.splits and read.pairs == way.pairs else []
    return sorted(found, key=_rank)


def _split_by_names(root: Path, way: Proposal) -> Proposal:
    """Return a way with the splits in the names of all images, after one text or before one; else itself."""
    names = [each.values.get("id", "") for each in way.layout.images]
    found = [match for name in names if (match := SPLIT_IN_A_NAME.search(name))]
    if way.splits or len(found) < len(names) or len({split_called(each[0]) for each in found}) < 2:
        return way
    before, after = ({*texts} for texts in zip(*(each.string.split(each[0], 1) for each in found), strict=True))
    marks = {text[-1:] for text in before}
    if len(before) == 1:
        name = f"{before.pop()}{{split}}{{id}}"
    elif len(after) == len(marks) == 1:
        name = f"{{id}}{marks.pop()}{{split}}{after.pop()}"
    else:
        return way
    sides = {side: text if "{id}" in text else f"{text}/{{id}}" for side, text in way.options.items()}
    read = _read(root, {side: text.replace("{id}", name) for side, text in sides.items()})
    return read if read and "train" in read.splits and read.layout.masks == way.layout.masks else way


def _counted(root: Path, patterns: Sequence[tuple[str, str]]) -> list[Proposal]:
    """Return the proposal of each pattern, most pairs first; of patterns with the same pairs, only the simplest."""
    found: dict[int, Proposal] = {}  # hash of the pairs -> proposal
    ways = [{"images": images, "masks": masks} for images, masks in patterns]
    for options in sorted(ways, key=lambda each: -_word_score(each)):
        if _word_score(options) < 0:  # images and masks swapped; the right order is in the list too
            break
        read = _read(root, options)

        if read and read.pairs:
            pairs = hash(frozenset(read.layout.masks.items()))
            found[pairs] = min(found.get(pairs, read), read, key=_rank)
        if len(found) >= MOST_TRIED:
            break
    return sorted(found.values(), key=_rank)


def _rank(way: Proposal) -> tuple[int, ...]:
    """Sort key: most pairs first, then fewest issues, then simplest patterns."""
    text = "".join(way.options.values())
    return -way.pairs, len(way.layout.issues), way.options["images"].count("{folder"), len(text)


def _read(root: Path, options: dict[str, Any]) -> Proposal | None:
    with warnings.catch_warnings(), gathered():
        warnings.simplefilter("ignore")
        try:
            return Proposal(options, read_layout(root, **options))
        except SegkitError:
            return None


def _likely(root: Path, found: Sequence[Proposal]) -> list[Proposal]:
    """Keep proposals with plausible masks and at least half the pairs of the best one, without duplicates.

    Words such as "images" and "masks" distinguish the two. Without them, the picture with fewer colours is the mask,
    and a picture with as few colours as a mask is accepted as an image only if there is nothing better. If no mask has
    few enough colours, only the words decide. A proposal whose files are all in a better one, or in several with more
    pairs, is dropped.
    """
    colours = lru_cache(None)(colours_in)
    kept: list[tuple[int, Proposal]] = []  # the likelihood first
    every = {(path.parent, path.stem) for proposal in found for path in proposal.layout.masks}
    for proposal in found:
        if 2 * sum(_is_of_another(*pair, every) for pair in proposal.layout.masks.items()) > proposal.pairs:
            continue
        if 5 * proposal.pairs < found[0].pairs or (word_score := _word_score(proposal.options)) == -2:
            continue
        pairs = [*proposal.layout.masks.items()]
        seen = [(colours(one), colours(other, True)) for one, other in pairs[:: -(-len(pairs) // MOST_SEEN)]]
        likely = [
            (word_score > 0 or (image or MOST_COLOURS) >= (mask or 0)) and (mask or 0) <= MOST_OF_A_MASK
            for image, mask in seen
        ]
        rich = [word_score == 2 or (image or MOST_COLOURS) > MOST_OF_A_MASK // 8 for image, _ in seen]
        if not any(rich) and _OF_MASKS.search(proposal.options["images"]):
            continue
        rank = 2 + (2 * sum(rich) > len(seen)) if 4 * sum(likely) >= 3 * len(seen) else word_score > 0
        if rank:
            kept.append((rank, proposal))
    ways = _joined(root, [proposal for rank, proposal in kept if rank == max(each for each, _ in kept)])
    ways = [each for each in ways if 2 * each.pairs >= ways[0].pairs]
    files = [{*each.layout.masks, *each.layout.masks.values()} for each in ways]
    whole = [own | {image.path for image in each.layout.images} for own, each in zip(files, ways, strict=True)]
    once = [
        way
        for place, way in enumerate(ways)
        if not any(
            files[place] <= (own if way.layout.masks.keys() == better.layout.masks.keys() else those)  # further masks
            for own, those, better in zip(files[:place], whole, ways, strict=False)
        )
        and not (way.pairs < ways[0].pairs and files[place] <= set().union(*files[:place]))  # paired otherwise
    ]
    return sorted(once, key=lambda each: (_word_score(each.options) < 1, -each.pairs, -_word_score(each.options)))


def _is_of_another(image: Path, mask: Path, every: Collection[tuple[Path, str]]) -> bool:
    """Whether the name of a mask in another folder is that of an image beside this one, with or without a last word."""
    names = mask.stem, re.split(r"[_\-. ](?=[^\W\d]+$)", mask.stem)[0]
    return mask.parent != image.parent and image.stem not in names and any((image.parent, x) in every for x in names)


def _joined(root: Path, ways: list[Proposal]) -> list[Proposal]:
    """Merge ways that read parts of one data set, such as folders part_1 and part_2, with * for what differs."""
    for one, other in combinations(ways[:MOST_SEEN], 2):
        pairs = {**one.layout.masks, **other.layout.masks}
        is_apart = len({*pairs, *pairs.values()}) == 2 * (one.pairs + other.pairs)
        if not is_apart or one.options["images"] == other.options["images"]:
            continue
        options = {side: _starred(one.options[side], other.options[side]) for side in ("images", "masks")}
        if named := _with_folder(one.options, other.options):
            options = named
        if not (read := _read(root, options) if all(options.values()) else None):
            continue
        masks = read.layout.masks
        least = min(len(each.layout.issues) for each in (one, other))  # else it has files of others too
        parts = [each for each in ways if each.layout.masks.items() <= masks.items()]
        known = {image: mask for each in parts for image, mask in each.layout.masks.items()}
        is_whole = pairs.items() <= masks.items() and (named or known == masks)
        if is_whole and len(read.layout.issues) <= least:
            return _joined(root, [read, *(each for each in ways if each not in parts)])
    return ways


def _with_folder(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Return the options with {folder} for a folder, such as a place, that both sides of each way name; else {}."""
    apart = [
        pair for pair in zip(one["images"].split("/"), other["images"].split("/"), strict=False) if len({*pair}) > 1
    ]
    if len(apart) != 1 or any("{" in name or split_in(name) for name in apart[0]):
        return {}
    ways = [
        {side: text.replace(name, "{folder}") for side, text in way.items()}
        for way, name in zip((one, other), apart[0], strict=True)
    ]
    return ways[0] if ways[0] == ways[1] and "{folder}" in ways[0]["masks"] else {}


def _starred(one: str, other: str) -> str:
    """Return a pattern with * where the folders of two differ; "" if names or the numbers of parts differ."""
    pairs = [*zip_longest(one.split("/"), other.split("/"), fillvalue="")]
    is_name = "{id}" in one.rpartition("/")[2] and len({*pairs[-1]}) > 1  # looser patterns read these
    return "/".join(map(starred, pairs)) if all(map(all, pairs)) and not is_name else ""


def _word_score(options: Mapping[str, Any]) -> int:
    """Rate by words in the patterns: 2 if both are right, 1 if one is, negative if images and masks are swapped."""
    images, masks = (re.split(r"[^\w{}]|_", options[side]) for side in ("images", "masks"))
    own = [" ".join(word for word in one if word not in other) for one, other in ((images, masks), (masks, images))]
    of_masks = [bool(_OF_MASKS.search(words)) for words in own]
    of_images = [bool(_OF_IMAGES.search(words)) and not is_mask for words, is_mask in zip(own, of_masks, strict=True)]
    return of_masks[1] - of_masks[0] + of_images[0] - of_images[1]


def colours_in(path: Path, is_mask: bool = False) -> int | None:
    """Return the number of colours in a picture, at most :data:`MOST_COLOURS`; None if it cannot be read.

    A picture with fractional values has :data:`MOST_COLOURS`, because labels are whole numbers. As a mask
    (``is_mask``), an object cut out of a photograph has the values of its alpha.
    """
    try:
        with opened(path) as raster:
            stored = np.asarray(raster[...])
    except DataError:
        return None
    if is_mask and stored.shape[2:] == (4,) and stored.dtype == np.uint8 and np.ptp(stored[..., 3]):
        ends = np.isin(stored[..., 3], (0, 255)).mean()
        stored = stored[..., 3] if ends > AT_ENDS else stored
    step = -(-max(stored.shape[:2]) // SIDE_LOOKED_AT)
    bands = np.atleast_3d(stored)[::step, ::step, :3]  # [h,w,at most 3]
    if bands.dtype == np.uint8:  # each colour as one number: much faster
        bands = (bands.astype(np.int32) << 8 * np.arange(bands.shape[2])).sum(2, keepdims=True)
    values = np.unique(bands.reshape(-1, bands.shape[2]), axis=0)
    return min(len(values), MOST_COLOURS) if (values == np.rint(values)).all() else MOST_COLOURS


def _with_lists(root: Path, found: Sequence[Proposal]) -> list[Proposal]:
    """Return the ways to read a folder by the lists in it, of names or of pairs, that name more images than others."""
    right = list[Proposal]()
    for lists in candidates(root):
        ways: list[dict[str, Any]] = [{"pairs": lists}, *({**each.options, "lists": lists} for each in found)]
        read = [one for options in ways if (one := _read(root, options)) and "train" in one.splits]
        alone = _read(root, ways[0])
        if alone and not alone.splits and not right and alone.pairs > (found[0].pairs if found else 0):
            read = [alone]  # a table of pairs without splits
        last = str(lists if isinstance(lists, str) else [*lists.values()][-1])
        few = found[0].pairs / 2 if found and last.endswith(RECORDS) else 0  # numbers of other meanings may be names
        read = [one for one in read if one.pairs > few]
        read = [one for one in read if sum(each.kind == "missing" for _, each in one.layout.issues) < one.pairs]
        usable = [one for one in read if not any(one.splits.keys() < way.splits.keys() for way in found)]
        right += usable[:1] if usable and "pairs" in usable[0].options else usable  # lists of pairs need no patterns
    return sorted(right, key=lambda each: -each.pairs)  # other lists may be of other masks
