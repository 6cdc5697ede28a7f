"""Metrics of boundaries: values worked out by hand, by brute force, and by MONAI where it is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import segkit
from segkit.errors import ConfigError, LabelError
from segkit_boundary.metrics import BoundaryIoU, Hausdorff95, SurfaceDice, band, distances


def logits(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels.long(), classes).permute(0, 3, 1, 2).float()


def scored(metric: Any, predicted: Tensor, target: Tensor, classes: int = 2) -> float:
    metric.update(logits(predicted, classes), target)
    return float(metric.compute())


def square(top: int, left: int, side: int, size: int = 20) -> Tensor:
    labels = torch.zeros(1, size, size, dtype=torch.long)
    labels[:, top : top + side, left : left + side] = 1
    return labels


def of_squares(metric: Any, one: Tensor, other: Tensor) -> float:
    """The score of the class 1 alone."""
    part, whole = metric.measure((one[0] == 1).numpy(), (other[0] == 1).numpy())
    return float(part / whole)


def test_a_square_moved_by_a_pixel() -> None:
    """Two 6 x 6 squares, one moved right by one: bands of one pixel have 20 pixels each, and 10 in common."""
    one, other = square(5, 5, 6), square(5, 6, 6)
    # rows 5 and 10 share columns 6..10, which is 10; of columns 5 and 10 against 6 and 11 nothing within rows 6..9
    assert of_squares(BoundaryIoU(2, 255, width=0.03), one, other) == pytest.approx(10 / 30)
    assert of_squares(SurfaceDice(2, 255, tolerance=0), one, other) == pytest.approx(20 / 40)
    assert of_squares(SurfaceDice(2, 255, tolerance=1), one, other) == 1
    assert of_squares(Hausdorff95(2, 255), one, other) == 1


def test_the_mean_over_classes_and_over_images() -> None:
    same, moved = square(5, 5, 6), square(5, 9, 6)
    metric = Hausdorff95(2, 255)
    metric.update(logits(torch.cat([same, moved]), 2), torch.cat([same, same]))
    of_ground = metric.measure((moved[0] == 0).numpy(), (same[0] == 0).numpy())[0]
    assert metric.compute() == pytest.approx(((0 + 4) / 2 + (0 + of_ground) / 2) / 2)


def test_a_class_that_is_missed_costs_the_diagonal_and_no_surface() -> None:
    nothing, there = torch.zeros(1, 20, 20, dtype=torch.long), square(5, 5, 6)
    assert of_squares(Hausdorff95(2, 255), nothing, there) == pytest.approx(math.hypot(20, 20))
    assert of_squares(Hausdorff95(2, 255, (3, 0.5)), nothing, there) == pytest.approx(math.hypot(60, 10))
    assert of_squares(SurfaceDice(2, 255), nothing, there) == 0
    assert of_squares(BoundaryIoU(2, 255), nothing, there) == 0
    # the class 1 is in no target: the ground alone is scored
    of_ground = SurfaceDice(2, 255).measure((there[0] == 0).numpy(), (nothing[0] == 0).numpy())[0]
    assert scored(SurfaceDice(2, 255), there, nothing) == pytest.approx(of_ground)
    assert math.isnan(scored(SurfaceDice(2, 255), there, nothing + 255))  # nothing to score


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_every_pair_of_boundary_pixels(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = [random.random((13, 17)) < share for share in (0.3, 0.7)]
    edges = []
    for mask in masks:
        padded = np.pad(mask, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        edges.append(np.argwhere(mask & ~inside))
    every = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=-1)
    found = distances(*masks, np.ones(2))
    np.testing.assert_allclose(found[0], every.min(1))
    np.testing.assert_allclose(found[1], every.min(0))


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_a_band_is_what_lies_within_so_many_steps_of_the_outside(pixels: int) -> None:
    mask = np.random.default_rng(0).random((15, 18)) < 0.95
    padded = np.pad(mask, pixels)
    near = np.zeros_like(mask)
    for row in range(2 * pixels + 1):
        for column in range(2 * pixels + 1):
            near |= ~padded[row : row + 15, column : column + 18]
    np.testing.assert_array_equal(band(mask, pixels), mask & near)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of its own
@pytest.mark.parametrize("spacing", [1.0, 0.7, (2.5, 0.4)])  # sides of a pixel in millimetres
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_monai(seed: int, spacing: Any) -> None:
    metrics = pytest.importorskip("monai.metrics")
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 4, 6, 7, generator=generator)
    fields = torch.nn.functional.interpolate(coarse, (48, 56), mode="bilinear")
    target, predicted = fields.argmax(1), (fields + 0.3 * torch.rand(fields.shape, generator=generator)).argmax(1)
    ours, theirs = logits(predicted, 4), logits(target, 4)
    how: dict[str, Any] = {"include_background": True, "spacing": spacing}
    dice = metrics.compute_surface_dice(ours, theirs, [2.0] * 4, **how).mean(0).mean()
    hausdorff = metrics.compute_hausdorff_distance(ours, theirs, percentile=95, **how).mean(0).mean()
    found = [scored(metric(4, 255, spacing=spacing), predicted, target, 4) for metric in (SurfaceDice, Hausdorff95)]
    assert found == pytest.approx([float(dice), float(hausdorff)], rel=1e-6)


def test_less_of_a_distance_is_better() -> None:
    assert not segkit.metrics["hausdorff95"](num_classes=2, ignore_index=255).higher_is_better
    assert segkit.metrics["surface_dice"](num_classes=2, ignore_index=255).higher_is_better


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="tolerance = -1"):
        SurfaceDice(2, 255, tolerance=-1)
    for spacing in (0, (1.0, -1.0), math.inf):
        with pytest.raises(ConfigError, match=r"spacing = .*; allowed are the size of a pixel, above 0"):
            Hausdorff95(2, 255, spacing)
    with pytest.raises(ConfigError, match="width = 0"):
        BoundaryIoU(2, 255, width=0)
    with pytest.raises(LabelError, match="label 3; allowed are 0 to 1"):
        SurfaceDice(2, 255).update(torch.zeros(1, 2, 3, 3), torch.full((1, 3, 3), 3))
