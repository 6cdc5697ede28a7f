"""Find images and masks by the options of ``folder`` and assign splits: by folders, patterns, lists or fractions."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, Issue, first_few, refuse
from segkit_folder.lists import listed
from segkit_folder.pairs import Found, NoFiles, Pattern, both_sides, joined, pair
from segkit_folder.pictures import pictures_in
from segkit_folder.rows import Lists, lines_of, without_suffix
from segkit_folder.splits import SUFFIXES, composed, split_by_fraction, split_called, split_into_folds
from segkit_folder.tables import groups_in
from segkit_readers.joined import places_of


class Shares(NamedTuple):
    """How images are divided into splits where no folder and no list assigns them.

    Attributes:
        fractions: shares of all images for train, val and test.
        seed: a different seed gives a different split.
        val: the share of train that becomes val, if there is no val split.
        folds: the number of parts of train for cross-validation, one of which becomes val.
        fold: the index of that part.
    """

    fractions: Sequence[float]
    seed: int = 0
    val: float | None = None
    folds: int | None = None
    fold: int = 0

    def check(self) -> None:
        """Check ``val``, ``folds`` and ``fold``.

        Raises:
            ConfigError: a value is out of range, or ``val`` and ``folds`` are both given.
        """
        if self.val is not None and not 0 < self.val < 1:
            raise ConfigError(f"val = {self.val}: give a share of train between 0 and 1")
        if self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ConfigError(f"folds = {self.folds}, fold = {self.fold}: two folds or more, and one of 0, 1, ...")
        if self.folds is not None and self.val is not None:
            raise ConfigError("val and folds: one fold is val already; give one of the two")

    def deal(self, units: Collection[str], what: str) -> dict[str, str]:
        """Return unit -> split, for units (images or groups) without a split, or for the units of train."""
        keys = sorted(units, key=composed)
        if self.folds is not None:
            parts = split_into_folds(keys, self.folds, self.seed)
            val = {*parts[self.fold]}
            return {key: "val" if key in val else "train" for key in keys}
        fractions = self.fractions if self.val is None else (1 - self.val, self.val)
        dealt = split_by_fraction(keys, fractions, self.seed, what)
        return {key: split for split, members in dealt.items() for key in members}


@dataclass(frozen=True)
class Layout:
    """The images of a data set, and their masks.

    Attributes:
        images: in order; ``values`` has "split" where a folder or a list assigns it, and "group" where it is known.
        masks: path of an image -> path of its mask.
        issues: (split, issue) of each problem; the split is None if it concerns all of them.
        blank: images without a mask, all of whose pixels are of the first class.
    """

    images: Sequence[Found]
    masks: Mapping[Path, Path]
    issues: Sequence[tuple[str | None, Issue]] = ()
    blank: Collection[Path] = ()
    splits: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        there = {each.values.get("split") for each in self.images}
        object.__setattr__(self, "splits", tuple(split for split in SPLITS if split in there))

    def refuse(self, split: str) -> None:
        """Raise an error if the files of a split have issues.

        Raises:
            DataError: the split, or the whole layout, has an issue.
        """
        refuse([issue for of, issue in self.issues if of in (None, split)])

    def of(self, split: str) -> list[tuple[Path, Path, str]]:
        """Return (image, mask, sample name) of each pair in a split."""
        members = [each for each in self.images if each.values.get("split") == split and each.path in self.masks]
        return [(each.path, self.masks[each.path], each.name) for each in members]


def read_layout(
    root: Path,
    images: str | Sequence[str] = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    pairs: Lists | None = None,
    lists: Lists | None = None,
    group: str | None = None,
    fold: int = 0,
) -> Layout:
    """Find the files and pair them, without dividing them by :class:`Shares`.

    ``fold`` selects a fold in lists that have several. The other arguments are options of the dataset ``folder``.

    Raises:
        ConfigError: a pattern is invalid, or options contradict each other.
        DataError: there is no image or no mask, a list cannot be read, or an image has no group.
    """
    if pairs is not None:
        if lists is not None:
            raise ConfigError("pairs and lists: a list of pairs is one of splits already; give one of the two")
        layout = _of_pairs(root, pairs, fold)
        return layout if group is None else replace(layout, images=_grouped(root, layout.images, group))
    images, *others = [images] if isinstance(images, str) else images
    first = _side(root, "images", images)
    sides = (first, _side(root, "masks", masks, composed(mask_suffix), "split" in first.words))
    found, of_masks = both_sides(*sides)
    found = joined(found, sides[0], [_side(root, "images", text) for text in others])
    found = found if group is None else _grouped(root, found, group)
    shared = sorted(sides[0].words & sides[1].words)
    of_masks = _of_one_kind(found, of_masks, shared)
    named: dict[Path, str | None] = {each.path: None for each in found}
    missing: list[tuple[str | None, Issue]] = []
    if lists is not None:
        found, named, missing = listed(root, lists, found, sides[0], fold)
    paired, issues = pair(found, of_masks, sides[1], shared)  # by split folders; lists may then move images
    split_of = {each.path: each.values.get("split") for each in of_masks if "split" not in sides[0].words}
    of_mask = {image.path: split_of.get(mask) for image, mask in paired}
    found = [each.in_split(of_mask.get(each.path)).in_split(named[each.path]) for each in found]
    problems = [(named.get(each.path) or each.values.get("split"), issue) for each, issue in issues]
    there = {None, *(each.values.get("split") for each in found)}
    problems = [(split, issue) for split, issue in problems if split in there]  # drop issues of splits without images
    if lists is not None:  # masks of images that are not listed are no issue
        problems = [*missing, *((split, issue) for split, issue in problems if issue.kind != "mask_without_image")]
    partner = {image.path: mask for image, mask in paired}
    unlabelled = []
    for split in ("val", "test"):
        part = [each for each in found if each.values.get("split") == split]
        if not part or any(each.path in partner for each in part):
            continue
        if not any(each.values.get("split") == split for each in of_masks):
            folder = places_of(part[0].path)[0].parent
            what = f"no {split} split: {folder} holds its images, and none of these has a mask"
            warnings.warn(f"{what}; `predict` needs no masks", stacklevel=4)
            unlabelled += part
            found = [each for each in found if each.values.get("split") != split]
            problems = [each for each in problems if each[0] != split]
    if lists is None:
        read = {each.path for each in (*found, *unlabelled, *of_masks)}
        for side in sides if sides[1].is_folder else sides[:1]:
            side.warn_unread(read)
    return Layout(found, partner, problems)


def _of_one_kind(images: Sequence[Found], masks: Sequence[Found], shared: Sequence[str]) -> list[Found]:
    """Return the masks without those of another kind, such as 7_colour_mask.png where 7_mask.png is read.

    Most images have such a mask, of the same word; that of a single one has lost its image.
    """

    def key(values: Mapping[str, str]) -> tuple[str | None, ...]:
        return tuple(values.get(word) for word in shared)

    keys = {key(each.values) for each in images}
    own = {key(each.values) for each in masks} & keys
    word_of: dict[Path, str] = {}
    for each in masks:
        name = each.values.get("id", "")
        for match in re.finditer(r"[_\-. ](?=\D+$)", name) if key(each.values) not in keys else ():
            if key({**each.values, "id": name[: match.start()]}) in own:
                word_of[each.path] = name[match.start() :]
    number = Counter(word_of.values())
    return [each for each in masks if each.path not in word_of or 2 * number[word_of[each.path]] < len(own)]


def _side(root: Path, option: str, text: str, suffix: str = "", may_be_divided: bool = True) -> Pattern:
    """Return the pattern of an option; "/{split}" is added to a folder that has subfolders named after splits."""
    pattern = Pattern(root, text, option, suffix)
    may_be_divided = may_be_divided and pattern.is_folder and "{split}" not in text
    inside = [*pattern.base.iterdir()] if may_be_divided and pattern.base.is_dir() else []
    is_divided = any(split_called(each.name) and each.is_dir() for each in inside)
    return Pattern(root, text + "/{split}", option, suffix) if is_divided else pattern


def pictures(root: Path, images: Sequence[str]) -> list[Found]:
    """Return the images in a folder that match the patterns, with or without their ``{split}`` part.

    Raises:
        NoFiles: no image matches.
    """
    for texts in (images, [re.sub(r"\{split\}[/_-]?", "", text) for text in images]):
        first, *others = [_side(root, "images", text.lstrip("/")) for text in texts]
        if found := joined(first.files(), first, others):
            return found
    raise NoFiles(first.nothing())


def _of_pairs(root: Path, pairs: Lists, fold: int) -> Layout:
    """Read lists of "image mask" lines, whose paths are relative to the root or to a folder above the list."""
    images: list[Found] = []
    masks: dict[Path, Path] = {}
    issues: list[tuple[str | None, Issue]] = []
    bases: dict[str, Path] = {}
    every: dict[str, list[Path]] = {}
    for line in lines_of(root, pairs, fold):
        cells = [cell.lstrip("/") for cell in line.cells]
        pictures = [cell for cell in cells if cell.lower().endswith(SUFFIXES)]
        if line.number == 1 and not pictures:  # a heading
            continue
        cells = pictures if len(pictures) == 2 else cells
        above = [folder for folder in Path(line.file).parents if folder.is_relative_to(root)]
        base = bases.get(line.file) or next((x for x in (root, *above) if all((x / y).is_file() for y in cells)), None)
        bases |= {line.file: base} if base else {}
        if base is None:  # paths of another computer
            every = every or _by_name(root)
            ends = [_with_end(cell, every.get(cell.rpartition("/")[2], ())) for cell in cells]
            cells = [path.relative_to(root).as_posix() for path in ends if path] if all(ends) else cells
        if len(cells) != 2 or any(".." in cell.split("/") for cell in cells):
            raise DataError(f"{line}; a line is an image and its mask, as paths below {root}")
        image, mask = ((base or root) / cell for cell in cells)
        if image in masks:
            raise DataError(f"{line}: {cells[0]} has a mask already, {masks[image]}; give one line an image")
        masks[image] = mask
        for path in (image, mask):
            if not path.is_file():
                what, advice = "listed but not there", "correct the list"
                issues.append((line.split, Issue("missing", str(path), what, advice, line.file)))
        name = without_suffix(cells[0])
        if image.is_file() and mask.is_file():
            images.append(Found(image, name, {"id": name}).in_split(line.split))
    if len({each.path.parent for each in images}) == 1:
        images = [each._replace(name=each.name.rpartition("/")[2]) for each in images]
    if len({*masks.values()}) < len(masks):
        mask, count = Counter(masks.values()).most_common(1)[0]
        raise DataError(f"{mask} is listed as the mask of {count} images; give each image its own mask")
    return Layout(images, {each.path: masks[each.path] for each in images}, issues)


def _by_name(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in pictures_in(root):
        found.setdefault(path.name, []).append(path)
    return found


def _with_end(text: str, paths: Sequence[Path]) -> Path | None:
    """Return the path that has the most last folders in common with a text; None if several have."""
    pairs = [zip(text.split("/")[-2::-1], path.parts[-2::-1], strict=False) for path in paths]
    common = [len([*takewhile(lambda pair: pair[0] == pair[1], each)]) for each in pairs]
    return paths[common.index(max(common))] if common and common.count(max(common)) == 1 else None


def group_in(group: str) -> re.Pattern[str]:
    """Return the regular expression whose first group is the value of ``{group}`` in a path."""
    before, after = (
        re.sub(r"\\\[(.+?)\\\]", r"[\1]", re.escape(part)).replace(r"\*", "[^/]*?").replace(r"\?", "[^/]")
        for part in composed(group).split("{group}")
    )
    apart = re.search(r"\[([^\[]*/[^\[]*)\]$", before)  # letters that separate words as / does
    return re.compile(f"{before}([^{apart[1] if apart else '/'}]+{'?' if after else ''}){after}")


def _grouped(root: Path, images: Sequence[Found], group: str) -> list[Found]:
    """Add to each image's ``values`` the group that its path contains, or that a table names."""
    if "#" in group and "{group}" not in group:
        stems = [without_suffix(each.path.name) for each in images]
        named = groups_in(root, group, {*stems})
        found, what = [named.get(stem, "") for stem in stems], "the table names no group for {} images"
    elif group.count("{group}") != 1:
        raise ConfigError(f'group = "{group}": it must hold {{group}} once, as "patient{{group}}_"')
    else:
        paths = [composed(each.path.as_posix()).removeprefix(f"{root.as_posix()}/") for each in images]
        matches = [*map(group_in(group).search, paths)]
        found, what = [match[1] if match else "" for match in matches], "nothing in the paths of {} images matches"
    if without := [str(each.path) for each, value in zip(images, found, strict=True) if not value]:
        raise DataError(f'group = "{group}": {what.format(len(without))}: {first_few(without)}')
    return [each._replace(values={**each.values, "group": value}) for each, value in zip(images, found, strict=True)]


