"""The dataset ``folder``: the user's own images and masks, paired by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.data.sample import voc_palette
from segkit.errors import ConfigError, DataError
from segkit_folder.class_file import ClassFile, parse
from segkit_folder.files import PairedFiles
from segkit_folder.layout import Layout, Shares, dealt, read_layout, with_blank, without_unpaired
from segkit_folder.lists import warn_of_lists
from segkit_folder.meanings import VOID, meanings_of
from segkit_folder.pairs import NoFiles
from segkit_folder.propose import Proposal, propose_layout, without_splits
from segkit_folder.splits import check_fractions, read_text


class FolderDataset(PairedFiles):
    """Your own images and masks, paired by name; splits by folders, lists or fractions.

    Args:
        root: the folder that all paths and patterns are relative to.
        split: train, val or test.
        classes: the names of the classes in the order of their labels, or a text file with one name per line; it may
            also have labels and colours, such as ``1 cat 224 64 64`` or CVAT's ``cat:224,64,64::``, which then apply.
        images: folder of the images; if it has subfolders train, val and test, or with similar names (training, valid,
            Testdaten, 测试集, ...), they are the splits. Or a pattern of paths below ``root``: in
            "{split}/{city}/{id}_leftImg8bit.png" ``{split}`` stands for the split, ``{id}`` and other words for text
            that an image and its mask share, and ``*`` for text that may differ.
            Or a list of patterns, for images whose channels are in several files: ["red/{id}.tif", "nir/{id}.tif"].
        masks: folder of the masks, or a pattern such as "masks/{id}_manual1.gif".
        mask_suffix: what follows the image's name in the mask's name, such as "_mask", if ``masks`` is a folder.
        pairs: instead of ``images`` and ``masks``, lists with the paths of an image and its mask in each line: a file
            per split, "{split}.txt" or { train = "trainaug.txt", val = "val.txt" }, or one file as for ``lists``.
        lists: which images belong to which split: a file per split with one name per line, given as for ``pairs``; or
            one file, JSON such as {"train": ["a", "b"], "val": ["c"]} or a CSV with train, val or test in a column. A
            name selects an image, or all images of a ``group`` or of a folder that is a placeholder in ``images``.
        group: pattern of the part of the images' paths that must stay in one split: "patient{group}_", with ``*`` for a
            text, ``?`` for a letter and ``[LR]`` for one of several; or write ``{group}`` in ``images``. Or
            a table's column of groups: "table.csv#patient".
        skip_unpaired: whether images without a mask, and masks without an image, are left out.
        blank_unpaired: whether images without a mask are entirely of the first class, such as those without a defect.
        fractions: shares of train, val and test, used if no folder and no list assigns splits.
        val: the share of train that becomes val, if there is no val split.
        folds: instead of ``val``: the number of parts of train for cross-validation, one of which becomes val.
        fold: the index of that part, from 0; or of a fold in ``lists``, a table or JSON as nnU-Net's.
        split_seed: a different seed gives a different split by ``fractions``, ``val`` or ``folds``.
        train_on_val: whether train includes the images of val, for a final training on all data with a length chosen
            before; val scores are then scores of training images, so this needs ``data.allow_leaks = true``.
        resize_masks: whether a mask with another size than its image but the same aspect ratio is resized to the image,
            by the nearest label.
        threshold: for masks with values between two labels, such as mattes, smooth edges or JPEG: smaller values become
            0, all others 255, which are the labels of the two classes. Palettes and 1-bit masks are compared by the
            grey values that they show.
        void: stored labels that mean "not labelled"; default: 255.
        value_map: stored label -> class index or 255 (void), such as {"0" = 0, "255" = 1}; default: label = index.
        colour_map: class name (or "void") -> RGB, for masks that hold colours.
        palette: one RGB triple per class; default: the colours of ``colour_map`` or the class file, or Pascal VOC's.
    """

    label_advice = (
        "correct the mask, add a name to `classes`, list what means unlabelled in `void`, or say what each value means "
        "in `value_map`"
    )

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: list[str] | str,
        images: str | list[str] = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        pairs: str | Mapping[str, str] | None = None,
        lists: str | Mapping[str, str] | None = None,
        group: str | None = None,
        skip_unpaired: bool = False,
        blank_unpaired: bool = False,
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        val: float | None = None,
        folds: int | None = None,
        fold: int = 0,
        split_seed: int = 0,
        train_on_val: bool = False,
        resize_masks: bool = False,
        threshold: float | None = None,
        void: Sequence[int] | None = None,
        value_map: Mapping[str, int] | None = None,
        colour_map: Mapping[str, Sequence[int]] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.root = base = Path(root).expanduser()
        listed = _read_classes(base, classes) if isinstance(classes, str) else ClassFile(list(classes))
        if colour_map is not None and value_map is not None:
            raise ConfigError("value_map and colour_map: a mask holds either labels or colours; give one of the two")
        check_fractions(fractions)
        options: dict[str, Any] = {"images": images, "masks": masks, "mask_suffix": mask_suffix}
        options |= {"pairs": pairs, "lists": lists, "group": group}
        layout = _read(base, options, fold, blank_unpaired, skip_unpaired)
        layout.refuse(split)
        layout = dealt(layout, Shares(fractions, split_seed, val, folds, fold))
        masks_of = [*layout.masks.values()]
        values, colours = meanings_of(listed, masks_of, void, value_map, colour_map, threshold)
        self.palette_is_assumed = palette is None and colours is None and listed.colours is None
        self.labels_are_stated = value_map is not None or threshold is not None
        drawn = {index: colour for colour, index in (colours or {}).items() if index != VOID}
        default = [drawn[index] for index in sorted(drawn)] or listed.colours or voc_palette(len(listed.names))
        super().__init__(
            [], classes=listed.names, palette=default if palette is None else palette, values=values, colours=colours
        )
        self.blank = layout.blank
        self.threshold, self.resize_masks = threshold, resize_masks
        self.reading += f" {threshold}{' blank' * bool(self.blank)}{' resized' * resize_masks}"
        self.choose(layout, split)
        if train_on_val and split == "train":
            more = layout.of("val")
            self.pairs += [(image, mask) for image, mask, _ in more]
            self.names = [*self.names, *(name for _, _, name in more)]

    def advice(self, kind: str) -> str:
        """See :meth:`PairedFiles.advice`."""
        if kind in ("black_and_white", "mixed_void"):
            ones = '"1" = 1, ' * (kind == "mixed_void")
            void, foreground = f"void = [{VOID}]", f'value_map = {{ "0" = 0, {ones}"{VOID}" = 1 }}'
            where = f"in [dataset], where {VOID} means unlabelled, {void}"
            return f"{where}; where it is the class '{self.classes[1]}', {foreground}"
        init = f"; `segkit init {self.root}` looks at all masks and writes what reads them"
        colours = "say in [dataset.colour_map] which colour is which class, or void"
        if kind == "colours":
            return colours + init
        if kind == "label_colours":
            return f"where the labels are right whatever the colours, write a value_map; else {colours}"
        background = "; the background is a class too" * (len(self.classes) == 1)
        return colours if kind in ("palette", "palettes") else super().advice(kind) + background + init

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, Any]]:
        """Return the options that read a folder, most likely first: patterns and lists that pair its files."""
        found = [each for each in propose_layout(root) if not each.splits or "train" in each.splits]
        found = found or without_splits(root)
        found = [each for each in found if not any(_is_of_objects(each, other) for other in found)]
        listed = max((each.pairs for each in found if "pairs" in each.options), default=0)
        usable = [each for each in found if each.pairs > listed or {"pairs", "lists"} & {*each.options}]
        return [each.options for each in (usable if listed else found)]

    @classmethod
    def write_sample(cls, root: str | Path) -> dict[str, str]:
        """Write a small example: images/<split>/*.jpg, masks/<split>/*.png (labels 0, 1, 2, void 255) and classes.txt.

        Returns:
            The options to read it, in addition to ``root``.
        """
        random, names = np.random.default_rng(0), ("background", "left", "right")
        colours = np.array([(90, 110, 90), (200, 60, 60), (60, 60, 200)])
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            folders = [Path(root) / part / split for part in ("images", "masks")]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                labels = np.zeros((30, 40), dtype=np.uint8)
                for label, left in ((1, 2), (2, 22)):
                    top = int(random.integers(2, 12))
                    labels[top - 1 : top + 15, left - 1 : left + 15] = VOID  # a border around each object
                    labels[top : top + 14, left : left + 14] = label
                image = colours[np.where(labels == VOID, 0, labels)] + random.integers(-20, 20, (30, 40, 3))  # [H,W,3]
                Image.fromarray(image.astype(np.uint8)).save(folders[0] / f"{split}_{index}.jpg", quality=95)
                mask = Image.fromarray(labels)  # without the mark of a prediction: predict would overwrite it
                mask.putpalette(np.array(voc_palette(256), np.uint8).tobytes())
                mask.save(folders[1] / f"{split}_{index}.png")
        (Path(root) / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        return {"classes": "classes.txt"}


def _is_of_objects(one: Proposal, other: Proposal) -> bool:
    """Whether one way reads ids of objects and the other classes, by the names of their masks, of the same images."""
    masks = [str(each.options.get("masks", "")) for each in (one, other)]
    of_classes = [bool(re.search("(?i)class|semantic", text)) for text in masks]
    are_named = re.search("(?i)object|instance", masks[0]) and of_classes == [False, True]
    return bool(are_named) and one.layout.masks.keys() <= other.layout.masks.keys()


def _read_classes(root: Path, file: str) -> ClassFile:
    try:
        path = root / file if (root / file).is_file() else Path(file)
        text = read_text(path)
    except DataError as error:
        raise DataError(
            f'classes = "{file}": no readable text file in {root} or {Path.cwd()} ({error}); '
            'give a file with a class name a line, or a list such as ["background", "cat"]'
        ) from None
    return parse(text, f'classes = "{file}"')


def _read(root: Path, options: Mapping[str, Any], fold: int, blank: bool, skip: bool) -> Layout:
    """Pair the files of all splits; issues of images without a mask suggest the options that pair more, if any."""
    try:
        layout = read_layout(root, **options, fold=fold)
    except NoFiles as error:
        raise NoFiles(f"{error}{_proposed(root, options)}") from None
    if options["lists"] is None and options["pairs"] is None:
        warn_of_lists(root)
    layout = with_blank(layout) if blank else layout
    layout = without_unpaired(layout) if skip else layout
    incomplete = {split for split, issue in layout.issues if issue.kind == "image_without_mask"}
    suggestion = incomplete and _proposed(root, options, [each.path for each in layout.images], len(layout.masks))
    if not suggestion:
        return layout
    issues = [
        (split, replace(issue, advice=issue.advice + suggestion) if issue.kind == "image_without_mask" else issue)
        for split, issue in layout.issues
        if split not in incomplete or issue.kind != "mask_without_image"  # a consequence of the same options
    ]
    return replace(layout, issues=issues)


def _proposed(root: Path, options: Mapping[str, Any], images: Sequence[Path] = (), pairs: int = 0) -> str:
    """Return text with the lines of [dataset] that pair the most files, or "" if none pair more than ``pairs``.

    Args:
        root: the folder.
        options: the current options.
        images: the images found with them.
        pairs: the number of pairs found with them.
    """
    known = root.is_dir() and options["pairs"] is None
    better = [each for each in (propose_layout(root, images) if known else ()) if each.pairs > pairs]
    better = [each for each in better if not {*each.layout.masks.values()} <= {*images}]  # no image is a mask
    new = {**better[0].options, "mask_suffix": ""} if better else {}
    toml = {name: json.dumps(value, ensure_ascii=False).replace('": "', '" = "') for name, value in new.items()}
    lines = [f"{name} = {toml[name]}" for name, value in new.items() if value != options[name]]
    if not lines:
        return ""
    others = f"; `segkit init {root}` shows other ways" if len(better) > 1 else ""
    return "\n".join([f"{others}; {better[0].pairs} images have a mask with, in [dataset],\n", *lines])
