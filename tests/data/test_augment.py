"""Views of samples: what is drawn, and that images and masks stay in step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segkit.data.augment import RandomTransform, TransformParams
from segkit.data.augment import apply as apply_to
from segkit.data.normalise import IMAGENET, MEAN, STD
from segkit.data.resize import mask_at, resized_part, resized_size
from segkit.data.sample import Sample
from segkit.settings import AugmentSettings

VOID = 255
FILL = IMAGENET.mean_pixel(torch.device("cpu")).flatten().tolist()


def a_sample(height: int = 40, width: int = 60) -> Sample:
    """Every pixel's colour says which label it has: red = 10 x label."""
    mask = torch.arange(height * width).reshape(height, width) // 97 % 20
    image = torch.stack([mask * 10, torch.full_like(mask, 7), torch.full_like(mask, 9)]).to(torch.uint8)
    return Sample(image, mask.to(torch.uint8), "sample")


def settings(**values: object) -> AugmentSettings:
    return AugmentSettings.model_validate({"flip": 0.0, **values})


def apply(sample: Sample, params: TransformParams, ignore_index: int = VOID, fill: Sequence[float] = FILL) -> Sample:
    return apply_to(sample, params, ignore_index, torch.tensor(fill, dtype=sample.image.dtype)[:, None, None])


def draw(chosen: AugmentSettings, height: int, width: int, key: tuple[int, int, int]) -> TransformParams:
    return RandomTransform(chosen, key[0]).params(key[1:], (height, width))


def test_without_settings_a_view_is_the_sample() -> None:
    sample = a_sample()
    seen = apply(sample, draw(settings(), 40, 60, (0, 0, 0)), VOID)
    assert torch.equal(seen.image, sample.image)
    assert torch.equal(seen.mask, sample.mask)


def test_a_certain_flip_mirrors_left_and_right_only() -> None:
    sample = a_sample()
    seen = apply(sample, draw(settings(flip=1.0), 40, 60, (0, 0, 0)), VOID)
    assert torch.equal(seen.mask, sample.mask.flip(1))
    assert torch.equal(seen.image, sample.image.flip(2))
    upside_down = apply(sample, draw(settings(flip_vertical=1.0), 40, 60, (0, 0, 0)), VOID)
    assert torch.equal(upside_down.mask, sample.mask.flip(0))


def test_a_crop_is_a_window_of_the_sample() -> None:
    sample = a_sample()
    for index in range(20):
        seen = apply(sample, draw(settings(crop=[16, 24]), 40, 60, (0, 0, index)), VOID)
        windows = sample.mask.unfold(0, 16, 1).unfold(1, 24, 1)
        assert (windows == seen.mask).all(-1).all(-1).sum() == 1
        assert torch.equal(seen.image[0], seen.mask * 10)


def test_a_crop_larger_than_the_image_is_void_outside_and_keeps_every_pixel() -> None:
    sample = a_sample()
    seen = apply(sample, draw(settings(crop=100), 40, 60, (0, 0, 3)), VOID)
    assert seen.mask.shape == (100, 100)
    assert (seen.mask != VOID).sum() == 40 * 60
    outside = seen.mask == VOID
    assert (torch.tensor(FILL) == seen.image[:, outside].T).all()
    # the colour of the fill becomes nothing to the network
    assert IMAGENET.normalise(seen.image)[:, outside].abs().max() < 0.02


@pytest.mark.parametrize("drawn", [{"scale": [0.5, 2.0]}, {"rotation": 180.0}, {"scale": [0.7, 1.5], "rotation": 30.0}])
def test_image_and_mask_move_together(drawn: dict[str, object]) -> None:
    sample = a_sample()
    for index in range(10):
        seen = apply(sample, draw(settings(crop=32, flip=0.5, **drawn), 40, 60, (1, 2, index)), VOID)
        assert set(seen.mask.unique().tolist()) <= {*range(20), VOID}
        inside = seen.mask != VOID
        # away from borders between labels, where colours are blended, the colour says the label
        level = seen.image[0].float() / 10
        agree = (level - seen.mask.float()).abs()[inside] < 0.6
        assert agree.float().mean() > 0.8


def test_the_scaled_image_is_larger_by_the_scale() -> None:
    sample = Sample(torch.zeros(3, 20, 20, dtype=torch.uint8), torch.zeros(20, 20, dtype=torch.uint8), "s")
    seen = apply(sample, draw(settings(crop=100, scale=[2.0, 2.0]), 20, 20, (0, 0, 0)), VOID)
    assert (seen.mask == 0).sum() == 40 * 40


def test_a_quarter_turn_is_exact() -> None:
    sample = a_sample(40, 40)
    view = draw(settings(), 40, 40, (0, 0, 0))
    turned = view._replace(angle=math.pi / 2)
    assert torch.equal(apply(sample, turned, VOID).mask, torch.rot90(sample.mask, 1))


def test_what_is_drawn_depends_on_seed_epoch_and_index_only() -> None:
    chosen = settings(crop=8, scale=[0.5, 2.0], flip=0.5, rotation=20.0, colour=0.5)
    keys = [(seed, epoch, index) for seed in range(2) for epoch in range(2) for index in range(5)]
    first = [draw(chosen, 40, 60, key) for key in keys]
    again = [draw(chosen, 40, 60, key) for key in reversed(keys)][::-1]
    assert [view.affine for view in first] == [view.affine for view in again]
    assert len({view.affine for view in first}) == len(keys)
    assert len({view.colour.tobytes() for view in first}) == len(keys)