def divided(root: Path, layout: Layout, lists: Lists | None, group: str | None, shares: Shares) -> Layout:
    """Return the layout with a split for every image: by lists, by the image's own split, or by shares.

    Raises:
        ConfigError: options contradict each other.
        DataError: a list or a group does not match the images.
    """
    if group is not None:
        layout = replace(layout, images=_grouped(root, layout.images, group))
    if lists is not None:
        images, named, missing = listed(root, lists, layout.images, fold=shares.fold)
        images = [each.in_split(named[each.path]) for each in images]
        layout = replace(layout, images=images, issues=[*layout.issues, *missing])
    return dealt(layout, shares)


def dealt(layout: Layout, shares: Shares) -> Layout:
    """Return the layout with a split for every image, and each group in one split only.

    Raises:
        ConfigError: invalid shares, or a share for val although a val split exists.
        DataError: a group is in two splits.
    """
    shares.check()
    loose = layout.images if not layout.splits else [x for x in layout.images if x.values.get("split") == "train"]
    if layout.splits and (shares.val is not None or shares.folds is not None) and "val" in layout.splits:
        option = "val" if shares.folds is None else "folds"
        raise ConfigError(f"{option}: there is a val split already, of {len(layout.of('val'))} images; leave it out")
    if not layout.splits or shares.val is not None or shares.folds is not None:
        loose = [each for each in loose if each.path in layout.masks]
        units = {each.path: each.values.get("group", each.name) for each in loose}
        what = "groups" if any("group" in each.values for each in loose) else "images"
        split_of = shares.deal({*units.values()}, what)
        new_split = {path: split_of[unit] for path, unit in units.items()}
        return replace(layout, images=[each.in_split(new_split.get(each.path)) for each in layout.images])
    sides: dict[str, set[str]] = {}
    for each in layout.images:
        if "group" in each.values:
            sides.setdefault(each.values["group"], set()).add(each.values["split"])
    if torn := sorted(group for group, splits in sides.items() if len(splits) > 1):
        raise DataError(f"{len(torn)} groups are in two splits: {first_few(torn)}; each belongs in one")
    return layout


