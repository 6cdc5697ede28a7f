"""Boundary IoU, normalised surface distance and the 95th percentile of the Hausdorff distance.

All three follow the same rules:

- Pixels that are void in the target belong to no class in the target and in the prediction, so predictions there have
  no effect; the edge of a void region is a boundary in both.
- Pixels at the border of the image are boundary pixels, as in the reference implementations.
- The score is the mean over the classes that occur in the targets of the split, including background.
- Distances are between pixel centres, in pixels of the mask, or with ``spacing`` in its unit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree
from torch import Tensor

from segkit.errors import ConfigError, LabelError

Mask = NDArray[np.bool_]


class _Boundary(ABC):
    """Base class: a mean over classes of ``sum of parts / sum of wholes``; :meth:`measure` returns an image's terms.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
    """

    higher_is_better: ClassVar = True

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.reset()

    def reset(self) -> None:
        """Reset all sums."""
        self.parts, self.wholes = np.zeros(self.num_classes), np.zeros(self.num_classes)
        self.occurs = np.zeros(self.num_classes, dtype=bool)  # whether a target holds the class

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits ``[B,C,H,W]``, target ``[B,H,W]``.

        Raises:
            LabelError: the target holds a label that is neither a class nor void.
        """
        for predicted, true in zip(logits.argmax(1).cpu().numpy(), target.cpu().numpy(), strict=True):
            void = true == self.ignore_index
            there = set(np.unique(true[~void]).tolist())
            if unknown := [label for label in there if not 0 <= label < self.num_classes]:
                raise LabelError(f"the target holds the label {unknown[0]}; allowed are 0 to {self.num_classes - 1}")
            self.occurs[list(there)] = True
            for label in range(self.num_classes):
                ours, theirs = (predicted == label) & ~void, (true == label) & ~void
                if ours.any() or theirs.any():
                    part, whole = self.measure(ours, theirs)
                    self.parts[label] += part
                    self.wholes[label] += whole

    @abstractmethod
    def measure(self, predicted: Mask, true: Mask) -> tuple[float, float]:
        """Return an image's terms of a class's two sums, from masks ``[H,W]`` of which at least one is not empty."""

    def compute(self) -> float:
        """Return the score; NaN if no class occurs."""
        parts, wholes = self.parts[self.occurs], self.wholes[self.occurs]
        return float(np.mean(parts / wholes)) if len(parts) else math.nan

    def merge(self, other: _Boundary) -> None:
        """Add the sums of another process."""
        self.parts, self.wholes = self.parts + other.parts, self.wholes + other.wholes
        self.occurs = self.occurs | other.occurs


class BoundaryIoU(_Boundary):
    """Intersection over union of the bands of pixels just inside the boundaries: 1 is best.

    For each class, the pixels within ``width`` of the outside form a band in prediction and target; the IoU of the two
    bands is computed from pixel counts over the whole split. Cheng, Girshick, Dollár, Berg and Kirillov, "Boundary IoU:
    Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, arXiv 2103.16562. Bands are those of the
    authors' ``mask_to_boundary`` (8-connected); pixels are summed over images, where the paper scores instances.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        width: width of the band as a share of the image's diagonal, at least one pixel; 0.02 as in the paper.

    Raises:
        ConfigError: ``width`` is not above 0.
    """

    def __init__(self, num_classes: int, ignore_index: int, width: float = 0.02) -> None:
        super().__init__(num_classes, ignore_index)
        if not width > 0:
            raise ConfigError(f"width = {width}; allowed is a share of the image's diagonal above 0")
        self.width = width

    def measure(self, predicted: Mask, true: Mask) -> tuple[float, float]:
        """Return the pixels of the intersection and of the union of the bands."""
        pixels = max(1, round(self.width * math.hypot(*true.shape)))
        ours, theirs = (band(mask, pixels) for mask in (predicted, true))
        return float((ours & theirs).sum()), float((ours | theirs).sum())


