"""The dataset ``voc``: Pascal VOC's images and masks, with the official split lists or a split by fractions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from segkit.data.sample import voc_palette
from segkit.errors import ConfigError, DataError, Issue, did_you_mean, refuse
from segkit_folder.files import PairedFiles
from segkit_folder.splits import composed, read_text, split_by_fraction
from segkit_voc.download import ARCHIVES, download, unfinished
from segkit_voc.sample import write_sample

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class VocDataset(PairedFiles):
    """Pascal VOC 2007 or 2012: twenty object classes and background; object borders are void.

    M. Everingham, L. Van Gool, C. Williams, J. Winn, A. Zisserman, "The Pascal Visual Object Classes (VOC) Challenge",
    International Journal of Computer Vision 88(2), 2010. The labels of the 2012 test images were never published.

    Args:
        root: the folder that holds ``VOCdevkit``; ``VOCdevkit`` itself or its ``VOC2012`` is accepted too.
        split: ``train``, ``val`` or, where its masks exist (2007), ``test``.
        year: the challenge, ``"2007"`` (209, 213 and 210 images) or ``"2012"`` (1464 and 1449).
        download: download missing archives (2007: 0.9 GB, 2012: 2 GB) and unpack them in ``root``; they are kept there.
        fractions: shares of train, val and optionally test, drawn from all images; default: the official lists.
        split_seed: the seed of a split by ``fractions``.

    Raises:
        ConfigError: the year does not exist, or ``fractions`` is invalid.
        DataError: the data or some of its files are missing, or there is no such split.
    """

    label_advice = "the masks as published hold palette indices; unpack SegmentationClass again"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        year: Literal["2007", "2012"] = "2012",
        download: bool = False,
        fractions: Sequence[float] | None = None,
        split_seed: int = 0,
    ) -> None:
        if str(year) not in ARCHIVES:
            raise ConfigError(f"year = {year!r}: allowed are '2007' and '2012'{did_you_mean(year, ARCHIVES)}")
        year = cast("Literal['2007', '2012']", str(year))  # a number is accepted too
        root = Path(root).expanduser().absolute()
        if download:
            _download(root, year)
        folder = _folder(root, year)
        interrupted = any(unfinished(_home(root) / name, _home(root)) for name, _, _ in ARCHIVES[year])
        if interrupted or not _list(folder, "train").is_file():
            raise DataError(
                f"{root}: {'unpacking Pascal VOC was interrupted' if interrupted else 'no Pascal VOC there'}; expected "
                f"are {folder}/ImageSets/Segmentation/train.txt, {folder}/JPEGImages/*.jpg and "
                f"{folder}/SegmentationClass/*.png. Set root to the folder that holds VOCdevkit, or download = true to "
                "fetch the data"
            )
        official = ["train", "val"] if _list(folder, "val").is_file() else ["train"]
        if _has_masks(folder, "test"):  # test lists are published before the masks, or without them
            official.append("test")
        names = {each: _names(folder, each) for each in official}
        if fractions is not None:
            names = split_by_fraction(sorted({name for each in names.values() for name in each}), fractions, split_seed)
        self.splits = tuple(each for each in names if names[each])
        if split not in self.splits:
            advice = "; fractions = [0.7, 0.15, 0.15] makes one from the labelled images" if split == "test" else ""
            raise DataError(
                f"{folder}: no split '{split}', but {', '.join(self.splits)}{did_you_mean(split, self.splits)}{advice}"
            )
        pairs = [(folder / "JPEGImages" / f"{x}.jpg", folder / "SegmentationClass" / f"{x}.png") for x in names[split]]
        super().__init__(_existing_pairs(folder, split, pairs), classes=CLASSES, palette=voc_palette(len(CLASSES)))

    @classmethod
    def recognise(cls, root: Path) -> list[dict[str, str]]:
        """Return the years whose training list exists, latest first."""
        return [
            {"year": year} for year in sorted(ARCHIVES, reverse=True) if _list(_folder(root, year), "train").is_file()
        ]

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write both years in miniature, in the layout of the archives."""
        write_sample(Path(root))


def _folder(root: Path, year: str) -> Path:
    """Return the folder ``VOC<year>``: where it is, or the expected place if it is missing."""
    places = (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}", root)
    found = [place for place in places if place.name == f"VOC{year}" and (place / "ImageSets").is_dir()]
    return found[0] if found else _home(root) / "VOCdevkit" / f"VOC{year}"


def _home(root: Path) -> Path:
    """Return the folder that holds ``VOCdevkit``, or would hold it."""
    if root.name == "VOCdevkit":
        return root.parent
    return root.parent.parent if root.parent.name == "VOCdevkit" else root


def _list(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Segmentation" / f"{split}.txt"


def _names(folder: Path, split: str) -> list[str]:
    return read_text(_list(folder, split)).split()


def _has_masks(folder: Path, split: str) -> bool:
    """Whether the list and at least one of its masks exist."""
    names = _names(folder, split) if _list(folder, split).is_file() else []
    return any((folder / "SegmentationClass" / f"{name}.png").exists() for name in names)


def _download(root: Path, year: str) -> None:
    """Download and unpack the archives whose split is missing or only partly unpacked."""
    home, folder = _home(root), _folder(root, year)

    def wanted() -> list[tuple[str, str]]:
        return [
            (name, checksum)
            for name, checksum, split in ARCHIVES[year]
            if not _has_masks(folder, split) or unfinished(home / name, home)
        ]

    # only for the archives' own layout: others were arranged by hand. Check before locking: the folder may be read-only
    if folder == home / "VOCdevkit" / f"VOC{year}" and wanted():
        download(year, home, wanted)


def _existing_pairs(folder: Path, split: str, pairs: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Return the pairs whose files both exist; missing files are reported."""
    folders = (folder / "JPEGImages", folder / "SegmentationClass")
    there = {composed(str(path)): path for each in folders for path in each.glob("*")}
    found = [(there.get(composed(str(image))), there.get(composed(str(mask)))) for image, mask in pairs]
    wanted = [each for pair, own in zip(pairs, found, strict=True) for each in zip(pair, own, strict=True)]
    what, advice = "listed but not there", "unpack the archive again, or take the names off the lists"
    refuse([Issue("missing", str(path), what, advice, f"{split} split") for path, own in wanted if own is None])
    return [(image, mask) for image, mask in found if image and mask]
