"""From the options of a person's folder to images with masks, split by split: folders, patterns, lists and shares."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from segkit.data.issues import refuse
from segkit.data.sample import SPLITS
from segkit.errors import ConfigError, DataError, Issue, first_few
from segkit_folder.pairs import Found, Pattern, both_sides, pair
from segkit_folder.splits import (
    ANY_SPLIT,
    SUFFIXES,
    composed,
    read_text,
    split_by_fraction,
    split_called,
    split_into_folds,
)

_LIST = re.compile(
    rf"(?:lists?[-_])?(?:{ANY_SPLIT}|trainval|splits?)\d*(?:[-_](?:lists?|ids?|files?|names?|set))?\.(?:txt|csv|lst|json)",
    re.IGNORECASE,
)
Lists = str | Mapping[str, str]


class Shares(NamedTuple):
    """How splits that no folder and no list names are dealt.

    Attributes:
        fractions: of all images for train, val and test.
        seed: another seed, another split.
        val: a share of train, where there is no val.
        folds: so many parts of train, of which one is val.
        fold: the number of that one.
    """

    fractions: Sequence[float]
    seed: int = 0
    val: float | None = None
    folds: int | None = None
    fold: int = 0

    def check(self) -> None:
        """Refuse shares that are none.

        Raises:
            ConfigError: with what is allowed.
        """
        if self.val is not None and not 0 < self.val < 1:
            raise ConfigError(f"val = {self.val}: give a share of train between 0 and 1")
        if self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ConfigError(f"folds = {self.folds}, fold = {self.fold}: two folds or more, and one of 0, 1, ...")
        if self.folds is not None and self.val is not None:
            raise ConfigError("val and folds: one fold is val already; give one of the two")

    def deal(self, units: Collection[str], what: str) -> dict[str, str]:
        """Unit -> split, for units (images or groups) that have none yet, or are those of train."""
        keys = sorted(units, key=composed)
        if self.folds is not None:
            parts = split_into_folds(keys, self.folds, self.seed)
            val = {*parts[self.fold]}
            return {key: "val" if key in val else "train" for key in keys}
        fractions = self.fractions if self.val is None else (1 - self.val, self.val)
        dealt = split_by_fraction(keys, fractions, self.seed, what)
        return {key: split for split, those in dealt.items() for key in those}


@dataclass(frozen=True)
class Layout:
    """The images of a data set, and their masks.

    Attributes:
        images: in order; ``values["split"]`` where a folder or a list says it, ``values["group"]`` where it is known.
        masks: image -> mask.
        issues: what is wrong, by split; None for all.
        sides: the patterns of images and masks; empty for a list of pairs.
    """

    images: Sequence[Found]
    masks: Mapping[Path, Path]
    issues: Sequence[tuple[str | None, Issue]] = ()
    sides: Sequence[Pattern] = ()
    splits: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        there = {each.values.get("split") for each in self.images}
        object.__setattr__(self, "splits", tuple(split for split in SPLITS if split in there))

    def of(self, split: str) -> list[tuple[Path, Path, str]]:
        """The pairs of a split, with the names of the samples."""
        those = [each for each in self.images if each.values.get("split") == split and each.path in self.masks]
        return [(each.path, self.masks[each.path], each.name) for each in those]


def read_layout(
    root: Path,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    pairs: Lists | None = None,
    lists: Lists | None = None,
    group: str | None = None,
) -> Layout:
    """Look for the files and pair them; nothing is dealt yet.

    Raises:
        ConfigError: patterns that are none.
        DataError: no image or no mask is there, a list that cannot be read, or an image without a group.
    """
    if pairs is not None:
        if lists is not None:
            raise ConfigError("pairs and lists: a list of pairs is one of splits already; give one of the two")
        layout = _of_pairs(root, pairs)
    else:
        layout = _of_patterns(root, images, masks, mask_suffix, lists)
    return layout if group is None else replace(layout, images=[*_grouped(root, layout.images, group)])


def _of_patterns(root: Path, images: str, masks: str, suffix: str, lists: Lists | None) -> Layout:
    sides = _sides(root, images, masks, suffix)
    found, of_masks = both_sides(*sides)
    shared = sorted(sides[0].words & sides[1].words)
    if lists is not None:
        found = [each for named in _listed(root, lists, found) for each in named]
    paired, issues = pair(found, of_masks, sides[1], shared)
    told = [(each.values.get("split"), issue) for each, issue in issues]
    there = {None, *(each.values.get("split") for each in found)}
    told = [(split, issue) for split, issue in told if split in there]  # masks of another split are no matter
    if lists is not None:  # other masks may be there
        told = [(split, issue) for split, issue in told if issue.kind != "mask_without_image"]
    partner = {image.path: mask for image, mask in paired}
    unlabelled = [each for each in found if each.values.get("split") == "test"]
    labelled = any(each.path in partner for each in unlabelled)
    if unlabelled and not labelled and not any(each.values.get("split") == "test" for each in of_masks):
        warnings.warn(
            f"no test split: {unlabelled[0].path.parent} holds its images, and none of these has a mask; `predict` "
            "needs no masks",
            stacklevel=4,
        )
        found = [each for each in found if each.values.get("split") != "test"]
        told = [(split, issue) for split, issue in told if split != "test"]
    if lists is None:
        read = {each.path for each in (*found, *unlabelled, *of_masks)}
        for side in sides if sides[1].is_folder else sides[:1]:
            side.tell_unread(read)
        _tell_lists(root)
    return Layout(found, partner, told, sides)


def _sides(root: Path, images: str, masks: str, suffix: str) -> tuple[Pattern, Pattern]:
    """The two patterns; a folder may be divided into folders of splits."""
    sides: list[Pattern] = []
    for option, text in (("images", images), ("masks", masks)):
        more = composed(suffix) if option == "masks" else ""
        pattern = Pattern(root, text, option, more)
        may_be_divided = pattern.is_folder and "{split}" not in text and (not sides or "split" in sides[0].words)
        inside = [*pattern.base.iterdir()] if may_be_divided and pattern.base.is_dir() else []
        if any(split_called(each.name) and each.is_dir() for each in inside):
            pattern = Pattern(root, text + "/{split}", option, more)
        sides.append(pattern)
    return sides[0], sides[1]


def _list_files(root: Path, lists: Lists) -> list[tuple[str | None, Path]]:
    """The files of an option: a split and its list; a list of all images has no split."""
    if not isinstance(lists, str):
        if unknown := [name for name in lists if name not in SPLITS]:
            raise ConfigError(f"{unknown[0]} is no split; lists are given for {', '.join(SPLITS)}")
        return [(split, root / file) for split, file in lists.items()]
    if "{split}" not in lists:
        return [(None, root / lists)]
    pattern = re.compile(re.escape(lists).replace(r"\{split\}", rf"({ANY_SPLIT})"), re.IGNORECASE)
    folder = root / Path(lists).parent
    there = sorted(folder.iterdir()) if folder.is_dir() and "{split}" not in str(Path(lists).parent) else []
    matches = [(pattern.fullmatch((Path(lists).parent / file.name).as_posix()), file) for file in there]
    found = [(split_called(match[1]), file) for match, file in matches if match]
    if not found:
        raise DataError(f'"{lists}": no such file in {folder} for any of {ANY_SPLIT.replace("|", ", ")}')
    return [(split, file) for split, file in found]


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Place and text of the lines of a list that are not empty."""
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            yield f"{file}, line {number}", composed(line.strip())