def test_colours_stay_without_jitter_and_grey_keeps_its_hue() -> None:
    still = draw(settings(), 4, 4, (0, 0, 0)).colour
    np.testing.assert_allclose(still, np.eye(3, 4), atol=1e-6)
    jitter = draw(settings(colour=1.0), 4, 4, (0, 0, 5)).colour
    assert np.abs(jitter - np.eye(3, 4)).max() > 0.05
    turned_grey = jitter[:, :3] @ np.ones(3)
    np.testing.assert_allclose(turned_grey, turned_grey[0], atol=1e-5)


def test_normalise_applies_each_images_own_colours() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    swap = torch.tensor([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0.25]])
    colour = torch.stack([torch.eye(3, 4), swap])
    result = IMAGENET.normalise(images, colour)
    torch.testing.assert_close(result[0], IMAGENET.normalise(images)[0])
    expected = torch.stack([images[1, 2], images[1, 1], images[1, 0]]) / 255
    expected[2] = (expected[2] + 0.25).clamp(max=1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(result[1], (expected - mean) / std)


@pytest.mark.parametrize(("height", "width"), [(48, 40), (10, 12)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_each_place_of_a_crop_is_as_likely_the_outermost_too(height: int, width: int, scale: float) -> None:
    chosen, draws = settings(crop=16, scale=[scale, scale]), 20_000
    places = np.array([draw(chosen, height, width, (0, 0, index)).affine for index in range(draws)])[:, [5, 2]]
    for axis, length in enumerate((height * scale, width * scale)):
        spare = int(length) - 16  # below 0, the image lies anywhere in the crop
        seen, counts = np.unique(places[:, axis].round(6), return_counts=True)
        assert seen.tolist() == list(range(min(spare, 0), max(spare, 0) + 1))
        expected = draws / (abs(spare) + 1)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < abs(spare) + 4 * np.sqrt(2 * abs(spare) + 1) + 4  # its mean and four deviations


def test_a_scaled_view_is_a_window_of_what_evaluation_sees_at_that_size() -> None:
    noise = torch.randint(0, 256, (3, 61, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sample = Sample(noise, (noise[0] % 20).to(torch.uint8), "noise")
    for scale in (0.5, 0.7, 1.3):
        whole = resized_part(sample.image, resized_size(61, 90, scale))
        labels = mask_at(sample.mask, tuple(whole.shape[1:]))
        for index in range(5):
            view = draw(settings(crop=[24, 30], flip=0.5, scale=[scale, scale]), 61, 90, (0, 0, index))
            seen = apply(sample, view, VOID)
            turn = [2] if view.affine[0] < 0 else []
            windows = labels.unfold(0, 24, 1).unfold(1, 30, 1)
            ((top, left),) = (windows == seen.mask.flip([each - 1 for each in turn])).all(-1).all(-1).nonzero().tolist()
            difference = (seen.image.flip(turn).int() - whole[:, top : top + 24, left : left + 30]).abs()
            assert difference.max() <= 1
            assert difference.float().mean() < 1e-3  # the last digits of a sum


def bilinear(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``[C,H,W]`` at places ``[h,w]`` between the middles of its pixels, the edge repeated."""
    (height, width), top, left = values.shape[1:], np.floor(y), np.floor(x)
    rows = [(top + step).clip(0, height - 1).astype(int) for step in (0, 1)]
    columns = [(left + step).clip(0, width - 1).astype(int) for step in (0, 1)]
    above, below = (
        values[:, row, columns[0]] * (1 + left - x) + values[:, row, columns[1]] * (x - left) for row in rows
    )
    return above * (1 + top - y) + below * (y - top)


@pytest.mark.parametrize("drawn", [{"scale": [2.0, 2.0]}, {"scale": [1.37, 1.37]}, {"rotation": 30.0}])
def test_interpolated_values_are_rounded_and_not_cut_off(drawn: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 20, 25, generator=generator) * 255
    smooth = F.interpolate(coarse, (100, 120), mode="bicubic").clamp(0, 255)[0].round().to(torch.uint8)
    sample = Sample(smooth, torch.zeros(100, 120, dtype=torch.uint8), "smooth")
    errors = []
    for index in range(6):
        view = draw(settings(crop=64, **drawn), 100, 120, (0, 0, index))
        seen = apply(sample, view, VOID)
        a, b, c, d, e, f = view.affine
        x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
        down, across = 100 / view.scaled[0], 120 / view.scaled[1]  # pixels of the image for one of it resized
        at = (d * x + e * y + f) * down - 0.5, (a * x + b * y + c) * across - 0.5
        exact = bilinear(smooth.double().numpy(), *at)
        errors.append((seen.image.numpy() - exact)[:, seen.mask.numpy() != VOID])
    error = np.concatenate(errors, axis=1)
    assert abs(error.mean()) < 0.05  # of a grey level; cut off, it is 0.5
    assert np.abs(error).max() < 0.51


def test_values_of_float32_of_any_number_of_channels_are_not_rounded() -> None:
    values = torch.rand(5, 40, 60, generator=torch.Generator().manual_seed(0)) * 1e-3 - 4.0
    sample = Sample(values, torch.zeros(40, 60, dtype=torch.uint8), "reflectance")
    for drawn in ({}, {"scale": [0.5, 0.5]}, {"rotation": 40.0, "scale": [0.6, 1.7]}):
        seen = apply(sample, draw(settings(crop=[70, 30], **drawn), 40, 60, (0, 0, 1)), VOID, fill=range(5))
        inside = seen.mask != VOID
        assert seen.image.dtype == torch.float32
        assert -4.0001 < seen.image[:, inside].min() < -3.9995 < seen.image[:, inside].max() < -3.9989
        assert (seen.image[:, ~inside] == torch.arange(5.0)[:, None]).all()