class SurfaceDice(_Boundary):
    """Normalised surface distance: the share of both boundaries within a tolerance of the other one; 1 is best.

    Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy for
    radiotherapy", arXiv 1809.04430. For each image: the boundary pixels of prediction and target within ``tolerance``
    of the other boundary, divided by all their boundary pixels, as in MONAI's ``compute_surface_dice`` without
    subvoxels; 0 if only one of the two holds the class. The mean over images, then over classes.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        tolerance: by how much two annotators differ on the same edge, in pixels or the unit of ``spacing``; 2 pixels
            suit careful annotators.
        spacing: the size of a pixel, or its [height, width], for example in millimetres.

    Raises:
        ConfigError: ``tolerance`` is below 0, or ``spacing`` is not above 0.
    """

    def __init__(
        self, num_classes: int, ignore_index: int, tolerance: float = 2.0, spacing: float | tuple[float, float] = 1.0
    ) -> None:
        super().__init__(num_classes, ignore_index)
        if not tolerance >= 0:
            raise ConfigError(f"tolerance = {tolerance}; allowed are 0 or more")
        self.tolerance, self.sides = tolerance, sides_of(spacing)

    def measure(self, predicted: Mask, true: Mask) -> tuple[float, float]:
        """Return the share of one image's boundary pixels within the tolerance, and 1."""
        return float((np.concatenate(distances(predicted, true, self.sides)) <= self.tolerance).mean()), 1


class Hausdorff95(_Boundary):
    """95th percentile of the Hausdorff distance between the boundaries, in pixels or as ``spacing``; 0 is best.

    The larger of the 95th percentiles of both directions, after Huttenlocher, Klanderman and Rucklidge, "Comparing
    images using the Hausdorff distance", PAMI 1993, as in MONAI's ``compute_hausdorff_distance(percentile=95)``. If
    only prediction or target holds a class, the distance is the image's diagonal, the largest possible one; MONAI
    returns NaN or infinity. The mean over images, then over classes.

    Args:
        num_classes: the number of classes C.
        ignore_index: the label of void pixels.
        spacing: the size of a pixel, or its [height, width], for example in millimetres.

    Raises:
        ConfigError: ``spacing`` is not above 0.
    """

    higher_is_better: ClassVar = False

    def __init__(self, num_classes: int, ignore_index: int, spacing: float | tuple[float, float] = 1.0) -> None:
        super().__init__(num_classes, ignore_index)
        self.sides = sides_of(spacing)

    def measure(self, predicted: Mask, true: Mask) -> tuple[float, float]:
        """Return the distance in one image, and 1."""
        found = distances(predicted, true, self.sides)
        if not np.isfinite(found[0]).all() or not np.isfinite(found[1]).all():
            return math.hypot(*(self.sides * true.shape)), 1
        return float(max(np.percentile(each, 95) for each in found)), 1


def sides_of(spacing: float | tuple[float, float]) -> NDArray[np.float64]:
    """Return the height and width of a pixel; raise ConfigError unless both are above 0."""
    sides = np.broadcast_to(np.asarray(spacing, float), 2)
    if not ((sides > 0) & np.isfinite(sides)).all():
        raise ConfigError(f"spacing = {spacing}; allowed are the size of a pixel, above 0, or its [height, width]")
    return sides


def band(mask: Mask, pixels: int) -> Mask:
    """Return the pixels of a mask ``[H,W]`` that lie within ``pixels`` of the outside, 8-connected."""
    found: Mask = mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=pixels)
    return found


def distances(one: Mask, other: Mask, sides: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance of each boundary pixel of a mask ``[H,W]`` to the other's nearest one, and the reverse.

    A boundary pixel has one of its 4 neighbours outside the mask. Distances are infinite if one mask is empty.
    ``sides`` are the height and width of a pixel.
    """
    edges = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (one, other)]
    if not len(edges[0]) or not len(edges[1]):
        return np.full(len(edges[0]), np.inf), np.full(len(edges[1]), np.inf)

    def nearest(pixels: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        found = others[KDTree(others * sides).query(pixels * sides)[1]]
        rows, columns = ((pixels - found) * sides).T
        length: NDArray[np.float64] = np.hypot(rows, columns)  # exact where 5 pixels of 0.4 are a tolerance of 2
        return length

    return nearest(edges[0], edges[1]), nearest(edges[1], edges[0])