def _without_suffix(name: str) -> str:
    return name[: name.rindex(".")] if name.lower().endswith(SUFFIXES) else name


def _listed(root: Path, lists: Lists, images: Sequence[Found]) -> Iterator[list[Found]]:
    """The images that lists name, by name, stem, ``{id}``, path or group, with the split of the list."""
    known: dict[str, list[Found]] = {}
    for each in images:
        path = _without_suffix(composed(each.path.as_posix()))
        names = {each.name, each.name.rpartition("/")[2], each.values["id"], path.removeprefix(f"{root.as_posix()}/")}
        for name in (*names, each.values.get("group")):
            if name is not None:
                known.setdefault(name, []).append(each)
    taken: dict[Path, str] = {}
    missing = []
    for split, file in _list_files(root, lists):
        for place, line in _lines(file):
            name = _without_suffix(line)
            those = (
                known.get(name) or known.get(_without_suffix(line.split()[0])) or known.get(name.rpartition("/")[2], [])
            )
            if len(those) > 1 and name != those[0].values.get("group"):
                raise DataError(
                    f"{place}: {name!r} may be {first_few([str(each.path) for each in those])}; list the path"
                )
            if not those:
                missing.append(
                    Issue("missing", name, "listed but not there", "add the image or take it off the list", place)
                )
            for each in those:
                if taken.setdefault(each.path, place) != place:
                    raise DataError(f"{place}: {name!r} is listed at {taken[each.path]} too; a sample is in one split")
            yield [each._replace(values={**each.values, **({"split": split} if split else {})}) for each in those]
    refuse(missing)


