"""Read every mask of a split once: refuse wrong labels by file name, and count the classes.

The counts give the class weights and the floor, what the best constant predictor scores on the split.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segkit.data.sample import Dataset, checked
from segkit.errors import DataError, LabelError, first_few


@dataclass(frozen=True)
class LabelCounts:
    """How often the classes occur in a split.

    Attributes:
        pixels: int64 ``[C]``, labelled pixels of each class.
        image_pixels: int64 ``[C]``, labelled pixels of the images that contain the class.
        images: int64 ``[C]``, images that contain the class.
        void: pixels without a label.
    """

    pixels: NDArray[np.int64]
    image_pixels: NDArray[np.int64]
    images: NDArray[np.int64]
    void: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 ``[C]``, the share of each class in the labelled pixels."""
        return self.pixels / max(1, int(self.pixels.sum()))


def count_splits(splits: Mapping[str, Dataset]) -> dict[str, LabelCounts]:
    """Count the labels of every split.

    Raises:
        DataError: with what is wrong in any of them.
    """
    counts, problems = {}, []
    for name, dataset in splits.items():
        try:
            counts[name] = count_labels(dataset, name)
        except DataError as error:
            problems.append(error)
    if problems:
        raise type(problems[0])("\n".join(str(problem) for problem in problems))
    return counts


def count_labels(dataset: Dataset, split: str, progress: bool = True) -> LabelCounts:
    """Count the labels of every mask, in threads (decoding releases the interpreter).

    Raises:
        DataError: a split without images, or with files that cannot be used: all of them counted, the first named.
    """
    if len(dataset) == 0:
        raise DataError(f"the {split} split holds no images")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            results = pool.map(lambda index: _count_one(dataset, index), range(len(dataset)))
            return _sum(
                tqdm(results, f"labels of {split}", len(dataset), leave=False, disable=None if progress else True),
                dataset,
                split,
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the rest
            raise


def _count_one(dataset: Dataset, index: int) -> NDArray[np.int64] | DataError:
    """Pixels by label value, ``[256]``, or why the mask cannot be used."""
    try:
        mask = dataset.mask(index) if hasattr(dataset, "mask") else checked(dataset[index]).mask
        counts = np.bincount(mask.numpy().reshape(-1), minlength=256)
        wrong = counts.copy()
        wrong[: len(dataset.classes)] = 0
        wrong[dataset.ignore_index] = 0
        if wrong.any():
            found = [f"{value} ({wrong[value]} pixels)" for value in np.flatnonzero(wrong)]
            name = dataset[index].name
            allowed = f"0..{len(dataset.classes) - 1} and {dataset.ignore_index} (void)"
            return LabelError(f"{name}: its mask holds {first_few(found)}; allowed are {allowed}")
        return counts
    except DataError as error:
        return error


def _sum(results: Iterable[NDArray[np.int64] | DataError], dataset: Dataset, split: str) -> LabelCounts:
    classes = len(dataset.classes)
    pixels, image_pixels, images = (np.zeros(classes, np.int64) for _ in range(3))
    void = 0
    problems: list[DataError] = []
    for result in results:
        if isinstance(result, DataError):
            problems.append(result)
            continue
        labelled = result[:classes]
        present = labelled > 0
        pixels += labelled
        image_pixels[present] += labelled.sum()
        images += present
        void += int(result[dataset.ignore_index])
    if problems:
        kind = type(problems[0])
        lines = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise kind(f"{len(problems)} of {len(dataset)} masks of the {split} split cannot be used:\n{lines}{more}")
    return LabelCounts(pixels, image_pixels, images, void)
