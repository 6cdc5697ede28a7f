"""Pairing files by name, and the labels that a dataset of files lets through."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.files import PairedFiles, pair_by_stem
from segkit.data.palette import voc_palette
from segkit.data.sample import Dataset
from segkit.errors import ConfigError, DataError, LabelError

LABELS = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def paired(folder: Path, labels: np.ndarray, classes: int = 3, **options: Any) -> PairedFiles:
    height, width = labels.shape[:2]
    image = save(folder / "images" / "cat.png", np.full((height, width, 3), 7, dtype=np.uint8))
    mask = save(folder / "masks" / "cat.png", labels)
    names = ["background", *(f"class {index}" for index in range(1, classes))]
    return PairedFiles([(image, mask)], classes=names, palette=voc_palette(classes), **options)


def empty(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


# ---- samples ----


def test_a_sample_and_its_mask_alone(tmp_path: Path) -> None:
    dataset = paired(tmp_path, LABELS)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 1
    image, mask, name = dataset[0]
    assert (image.dtype, image.shape, name) == (torch.uint8, (3, 2, 3), "cat")
    assert image.is_contiguous()
    assert mask.dtype == torch.uint8
    np.testing.assert_array_equal(mask.numpy(), LABELS)
    assert torch.equal(dataset.mask(0), mask)
    assert [sample.name for sample in dataset] == ["cat"]  # an IndexError ends a loop


def test_it_travels_to_workers(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(paired(tmp_path, LABELS)))
    np.testing.assert_array_equal(dataset[0].mask.numpy(), LABELS)


def test_values_map_stored_labels_of_8_and_16_bits(tmp_path: Path) -> None:
    stored = np.array([[7, 1000], [60000, 7]], dtype=np.uint16)
    dataset = paired(tmp_path, stored, values={7: 0, 1000: 2, 60000: 255})
    assert dataset.mask(0).tolist() == [[0, 2], [255, 0]]


def test_colours_stand_for_classes(tmp_path: Path) -> None:
    rgb = np.array([[[0, 0, 0], [9, 9, 9]]], dtype=np.uint8)
    dataset = paired(tmp_path, rgb, colours={(0, 0, 0): 255, (9, 9, 9): 2})
    assert dataset.mask(0).tolist() == [[255, 2]]


def test_an_image_without_any_label_is_fine(tmp_path: Path) -> None:
    assert paired(tmp_path, np.full((2, 2), 255, dtype=np.uint8)).mask(0).unique().tolist() == [255]


def test_names_are_stems_or_where_these_repeat_paths(tmp_path: Path) -> None:
    files = [save(tmp_path / city / "01.png", np.zeros((1, 1), dtype=np.uint8)) for city in ("ulm", "bonn")]
    dataset = PairedFiles([(each, each) for each in files], classes=["a", "b"], palette=voc_palette(2))
    assert [sample.name for sample in dataset] == ["ulm/01", "bonn/01"]


# ---- labels that are refused ----


def test_labels_out_of_range_are_named_with_their_counts(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[0, :2], labels[1, 2] = 200, 17
    with pytest.raises(LabelError) as caught:
        paired(tmp_path, labels)[0]
    assert str(tmp_path / "masks" / "cat.png") in str(caught.value)
    assert "17 (1 pixels), 200 (2 pixels). Allowed are 0 to 2 (3 classes) and 255 (void)" in str(caught.value)


def test_void_can_be_another_label(tmp_path: Path) -> None:
    labels = np.array([[0, 11]], dtype=np.uint8)
    assert paired(tmp_path, labels, ignore_index=11).mask(0).tolist() == [[0, 11]]
    with pytest.raises(LabelError, match="and 11 "):
        paired(tmp_path, np.array([[0, 255]], dtype=np.uint8), ignore_index=11).mask(0)


def test_labels_missing_from_the_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"255 \(1 pixels\)\. Allowed are 0 -> 0, 1 -> 1, 2 -> void"):
        paired(tmp_path, LABELS, values={0: 0, 1: 1, 2: 255}).mask(0)


def test_black_and_white_masks_propose_the_map(tmp_path: Path) -> None:
    black_and_white = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    with pytest.raises(LabelError, match="255 would be void, so that the class 'class 1' never occurs") as caught:
        paired(tmp_path, black_and_white, classes=2).mask(0)
    proposed = re.findall(r'"(\d+)" = (\d+)', str(caught.value))
    assert proposed == [("0", "0"), ("255", "1"), ("0", "0"), ("1", "1"), ("255", "255")]
    assert paired(tmp_path, black_and_white, classes=2, values={0: 0, 255: 1}).mask(0).tolist() == [[0, 1], [1, 0]]
    meant = paired(tmp_path, black_and_white, classes=2, values={0: 0, 1: 1, 255: 255})
    assert meant.mask(0).tolist() == [[0, 255], [255, 0]]
    assert paired(tmp_path, black_and_white).mask(0).max() == 255  # three classes: 255 is void, as in VOC


def test_as_many_values_as_classes_propose_the_map(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r'127 \(1 pixels\).*value_map = \{ "0" = 0, "127" = 1, "255" = 2 \}'):
        paired(tmp_path, np.array([[0, 127, 255]], dtype=np.uint8)).mask(0)


@pytest.mark.parametrize("whole_sample", [True, False])
def test_sizes_that_differ_name_both_files(tmp_path: Path, whole_sample: bool) -> None:
    dataset = paired(tmp_path, LABELS)
    save(tmp_path / "masks" / "cat.png", LABELS[:, :2])
    with pytest.raises(LabelError, match=r"images.cat\.png is 3 x 2, mask .*masks.cat\.png is 2 x 2") as caught:
        dataset[0] if whole_sample else dataset.mask(0)
    assert "EXIF" not in str(caught.value)
    save(tmp_path / "masks" / "cat.png", LABELS.T.copy())
    with pytest.raises(LabelError, match=r"on its side: perhaps .* EXIF"):
        dataset.mask(0)


def test_the_orientation_of_the_image_counts(tmp_path: Path) -> None:
    dataset = paired(tmp_path, LABELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "images" / "cat.png", np.zeros((3, 2, 3), dtype=np.uint8), exif=exif)  # stored on its side
    assert dataset[0].image.shape[1:] == dataset.mask(0).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "a"]}, "2 names; give 1 to 255 that all differ"),
        ({"classes": []}, "0 names"),
        ({"palette": voc_palette(3)}, "3 colours for 2 classes"),
        ({"values": {0: 0, 1: 2}}, r"class index 2 .*allowed are 0 to 1 \(2 classes\) and 255"),
        ({"colours": {(0, 0, 0): 7}}, r"class index 7 .*allowed are 0 to 1"),
        ({"values": {70000: 0}}, "stored label 70000 .*0 to 65535"),
    ],
)
def test_maps_that_do_not_fit_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    facts: dict[str, Any] = {"classes": ["a", "b"], "palette": voc_palette(2), **options}
    with pytest.raises(ConfigError, match=message):
        PairedFiles([], **facts)


# ---- pairs ----


def test_pairs_are_in_natural_order_and_other_files_ignored(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "10.jpg", "9.JPG", "1.jpeg", "Thumbs.db", ".DS_Store", "._9.jpg", "notes.txt")
    masks = empty(tmp_path / "masks", "10.png", "9.png", "1.png", ".hidden.png")
    assert [image.name for image, _ in pair_by_stem(images, masks)] == ["1.jpeg", "9.JPG", "10.jpg"]
    assert [mask.name for _, mask in pair_by_stem(images, masks)] == ["1.png", "9.png", "10.png"]


def test_a_mask_suffix_also_tells_masks_apart_in_one_folder(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "a.jpg"), empty(tmp_path / "masks", "a_mask.gif")
    assert [mask.name for _, mask in pair_by_stem(images, masks, "_mask")] == ["a_mask.gif"]
    both = empty(tmp_path / "both", "a.png", "a_mask.png", "b.png", "b_mask.png")
    assert [(image.name, mask.name) for image, mask in pair_by_stem(both, both, "_mask")] == [
        ("a.png", "a_mask.png"),
        ("b.png", "b_mask.png"),
    ]
    with pytest.raises(DataError, match="mask_suffix must tell them apart"):
        pair_by_stem(both, both)


def test_composed_and_decomposed_umlauts_are_the_same_name(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "u\u0308ber.jpg"), empty(tmp_path / "masks", "\u00fcber.png")
    assert len(pair_by_stem(images, masks)) == 1


def test_files_without_partner_are_counted_and_the_first_five_listed(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", *(f"{index}.jpg" for index in range(9)))
    masks = empty(tmp_path / "masks", "0.png", "1.png", "extra.png")
    with pytest.raises(DataError) as caught:
        pair_by_stem(images, masks)
    assert "7 images in " in str(caught.value)
    assert "2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg and 2 more" in str(caught.value)
    assert "1 masks in " in str(caught.value)
    assert "extra.png" in str(caught.value)


def test_names_that_differ_in_case_or_by_a_suffix_say_so(tmp_path: Path) -> None:
    images, masks = empty(tmp_path / "images", "cat.jpg"), empty(tmp_path / "masks", "Cat.PNG")
    with pytest.raises(DataError, match=r"cat\.jpg and Cat\.PNG differ in upper and lower case"):
        pair_by_stem(images, masks)
    (masks / "Cat.PNG").rename(masks / "cat_label.png")
    with pytest.raises(DataError, match='perhaps mask_suffix = "_label"'):
        pair_by_stem(images, masks)


def test_repeated_names_are_refused(tmp_path: Path) -> None:
    images = empty(tmp_path / "images", "cat.jpg", "cat.png", "dog.jpg")
    with pytest.raises(DataError, match=r"2 files share their names but for the suffix: cat\.jpg, cat\.png$"):
        pair_by_stem(images, empty(tmp_path / "masks", "cat.png", "dog.png"))


def test_missing_and_empty_folders_say_what_is_there(tmp_path: Path) -> None:
    empty(tmp_path / "data" / "pictures")
    with pytest.raises(
        DataError, match=r"images does not exist; .*data holds the folders pictures\. Set the dataset's root"
    ):
        pair_by_stem(tmp_path / "data" / "images", tmp_path / "data" / "masks")
    with pytest.raises(DataError, match=r"does not exist; .*pictures holds no folders"):
        pair_by_stem(tmp_path / "data" / "pictures" / "a" / "b", tmp_path)
    images = empty(tmp_path / "data" / "empty", "a.txt", "b.txt")
    (images / "sub").mkdir()
    with pytest.raises(DataError, match=r"holds no images, but 2 other files and 1 folders; read are \.jpg"):
        pair_by_stem(images, images / "sub")
    with pytest.raises(DataError, match=r"a\.txt is a file"):
        pair_by_stem(images / "a.txt", images)
