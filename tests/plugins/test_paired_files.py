"""The labels that a dataset of files lets through, and what it says of the others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.sample import Dataset, voc_palette
from segkit.data.scan import scan_splits
from segkit.errors import ConfigError, Issue, LabelError
from segkit.settings import DataSettings
from segkit_checks.classes import Classes
from segkit_folder.files import PairedFiles

CHECKS = {"classes": Classes(DataSettings())}

LABELS = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def fault_of(caught: pytest.ExceptionInfo[LabelError]) -> Issue:
    assert caught.value.issue is not None
    return caught.value.issue


def paired(folder: Path, labels: np.ndarray, classes: int = 3, **options: Any) -> PairedFiles:
    height, width = labels.shape[:2]
    image = save(folder / "images" / "cat.png", np.full((height, width, 3), 7, dtype=np.uint8))
    mask = save(folder / "masks" / "cat.png", labels)
    names = ["background", *(f"class {index}" for index in range(1, classes))]
    return PairedFiles([(image, mask)], classes=names, palette=voc_palette(classes), **options)


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


@pytest.mark.fault("F23")
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


@pytest.mark.fault("F21")
def test_labels_out_of_range_are_named_with_their_counts(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[0, :2], labels[1, 2] = 200, 17
    with pytest.raises(LabelError) as caught:
        paired(tmp_path, labels)[0]
    assert str(caught.value) == (
        f"{tmp_path / 'masks' / 'cat.png'}: labels that are not allowed (17: 1 pixels, 200: 2 pixels); "
        "allowed are 0 to 2 (3 classes) and 255 (void); correct the mask"
    )
    assert fault_of(caught).kind == "values"
    assert fault_of(caught).wrong == {17: 1, 200: 2}
    assert fault_of(caught).stored == {2: 2, 17: 1, 200: 2, 255: 1}


@pytest.mark.fault("F23")
def test_very_many_labels_are_called_blended_and_not_counted(tmp_path: Path) -> None:
    labels = np.arange(200, dtype=np.uint8).reshape(20, 10)
    message = (
        r"cat\.png: more than 64 labels .* photograph or of blended edges \(197, from 3 to 199\); allowed are 0 to 2"
    )
    with pytest.raises(LabelError, match=message) as caught:
        paired(tmp_path, labels).mask(0)
    assert fault_of(caught).kind == "blended"
    assert not fault_of(caught).stored


def test_void_can_be_another_label(tmp_path: Path) -> None:
    labels = np.array([[0, 11]], dtype=np.uint8)
    assert paired(tmp_path, labels, ignore_index=11).mask(0).tolist() == [[0, 11]]
    with pytest.raises(LabelError, match="and 11 "):
        paired(tmp_path, np.array([[0, 255]], dtype=np.uint8), ignore_index=11).mask(0)


def test_labels_missing_from_the_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"255: 1 pixels\); allowed are 0 -> 0, 1 -> 1, 2 -> void"):
        paired(tmp_path, LABELS, values={0: 0, 1: 1, 2: 255}).mask(0)


@pytest.mark.fault("F23")
def test_whether_0_and_255_are_black_and_white_is_seen_from_all_masks(tmp_path: Path) -> None:
    black_and_white = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    dataset = paired(tmp_path, black_and_white, classes=2)
    assert dataset.mask(0).tolist() == [[0, 255], [255, 0]]
    (error,) = [
        each
        for each in scan_splits({"train": dataset}, checks=CHECKS, progress=False).errors
        if each.kind == "black_and_white"
    ]
    assert error.text.endswith(
        "cat.png: the only labels are 0 and 255, and 255 is void by default; "
        "allowed are 0 to 1 (2 classes) and 255 (void); correct the mask"
    )
    for said in ({"values": {0: 0, 255: 1}}, {"values": {0: 0, 1: 1, 255: 255}}, {"ignore_index": 255}):
        scan = scan_splits(
            {"train": paired(tmp_path, black_and_white, classes=2, **said)}, checks=CHECKS, progress=False
        )
        assert "black_and_white" not in [finding.kind for finding in scan.issues]
    scan = scan_splits({"train": paired(tmp_path, black_and_white)}, checks=CHECKS, progress=False)
    assert "black_and_white" not in [finding.kind for finding in scan.issues]  # three classes: 255 is void, as in VOC


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_negative_labels_are_void_where_the_map_says_so(tmp_path: Path, dtype: type) -> None:
    dataset = paired(tmp_path, LABELS, values={-1: 255, 0: 0, 1: 1, 2: 2})
    mask = save(tmp_path / "masks" / "cat.tif", np.array([[0, 1, 2], [2, -1, 0]], dtype))
    dataset.pairs = [(dataset.pairs[0][0], mask)]
    assert dataset.mask(0).tolist() == LABELS.tolist()
    with pytest.raises(LabelError, match=r"labels that are not allowed \(-1: 1 pixels\)"):
        PairedFiles(dataset.pairs, classes=dataset.classes, palette=dataset.palette).mask(0)


def test_the_message_of_one_mask_has_the_advice_of_the_dataset(tmp_path: Path) -> None:
    class Own(PairedFiles):
        label_advice = "ask Ann"

    rgb = save(tmp_path / "rgb.png", np.full((2, 2, 3), (255, 0, 0), dtype=np.uint8))
    dataset = Own([(rgb, rgb)], classes=["a", "b"], palette=voc_palette(2))
    with pytest.raises(
        LabelError, match=r"rgb\.png: the mask holds colours, not labels \(1 colours\); allowed .*; ask Ann$"
    ) as caught:
        dataset.mask(0)
    assert pickle.loads(pickle.dumps(caught.value)).issue == fault_of(caught)  # from a worker


@pytest.mark.fault("F22")
@pytest.mark.parametrize("whole_sample", [True, False])
def test_sizes_that_differ_name_both_files(tmp_path: Path, whole_sample: bool) -> None:
    dataset = paired(tmp_path, LABELS)
    save(tmp_path / "masks" / "cat.png", LABELS[:, :2])
    message = (
        r"masks.cat\.png: image and mask differ in size \(2 x 2, image .*images.cat\.png is 3 x 2, width x height\)"
    )
    with pytest.raises(LabelError, match=message) as caught:
        dataset[0] if whole_sample else dataset.mask(0)
    assert "EXIF" not in str(caught.value)
    assert fault_of(caught).kind == "size"
    save(tmp_path / "masks" / "cat.png", LABELS.T.copy())
    with pytest.raises(
        LabelError,
        match=r"one lies on its side .*; turn the mask as its image lies; an image that EXIF turns is read upright",
    ):
        dataset.mask(0)


@pytest.mark.fault("F22")
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
        ({"values": {70000: 0}}, "stored label 70000 .*-32768 to 65535"),
    ],
)
def test_maps_that_do_not_fit_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    facts: dict[str, Any] = {"classes": ["a", "b"], "palette": voc_palette(2), **options}
    with pytest.raises(ConfigError, match=message):
        PairedFiles([], **facts)


# ---- what a scan keeps ----


def test_the_files_of_a_sample(tmp_path: Path) -> None:
    assert paired(tmp_path, LABELS).files(0) == (tmp_path / "images" / "cat.png", tmp_path / "masks" / "cat.png")


def test_the_reading_changes_with_whatever_decides_the_labels(tmp_path: Path) -> None:
    own = {0: 0, 1: 1, 2: 2, 255: 255}
    readings = [
        paired(tmp_path, LABELS).reading,
        paired(tmp_path, LABELS, classes=4).reading,
        paired(tmp_path, LABELS, ignore_index=11).reading,
        paired(tmp_path, LABELS, values=own | {3: 2}).reading,
        paired(tmp_path, LABELS, colours={(0, 0, 0): 0}).reading,
        paired(tmp_path, LABELS, colours={(0, 0, 0): 1}).reading,
    ]
    assert len(set(readings)) == len(readings)
    assert paired(tmp_path / "elsewhere", LABELS).reading == readings[0]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "tab\there", "c1 \x9b31m", "long" * 26])
def test_a_class_name_of_control_characters_or_without_end_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"classes: .* at most 100, and no line breaks or other control") as caught:
        PairedFiles([], classes=["background", name], palette=[(0, 0, 0), (1, 1, 1)])
    assert str(caught.value).isprintable()
    PairedFiles([], classes=["voie ferrée", "\u6b69\u9053\u3000x"], palette=[(0, 0, 0), (1, 1, 1)])


@pytest.mark.parametrize("values", [None, {0: 0, 255: 1}, {7: 0, 9: 1, 3: 255}, dict.fromkeys(range(256), 0)])
def test_masks_of_8_bits_and_of_more_are_mapped_alike(tmp_path: Path, values: dict[int, int] | None) -> None:
    meaning = {0: 0, 1: 1, 255: 255} if values is None else values
    random = np.random.default_rng(0)
    for labels in (list(meaning), list(range(256))):
        stored = np.array(labels)[random.integers(0, len(labels), (30, 41))]
        for mask in (stored.astype(np.uint8), stored.astype(np.uint16)):
            dataset = paired(tmp_path, mask, classes=2, values=values)
            if set(stored.reshape(-1).tolist()) <= set(meaning):
                expected = [[meaning[label] for label in row] for row in mask.tolist()]
                assert dataset.mask(0).tolist() == expected
            else:
                with pytest.raises(LabelError, match="not allowed"):
                    dataset.mask(0)
