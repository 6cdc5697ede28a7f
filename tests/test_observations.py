"""What fools people, measured: each test is something that was once seen in practice, and what segkit does about it.

Masks are damaged where nobody looks, void is learnt like a class, a loss is not 0 where it seems that it must be, and a
network that says "background" everywhere looks good. Figures are of one mask of CamVid where the real data is there,
and of a generated mask everywhere.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import segkit
from segkit.data.resize import mask_at
from segkit.data.sample import voc_palette
from segkit.errors import LabelError
from segkit.metric import scores
from segkit.metric.confusion import ConfusionMatrix
from segkit.model.unet import UNet
from segkit_folder.masks import read_mask
from segkit_samples.sheets import save_palette_png

Labels = NDArray[np.uint8]


class Damage(NamedTuple):
    """A mask of the labels 0..11, and the shares of its pixels that two innocent steps change."""

    mask: Labels
    jpeg: float
    jpeg_in_range: float  # of the changed ones
    bilinear: float


@pytest.fixture(params=["camvid", "generated"])
def damage(request: pytest.FixtureRequest) -> Damage:
    if request.param == "generated":
        cells = np.random.default_rng(0).integers(0, 12, (9, 12), dtype=np.uint8)
        mask = cells.repeat(40, 0).repeat(40, 1)[3:-1, 5:-1].copy()  # [356,474], off the grid of 8 that a JPEG has
        return Damage(mask, jpeg=0.057, jpeg_in_range=0.959, bilinear=0.078)
    folder = request.getfixturevalue("real_data") / "camvid" / "masks" / "test"
    return Damage(read_mask(min(folder.glob("*.png"))), jpeg=0.074, jpeg_in_range=0.937, bilinear=0.073)


# --- labels


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_jpeg_changes_labels_into_other_labels_and_is_refused_under_any_name(
    damage: Damage, suffix: str, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.fromarray(damage.mask).save(file, "JPEG", quality=95)
    decoded = np.asarray(Image.open(file))
    changed = decoded != damage.mask
    assert changed.mean() == pytest.approx(damage.jpeg, abs=0.005)
    # so a check of the range finds next to nothing, and the file itself must be looked at
    assert (decoded[changed] <= 11).mean() == pytest.approx(damage.jpeg_in_range, abs=0.01)
    path = tmp_path / f"mask{suffix}"
    path.write_bytes(file.getvalue())
    with pytest.raises(LabelError, match=r"mask\.\w+: the mask is a JPEG.*that changes labels"):
        read_mask(path)


def test_bilinear_halving_invents_labels_and_the_nearest_takes_them_as_they_are(damage: Damage) -> None:
    height, width = damage.mask.shape
    bilinear = np.asarray(Image.fromarray(damage.mask).resize((width // 2, height // 2), Image.Resampling.BILINEAR))
    halved = mask_at(torch.from_numpy(damage.mask), (height // 2, width // 2)).numpy()
    assert (bilinear != halved).mean() == pytest.approx(damage.bilinear, abs=0.005)
    assert bilinear.max() <= 11  # all in range: between sky (0) and pavement (4) lies a pole (2)
    assert np.array_equal(halved, damage.mask[1::2, 1::2])


def test_converting_a_palette_to_grey_loses_the_labels_that_are_its_indices(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 15, 20, 255]], dtype=np.uint8)
    save_palette_png(labels, voc_palette(21), tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as picture:
        assert np.asarray(picture.convert("L")).tolist() == [[0, 38, 147, 52, 220]]
    assert np.array_equal(read_mask(tmp_path / "mask.png"), labels)


# --- void


def scores_of(prediction: Tensor, target: Tensor, num_classes: int) -> tuple[float, float]:
    """Pixel accuracy and mean IoU, 255 left out."""
    confusion = ConfusionMatrix(num_classes, 255)
    confusion.update(one_hot(prediction, 22)[:, :num_classes], target)
    return scores.score("pixel_accuracy", confusion.compute()), scores.score("mean_iou", confusion.compute())


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels.long(), classes).permute(0, 3, 1, 2).float()


def test_void_as_a_class_doubles_the_mean_iou_of_a_network_that_finds_no_object() -> None:
    # as in Pascal VOC: 70 % background, 5 % void along the borders, twenty classes share the rest
    target = torch.cat([torch.zeros(7000), torch.arange(1, 21).repeat(125), torch.full((500,), 255)])
    target = target.to(torch.uint8).reshape(1, 100, 100)
    void_as_a_class = target.masked_fill(target == 255, 21)
    background = torch.zeros_like(target)
    with_borders = background.flatten().index_fill(0, torch.arange(9500, 9900), 21).view_as(target)

    assert scores_of(background, void_as_a_class, 22) == pytest.approx((0.700, 0.0318), abs=1e-4)
    assert scores_of(with_borders, void_as_a_class, 22) == pytest.approx((0.740, 0.0695), abs=1e-4)  # "it learns"
    # without void both are the constant predictor that they are
    floor = scores.floor([7000] + [125] * 20, [*map(str, range(21))])
    assert (floor["pixel_accuracy"], floor["mean_iou"]) == pytest.approx((0.7368, 0.0351), abs=1e-4)
    for prediction in (background, with_borders):
        assert scores_of(prediction, target, 21) == pytest.approx((floor["pixel_accuracy"], floor["mean_iou"]))


def test_the_voc_dataset_says_that_255_is_void_and_no_class(tmp_path: Path) -> None:
    voc = segkit.datasets["voc"]
    voc.write_sample(tmp_path)
    dataset = voc(root=tmp_path, split="train")
    mask = dataset[0].mask
    assert (len(dataset.classes), dataset.ignore_index) == (21, 255)
    assert 0.02 < (mask == 255).float().mean() < 0.2
    loss = segkit.losses["cross_entropy"](num_classes=21, ignore_index=dataset.ignore_index)
    logits = torch.zeros(1, 21, *mask.shape)
    assert loss(logits + 9 * (mask == 255) * torch.arange(21)[:, None, None], mask[None]) == loss(logits, mask[None])


# --- losses and scores


def test_focal_of_a_one_hot_prediction_is_far_from_0() -> None:
    # the softmax of one 1 among zeros is e / (e + C - 1): 0.12 for 21 classes; what is one-hot must not be logits
    target = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
    focal = {classes: segkit.losses["focal"](num_classes=classes, ignore_index=255) for classes in (12, 21)}
    assert focal[21](one_hot(target, 21), target).item() == pytest.approx(1.6455, abs=1e-4)
    # a 0.78 was once seen, its setting is not known: 12 classes and alpha = 0.75 for all on a plain mean give it (ours
    # divides by the sum of such weights, so that they change nothing)
    assert 0.75 * focal[12](one_hot(target, 12), target).item() == pytest.approx(0.78, abs=1e-3)
    assert focal[21](100 * one_hot(target, 21), target).item() == 0


def test_background_everywhere_is_right_at_three_pixels_of_four_and_worth_nothing() -> None:
    target = torch.cat([torch.zeros(1500), torch.arange(1, 21).repeat(25)]).long().reshape(1, 40, 50)
    floor = scores.floor(target.flatten().bincount().tolist(), [*map(str, range(21))])
    assert (floor["class"], floor["pixel_accuracy"]) == ("0", 0.75)
    assert floor["mean_iou"] == pytest.approx(0.036, abs=5e-4)
    # what other ways of counting print: true negatives counted as right, and all classes in one pot
    counts = smp.metrics.get_stats(torch.zeros_like(target), target, mode="multiclass", num_classes=21)
    assert smp.metrics.accuracy(*counts, reduction="micro").item() == pytest.approx(0.976, abs=5e-4)
    assert smp.metrics.iou_score(*counts, reduction="micro").item() == pytest.approx(0.600, abs=5e-4)


# --- the UNet as it was published


def test_unpadded_convolutions_leave_skips_that_must_be_cropped() -> None:
    network = UNet(2, width=1, norm="none", padding="valid").eval()
    sides: dict[str, list[int]] = {"down": [], "up": []}
    for name, found in sides.items():
        for part in getattr(network, name):
            part.register_forward_hook(lambda _module, _inputs, output, found=found: found.append(output.shape[-1]))
    with torch.no_grad():
        assert network.network(torch.zeros(1, 3, 572, 572)).shape[-2:] == (388, 388)
        assert sides == {"down": [568, 280, 136, 64, 28], "up": [56, 104, 200, 392]}  # 64 to 56, ..., 568 to 392
        assert network(torch.zeros(1, 3, 50, 70)).shape == (1, 2, 50, 70)  # and any image comes back at its own size
