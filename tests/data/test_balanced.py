"""Crops that are centred on rare classes, and crops that one class fills drawn anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from segkit.config import settings_from
from segkit.data.augment import RandomTransform, TransformParams, _draw_class_location
from segkit.data.augment import apply as apply_to
from segkit.data.sample import Sample
from segkit.errors import ConfigError
from segkit.settings import AugmentSettings

VOID = 255


def settings(**values: object) -> AugmentSettings:
    return AugmentSettings.model_validate({"flip": 0.0, **values})


def a_mask() -> torch.Tensor:
    """Background with a class of 4 pixels, one of 400, and a void corner."""
    mask = torch.zeros(100, 200, dtype=torch.uint8)
    mask[10:12, 150:152] = 1
    mask[60:80, 20:40] = 2
    mask[90:, 190:] = VOID
    return mask


def apply(sample: Sample, params: TransformParams, ignore_index: int) -> Sample:
    return apply_to(sample, params, ignore_index, torch.zeros(3, 1, 1, dtype=torch.uint8))


def draw(
    chosen: AugmentSettings, height: int, width: int, key: tuple[int, int, int], mask: torch.Tensor | None = None
) -> TransformParams:
    """Parameters whose crops are centred on the classes 1 and 2 of a mask."""
    return RandomTransform(chosen, key[0], centre_on=[1, 2]).params(key[1:], (height, width), mask)


def locations(mask: torch.Tensor, classes: list[int]) -> list[tuple[int, int]]:
    """The pixels that 2,000 crops would be centred on."""
    height, width = mask.shape
    generator = np.random.default_rng(0)
    found = [_draw_class_location(mask, classes, generator) for _ in range(2000)]
    return [(int(each[0] * height), int(each[1] * width)) for each in found if each]


def test_locations_lie_on_their_class_and_spread_over_it() -> None:
    mask = a_mask()
    for label in range(3):
        assert {int(mask[pixel]) for pixel in locations(mask, [label])} == {label}
    found = Counter(locations(mask, [2]))  # 400 pixels in 2,000 draws
    assert len(found) > 380
    assert max(found.values()) < 20


def test_a_small_part_of_a_class_is_a_target_as_often_as_it_has_pixels() -> None:
    mask = torch.zeros(200, 200, dtype=torch.uint8)
    mask[20:70, 20:100] = 1  # 4,000 pixels
    mask[180:185, 180:188] = 1  # 40: in 2,000 draws 20
    assert 7 < sum(row >= 180 for row, _ in locations(mask, [1])) < 35


def test_a_class_that_is_not_there_is_no_target() -> None:
    assert {int(mask) for mask in (a_mask()[pixel] for pixel in locations(a_mask(), [1, 2, 3, 7]))} == {1, 2}
    assert locations(a_mask(), [3]) == []


def test_balanced_crops_centre_on_each_class_alike_although_one_is_a_hundred_times_larger() -> None:
    mask = a_mask()
    sample = Sample(mask.repeat(3, 1, 1), mask, "sample")
    chosen = settings(crop=24, class_balanced=1.0)
    middles = Counter()
    for index in range(400):
        seen = apply(sample, draw(chosen, 100, 200, (0, 0, index), mask), VOID)
        assert not (seen.mask == VOID).all()
        labels = {label for label in (1, 2) if (seen.mask[2:-2, 2:-2] == label).any()}
        assert len(labels) == 1
        middles.update(labels)
    assert 160 < middles[1] < 240


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_the_centre_is_the_pixel_whatever_the_scale_and_the_flip(scale: float) -> None:
    mask = torch.zeros(100, 200, dtype=torch.uint8)
    mask[50:54, 120:124] = 1
    sample = Sample(mask.repeat(3, 1, 1), mask, "sample")
    chosen = settings(crop=17, scale=[scale, scale], class_balanced=1.0, flip=0.5, rotation=30.0)
    for index in range(20):
        seen = apply(sample, draw(chosen, 100, 200, (0, 0, index), mask), VOID)
        assert (seen.mask[7:10, 7:10] == 1).any()


@pytest.mark.parametrize("angle", [10.0, 45.0, 180.0])
def test_a_turned_crop_shows_its_target_at_the_edge_too(angle: float) -> None:
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[0, 0] = mask[39, 59] = 1
    sample = Sample(mask.repeat(3, 1, 1), mask, "sample")
    chosen = settings(crop=15, class_balanced=1.0, rotation=angle)
    for index in range(50):
        assert (apply(sample, draw(chosen, 40, 60, (0, 0, index), mask), VOID).mask == 1).any()


def test_a_target_at_the_edge_gives_a_crop_within_the_image() -> None:
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[0, 0] = 1
    sample = Sample(mask.repeat(3, 1, 1), mask, "sample")
    seen = apply(sample, draw(settings(crop=16, class_balanced=1.0), 40, 60, (0, 0, 1), mask), VOID)
    assert seen.mask[0, 0] == 1
    assert not (seen.mask == VOID).any()


def test_the_share_of_balanced_crops_is_what_was_asked_for_and_the_others_stay_as_they_were() -> None:
    plain = [draw(settings(crop=24), 100, 200, (0, 0, index)) for index in range(300)]
    third = [draw(settings(crop=24, class_balanced=0.33), 100, 200, (0, 0, i), a_mask()) for i in range(300)]
    same = sum(a.affine == b.affine for a, b in zip(plain, third, strict=True))
    assert 0.6 < same / 300 < 0.74


def test_balanced_crops_begin_at_odd_places_as_often_as_at_even_ones() -> None:
    mask = torch.zeros(100, 200, dtype=torch.uint8)
    mask[30:70, 60:140] = 1
    chosen = settings(crop=16, class_balanced=1.0)
    views = [draw(chosen, 100, 200, (0, 0, index), mask) for index in range(400)]
    for offset in (2, 5):
        assert 120 < sum(round(view.affine[offset]) % 2 for view in views) < 280


def test_an_image_of_the_largest_class_alone_is_cropped_anywhere() -> None:
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    chosen = settings(crop=16, class_balanced=1.0)
    assert draw(chosen, 40, 60, (0, 0, 1), mask).affine == draw(settings(crop=16), 40, 60, (0, 0, 1)).affine


def test_crops_that_one_class_fills_are_drawn_anew() -> None:
    mask = a_mask()
    sample = Sample(mask.repeat(3, 1, 1), mask, "sample")

    def full(chosen: AugmentSettings) -> int:
        views = [draw(chosen, *mask.shape, (0, 0, index), mask) for index in range(100)]
        masks = [apply(sample, view, VOID).mask for view in views]
        return sum(int((each == 0).sum()) > 0.9 * int((each != VOID).sum()) for each in masks)

    usual, mixed = full(settings(crop=40)), full(settings(crop=40, max_class_share=0.9))
    assert usual > 60
    assert mixed < 0.6 * usual  # ten tries at odds of one in ten leave a third


def test_a_new_try_moves_the_view_and_changes_nothing_else() -> None:
    chosen = settings(crop=16, scale=[0.5, 2.0], colour=0.5)
    transform = RandomTransform(chosen, 0)
    first, second = (transform._draw((0, 0, 1), (40, 60), None, attempt) for attempt in (0, 1))
    assert np.array_equal(first.colour, second.colour)
    assert first.affine[0] == second.affine[0]
    assert first.affine != second.affine


def test_an_image_that_one_class_fills_still_gives_a_view() -> None:
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    view = draw(settings(crop=8, max_class_share=0.5), 20, 20, (0, 0, 0), mask)
    assert view.size == (8, 8)


@pytest.mark.parametrize("option", ["class_balanced", "max_class_share"])
def test_choosing_crops_needs_crops(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} = 0.5 chooses crops: give crop"):
        settings_from(AugmentSettings, "augment", {option: 0.5})


@pytest.mark.parametrize("shape", [(3, 5), (300, 700), (2, 70_000), (70_000, 2)])
def test_locations_in_a_mask_of_any_shape_are_of_their_class(shape: tuple[int, int]) -> None:
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 4, shape, np.uint8))
    for label in range(3):
        assert {int(mask[pixel]) for pixel in locations(mask, [label])} == {label}