def _of_pairs(root: Path, pairs: Lists) -> Layout:
    """The files that lists of "image mask" lines name, relative to the root."""
    images: list[Found] = []
    masks: dict[Path, Path] = {}
    issues: list[tuple[str | None, Issue]] = []
    for split, file in _list_files(root, pairs):
        for place, line in _lines(file):
            cells = [cell.strip().strip('"').lstrip("/") for cell in re.split(r"[\t,;]", line)]
            cells = line.split() if len(cells) == 1 else cells
            cells = [cell.lstrip("/") for cell in cells]
            if place.endswith("line 1") and not any(
                cell.lower().endswith(SUFFIXES) for cell in cells
            ):  # the names of the columns
                continue
            if len(cells) != 2 or any(".." in cell.split("/") for cell in cells):
                raise DataError(f"{place}: {line[:60]!r}; a line is an image and its mask, as paths below {root}")
            image, mask = (root / cell for cell in cells)
            gone = [str(path) for path in (image, mask) if not path.is_file()]
            issues += [
                (split, Issue("missing", path, "listed but not there", "correct the list", place)) for path in gone
            ]
            if image in masks:
                raise DataError(f"{place}: {cells[0]} has a mask already, {masks[image]}; a line an image")
            masks[image] = mask
            name = _without_suffix(cells[0])
            images += [Found(image, name, {"id": name, **({"split": split} if split else {})})] if not gone else []
    if not images:
        raise DataError(f"pairs = {pairs!r}: no pair is listed there")
    folders = {name.rpartition("/")[0] for name in (each.name for each in images)}
    if len(folders) == 1:  # of all images
        images = [each._replace(name=each.name.rpartition("/")[2]) for each in images]
    return Layout(images, masks, issues)


def _grouped(root: Path, images: Sequence[Found], group: str) -> Iterator[Found]:
    """The images with what ``{group}`` stands for in their paths."""
    if group.count("{group}") != 1:
        raise ConfigError(f'group = "{group}": it must hold {{group}} once, as "patient{{group}}_"')
    before, after = (re.escape(part).replace(r"\*", "[^/]*") for part in composed(group).split("{group}"))
    expression = re.compile(f"{before}(?P<group>[^/]+{'?' if after else ''}){after}")
    without = []
    for each in images:
        path = each.path.relative_to(root) if each.path.is_relative_to(root) else each.path
        match = expression.search(composed(path.as_posix()))
        if match:
            yield each._replace(values={**each.values, "group": match["group"]})
        else:
            without.append(str(each.path))
    if without:
        raise DataError(
            f'group = "{group}": nothing in the paths of {len(without)} images matches: {first_few(without)}'
        )


def divided(root: Path, layout: Layout, lists: Lists | None, group: str | None, shares: Shares) -> Layout:
    """The layout with a split for every image: by lists, by what is known of the image, or by shares; as of ``folder``.

    Raises:
        ConfigError: options that do not go together.
        DataError: a list or a group that does not fit.
    """
    if lists is not None:
        layout = replace(layout, images=[each for named in _listed(root, lists, layout.images) for each in named])
    layout = layout if group is None else replace(layout, images=[*_grouped(root, layout.images, group)])
    return dealt(layout, shares)


def dealt(layout: Layout, shares: Shares) -> Layout:
    """The layout with a split for every image; no group is in two.

    Raises:
        ConfigError: a share for val where there is a val.
        DataError: a group in two splits.
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
        own = {path: split_of[unit] for path, unit in units.items()}
        images = [
            each._replace(values={**each.values, "split": own[each.path]}) if each.path in own else each
            for each in layout.images
        ]
        return replace(layout, images=images)
    sides: dict[str, set[str]] = {}
    for each in layout.images:
        if "group" in each.values:
            sides.setdefault(each.values["group"], set()).add(each.values["split"])
    if torn := sorted(group for group, splits in sides.items() if len(splits) > 1):
        raise DataError(f"{len(torn)} groups are in two splits: {first_few(torn)}; each belongs in one")
    return layout


def without_unpaired(layout: Layout) -> Layout:
    """The layout without the issues of images and masks that have no partner, which are told."""
    kinds = ("image_without_mask", "mask_without_image")
    for kind in kinds:
        files = sorted({issue.file for _, issue in layout.issues if issue.kind == kind})
        if files:
            what = kind.replace("_", " ").replace("image ", "images ", 1).replace("mask ", "masks ", 1)
            warnings.warn(f"left out, as skip_unpaired says: {len(files)} {what}: {first_few(files)}", stacklevel=3)
    return replace(layout, issues=[each for each in layout.issues if each[1].kind not in kinds])


def _tell_lists(root: Path) -> None:
    """Warn of files called as a split, which may be lists and are not read."""
    lists = split_lists(root)
    if lists:
        file = lists[0].relative_to(root).as_posix()
        pattern = re.sub(rf"(?i)\b(?:{ANY_SPLIT})\b(?=[^/]*$)", "{split}", file)
        warnings.warn(
            f"not read, though called as a split: {first_few([str(path) for path in lists])}; where names are listed, "
            f'set lists = "{pattern}"; where images with their masks are, pairs = "{pattern}"',
            stacklevel=5,
        )


def split_lists(root: Path) -> list[Path]:
    """Files called as a split (``train.txt``, ``val_list.csv``), in the root and up to two folders deeper."""
    named = [sorted(path for path in root.glob(deep) if _LIST.fullmatch(path.name)) for deep in ("*", "*/*", "*/*/*")]
    parts = {path: path.relative_to(root).parts for paths in named for path in paths if path.is_file()}
    return [path for path, own in parts.items() if not any(part.startswith(".") for part in own)]
