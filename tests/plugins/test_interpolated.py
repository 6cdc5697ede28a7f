"""Masks that were interpolated or went through a JPEG are told from genuine ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segkit_checks.interpolated import borders, interpolated

Mask = NDArray[np.uint8]


def looks_interpolated(mask: tuple[int, int]) -> bool:
    return interpolated([mask]) == [0]


def regions(seed: int = 0, size: int = 160, classes: int = 8) -> Mask:
    """Every class somewhere, with straight borders in all directions: the class of the nearest of 40 points."""
    random = np.random.default_rng(seed)
    points = random.integers(0, size, (40, 2))
    labels = random.permutation(np.arange(40) % classes)
    rows, columns = np.mgrid[:size, :size]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2  # [H,W,40]
    return labels[distance.argmin(-1)].astype(np.uint8)


def resized(mask: Mask, scale: float, how: Image.Resampling) -> Mask:
    height, width = mask.shape
    return np.asarray(Image.fromarray(mask).resize((round(width * scale), round(height * scale)), how))


def through_jpeg(mask: Mask, quality: int) -> Mask:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


SMOOTH = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
DAMAGE: dict[str, Callable[[Mask], Mask]] = {
    **{
        f"{how.name} {scale}": lambda mask, how=how, scale=scale: resized(mask, scale, how)
        for how in SMOOTH
        for scale in (0.3, 0.5, 0.75, 1.5, 2)
    },
    **{f"BOX {scale}": lambda mask, scale=scale: resized(mask, scale, Image.Resampling.BOX) for scale in (0.3, 0.5)},
    **{f"JPEG {quality}": lambda mask, quality=quality: through_jpeg(mask, quality) for quality in (95, 75, 50)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_masks_are_found(damage: str) -> None:
    assert all(looks_interpolated(borders(DAMAGE[damage](regions(seed)))) for seed in range(3))


@pytest.mark.parametrize("scale", [0.25, 0.3, 0.5, 0.75, 1, 1.5, 2, 3])
def test_genuine_masks_are_not_even_by_nearest_neighbour(scale: float) -> None:
    found = [borders(resized(regions(seed), scale, Image.Resampling.NEAREST)) for seed in range(3)]
    assert min(possible for _, possible in found) > 100
    assert not any(looks_interpolated(each) for each in found)


def test_places_are_counted_in_rows_and_columns() -> None:
    assert borders(np.array([[2, 2, 7, 7]], np.uint8)) == (0, 2)
    assert borders(np.array([[2, 4, 6, 7]], np.uint8)) == (2, 2)
    assert borders(np.array([[2, 4, 6, 7]], np.uint8).T) == (2, 2)
    assert borders(np.array([[7, 6, 4, 2]], np.uint8)) == (2, 2)  # falling
    assert borders(np.array([[2, 9, 2, 3, 2]], np.uint8)) == (0, 1)  # thin things, nothing in between
    assert borders(np.array([[0, 65000, 65535]], np.uint16)) == (0, 1)  # one pixel, all there is of its label


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 9), (50, 50)])
def test_masks_without_borders_show_nothing(shape: tuple[int, int]) -> None:
    assert borders(np.zeros(shape, np.uint8)) == (0, 0)


def test_two_classes_cannot_show_it() -> None:
    mask = resized(regions(classes=2), 0.5, Image.Resampling.BILINEAR)
    assert borders(mask)[1] == 0
    assert not looks_interpolated(borders(mask))


def test_a_pole_between_building_and_sky_is_no_seam() -> None:
    mask = regions()
    mask[:60, :70], mask[:60, 70], mask[:60, 71:] = 1, 4, 7
    assert borders(mask)[0] > 60
    assert not looks_interpolated(borders(mask))


def test_a_class_for_outlines_is_no_seam() -> None:
    inside = regions(classes=2).astype(bool)
    mask = np.where(inside, 2, 0).astype(np.uint8)
    grown = inside.copy()
    grown[1:] |= inside[:-1]
    grown[:-1] |= inside[1:]
    grown[:, 1:] |= inside[:, :-1]
    grown[:, :-1] |= inside[:, 1:]
    mask[grown & ~inside] = 1
    assert borders(mask)[1] > 300
    assert not looks_interpolated(borders(mask))
    mask[:10, :100] = 1  # outlines in the midst of a class that is no outline: seams again
    mask[150:, :] = 1
    mask[10:20, :] = 1
    assert looks_interpolated(borders(mask))


def test_some_damaged_masks_are_named_among_genuine_ones() -> None:
    split = [borders(regions(seed)) for seed in range(12)]
    assert interpolated(split) == []
    split[3], split[7] = (borders(resized(regions(seed), 0.5, Image.Resampling.BILINEAR)) for seed in (3, 7))
    assert interpolated(split) == [3, 7]
    assert interpolated([]) == []


def test_a_lone_mask_must_be_clearer_than_many() -> None:
    clean, doubtful, clear = (2, 1000), (150, 1000), (250, 1000)
    assert interpolated([*[clean] * 99, doubtful]) == []
    assert interpolated([*[clean] * 99, clear]) == [99]
    assert interpolated([*[clean] * 95, *[doubtful] * 5]) == [95, 96, 97, 98, 99]
    assert not looks_interpolated((29, 40))  # one thin object in a small mask


def labels(path: Path) -> Mask:
    with Image.open(path) as mask:
        return np.asarray(mask).astype(np.uint8)


@pytest.mark.parametrize(("folder", "step"), [("camvid/masks", 20), ("VOCdevkit/VOC2012/SegmentationClass", 8)])
def test_real_masks(real_data: Path, folder: str, step: int) -> None:
    masks = [labels(path) for path in sorted((real_data / folder).rglob("*.png"))[::step]]
    assert len(masks) > 10
    assert interpolated([borders(mask) for mask in masks]) == []
    assert interpolated([borders(resized(mask, 0.5, Image.Resampling.NEAREST)) for mask in masks]) == []
    for damage in ("BILINEAR 0.5", "BICUBIC 1.5", "JPEG 95", "JPEG 75"):
        assert interpolated([borders(DAMAGE[damage](mask)) for mask in masks]) == [*range(len(masks))], damage
    assert interpolated([borders(DAMAGE["JPEG 95"](mask) if n == 4 else mask) for n, mask in enumerate(masks)]) == [4]


def test_carvana_of_two_classes(real_data: Path) -> None:
    masks = [labels(path) for path in (real_data / "carvana").rglob("*_mask.gif")]
    assert masks
    assert interpolated([borders(mask) for mask in masks]) == []