def without_unpaired(layout: Layout) -> Layout:
    """Drop the issues of images and masks that have no partner, with a warning that names them."""
    kinds = ("image_without_mask", "mask_without_image")
    for kind in kinds:
        files = sorted({issue.file for _, issue in layout.issues if issue.kind == kind})
        if files:
            what = kind.replace("_", " ").replace("image ", "images ", 1).replace("mask ", "masks ", 1)
            warnings.warn(f"left out because of skip_unpaired: {len(files)} {what}: {first_few(files)}", stacklevel=3)
    return replace(layout, issues=[each for each in layout.issues if each[1].kind not in kinds])


def with_blank(layout: Layout) -> Layout:
    """Mark images without a mask as blank, with a warning: the image's path takes the place of the mask's."""
    blank = [issue.file for _, issue in layout.issues if issue.kind == "image_without_mask"]
    if blank:
        warnings.warn(
            f"{len(blank)} images without a mask are all of the first class: {first_few(blank)}", stacklevel=3
        )
    issues = [each for each in layout.issues if each[1].kind != "image_without_mask"]
    paths = [Path(each) for each in blank]
    masks = {**layout.masks, **dict(zip(paths, paths, strict=True))}
    return replace(layout, masks=masks, issues=issues, blank=frozenset(paths))
