from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.sample import Sample, voc_palette
from segkit_checks import contact
from segkit_checks.contact import contact_sheet
from segkit_folder.dataset import FolderDataset

TILE, PAIR, LEFT = 176, 2 * 176 + 2 + 6, 6  # pixels: a tile, from one example to the next, the margin


class Masks:
    """Grey images of given masks; remembers which were asked for."""

    ignore_index = 255

    def __init__(self, masks: Sequence[np.ndarray], classes: int) -> None:
        self.masks, self.asked = masks, list[int]()
        self.classes = tuple(f"class {index}" for index in range(classes))
        self.palette = voc_palette(classes)
        self.pixels = np.stack([np.bincount(mask.ravel(), minlength=256)[:classes] for mask in masks])

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        mask = torch.from_numpy(self.masks[index])
        return Sample(torch.full((3, *mask.shape), 100, dtype=torch.uint8), mask, f"image_{index}")


def filled(*counts: int, side: int = 10) -> np.ndarray:
    """A mask with so many pixels of class 1, 2, ..., the rest class 0."""
    mask = np.zeros(side * side, np.uint8)
    mask[: sum(counts)] = np.repeat(np.arange(1, len(counts) + 1), counts)
    return mask.reshape(side, side)


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions of classes, in the order in which they are written."""
    written: list[str] = []

    def noting(text: str, *others: object) -> Image.Image:
        written.append(text)
        return caption(text, *others)  # type: ignore[arg-type]

    caption = contact.caption
    monkeypatch.setattr(contact, "caption", noting)
    return written


def test_the_rarest_class_comes_first_and_the_absent_ones_last(captions: list[str]) -> None:
    dataset = Masks([filled(0, 3, 10), filled(0, 0, 10), filled(0, 1, 0)], classes=5)
    contact_sheet(dataset, dataset.pixels)
    assert captions == [
        "class 2: 1.33 % of the pixels, in 2 of 3 images",
        "class 3: 6.67 % of the pixels, in 2 of 3 images",
        "class 0: 92.00 % of the pixels, in 3 of 3 images",
        "class 1: absent from all 3 images",
        "class 4: absent from all 3 images",
    ]


def test_a_trace_of_a_class_is_not_rounded_to_nothing(captions: list[str]) -> None:
    dataset = Masks([filled(1, side=200)], classes=2)
    contact_sheet(dataset, dataset.pixels)
    assert captions[0] == "class 1: under 0.01 % of the pixels, in 1 of 1 images"


def test_images_are_evenly_spaced_by_what_they_hold_and_nothing_else_is_read() -> None:
    dataset = Masks([filled(count) for count in (10, 80, 0, 60, 20, 40, 30, 50, 70)], classes=2)
    page = contact_sheet(dataset, dataset.pixels, per_class=4)
    assert dataset.asked[:4] == [1, 3, 5, 4]  # class 1: of 80, 60, 40 and 20 pixels
    assert len(dataset.asked) == 8
    assert page.tobytes() == contact_sheet(dataset, dataset.pixels, per_class=4).tobytes()


def test_the_labels_are_drawn_over_the_image_beside_it() -> None:
    mask = np.zeros((880, 880), np.uint8)
    mask[:440] = 1
    mask[:, 800:] = 255
    dataset = Masks([mask], classes=2)
    page = np.asarray(contact_sheet(dataset, dataset.pixels, per_class=1))
    top = 6 + 20 + 6 + 20  # the class's heading, the image's name
    image, labels = page[top : top + TILE, LEFT:], page[top : top + TILE, LEFT + TILE + 2 :]
    assert (image[:, :TILE] == 100).all()
    assert (labels[:80, :80] == (114, 50, 50)).all()  # half the image, half (128, 0, 0)
    assert (labels[100:, :80] == 100).all()  # the image, as the class's black is not drawn
    assert (labels[:80, 165:TILE] == 100).all()  # void shows the image alone


def test_examples_stand_side_by_side_whatever_their_size() -> None:
    masks = [np.zeros((1, 1), np.uint8), np.zeros((4, 3000), np.uint8), np.zeros((300, 2), np.uint8), filled(0)]
    dataset = Masks(masks, classes=1)
    page = contact_sheet(dataset, dataset.pixels)
    assert page.width == 2 * 6 + 4 * PAIR - 6
    first = np.asarray(page)[6 + 20 + 6 + 20 :]
    sizes = []
    for position in range(4):
        cell = (first[:TILE, LEFT + position * PAIR :][:, :TILE] == 100).all(axis=2)
        sizes.append((int(cell.any(axis=1).sum()), int(cell.any(axis=0).sum())))
    # most pixels first: 12,000, 600, 100 and 1; of the second the labels, whose black is not drawn, are seen beside it
    assert sizes == [(1, TILE), (TILE, 2), (TILE, TILE), (TILE, TILE)]


def test_as_many_classes_as_a_mask_can_hold() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset = Masks([mask], classes=255)
    page = contact_sheet(dataset, dataset.pixels, per_class=1)
    assert page.height > 255 * (TILE + 40)
    whole = (4 * PAIR + 6) * page.height
    assert whole < 89_478_485  # above this Pillow takes a picture for an attack


def test_a_split_without_a_label_still_has_its_sheet(captions: list[str]) -> None:
    dataset = Masks([np.full((4, 4), 255, np.uint8)], classes=2)
    contact_sheet(dataset, dataset.pixels)
    assert captions == [f"class {index}: absent from all 1 images" for index in (0, 1)]
    assert not dataset.asked


def test_real_street_scenes(real_data: Path, captions: list[str]) -> None:
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    dataset = FolderDataset(real_data / "camvid", "val", names, void=[11, 255])
    pixels = np.stack([np.bincount(dataset[index].mask.flatten(), minlength=256)[:11] for index in range(len(dataset))])
    contact_sheet(dataset, pixels)
    assert captions[0] == "pole: 0.57 % of the pixels, in 101 of 101 images"
    assert captions[-1].startswith("road: ")
