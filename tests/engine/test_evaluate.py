"""Evaluation: at each mask's own size, with one confusion matrix, whatever the batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn

from segkit.data.sample import Dataset, Sample
from segkit.engine import evaluate as evaluation
from segkit.engine.criterion import Criterion
from segkit.engine.evaluate import Evaluator
from segkit.engine.precision import Precision
from segkit.errors import LabelError, NotFiniteError
from segkit.inference import window_grid
from segkit.inference.predictor import Predictor
from segkit.inference.sliding_window import Inferer
from segkit.metric.scores import MeanAccuracy, PixelAccuracy

FP32 = Precision("fp32", torch.device("cpu"))


def evaluate(
    model: nn.Module, dataset: Any, precision: Precision = FP32, resize: Any = None, crop: Any = None, **options: Any
) -> dict[str, Any]:
    inferer = Inferer(model, precision, len(dataset.classes), resize=resize, crop=crop)
    return Evaluator(inferer, dataset, **options).evaluate().scores


class Brightness(nn.Module):
    """Class 1 where the image is bright; notes the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images.shape[2:]))
        level = images.mean(1)
        return torch.stack([-level, level], 1)


def zero(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits * 0).sum() + logits.shape[0]


def test_a_perfect_prediction_scores_one_in_spite_of_void(halves: Any) -> None:
    scores = evaluate(Brightness(), halves(5), precision=FP32)
    assert scores["mean_iou"] == scores["pixel_accuracy"] == scores["mean_dice"] == 1.0
    assert scores["class_iou"] == {"dark": 1.0, "bright": 1.0}


def test_the_batch_size_changes_nothing(halves: Any, tiny_net: Any) -> None:
    torch.manual_seed(0)
    model = tiny_net()
    one = evaluate(model, halves(5), precision=FP32, batch_size=1)
    many = evaluate(model, halves(5), precision=FP32, batch_size=4)
    assert one == many


def test_no_more_pixels_are_scored_at_once_than_one_large_image_has(
    halves: Any, tiny_net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, seen = tiny_net(), list[int]()
    model.register_forward_hook(lambda _, inputs, output: seen.append(len(inputs[0])))
    together = evaluate(model, halves(5), batch_size=5)
    monkeypatch.setattr(evaluation, "MAX_WHOLE_PIXELS", 2 * 12 * 16)  # of images of 12 x 16
    assert evaluate(model, halves(5), batch_size=5) == together
    assert seen == [5, 2, 2, 1]


def test_the_logits_are_resized_and_never_the_mask(halves: Any) -> None:
    model = Brightness()
    scores = evaluate(model, halves(3), precision=FP32, resize=0.5)
    assert set(model.sizes) == {(6, 8)}
    assert scores["pixel_accuracy"] > 0.8
    confusion = PixelAccuracy(2, 255)
    evaluate(model, halves(3), precision=FP32, resize=0.5, metrics={"pixel_accuracy": confusion})
    labelled = sum(int((halves(3)[index].mask != 255).sum()) for index in range(3))
    assert int(confusion.confusion.compute().sum()) == labelled


def test_metrics_of_ours_and_of_torchmetrics_stand_side_by_side(halves: Any, tiny_net: Any) -> None:
    torch.manual_seed(3)
    model = tiny_net().eval()
    jaccard = torchmetrics.classification.MulticlassJaccardIndex(2, ignore_index=255)
    metrics = {"mean_accuracy": MeanAccuracy(2, 255), "jaccard": jaccard}
    for _ in range(2):  # the second time starts afresh
        scores = evaluate(model, halves(6), precision=FP32, metrics=metrics, batch_size=4)
    assert scores["jaccard"] == pytest.approx(scores["mean_iou"], abs=1e-6)
    assert 0 < scores["mean_accuracy"] < 1
    alone = MeanAccuracy(2, 255)
    for index in range(6):
        sample = halves(6)[index]
        with torch.no_grad():
            from segkit.data.normalise import IMAGENET

            alone.update(model(IMAGENET.normalise(sample.image[None])), sample.mask[None].long())
    assert alone.compute()["mean_accuracy"] == pytest.approx(scores["mean_accuracy"])


def test_the_loss_is_a_mean_over_images_and_each_term_is_told(halves: Any) -> None:
    criterion = Criterion([("size", 2.0, zero), ("size", 0.5, zero)])
    scores = evaluate(Brightness(), halves(5), precision=FP32, criterion=criterion, batch_size=4)
    mean = (4 * 4 + 1 * 1) / 5
    assert scores["losses"] == pytest.approx({"size": mean, "size_2": mean})
    assert scores["loss"] == pytest.approx(2.5 * mean)


def test_a_label_outside_the_classes_is_an_error(halves: Any) -> None:
    class Wrong(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample.mask[0, :3] = 7
            return sample

    with pytest.raises(LabelError, match="6 pixels"):
        evaluate(Brightness(), Wrong(2), precision=FP32)


def test_a_model_in_training_is_evaluated_without_dropout(halves: Any, tiny_net: Any) -> None:
    model = tiny_net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = evaluate(model, halves(3), precision=FP32)
    assert first == evaluate(model, halves(3), precision=FP32)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Beyond(nn.Module):
    """Says of dark what it is told, and of images with a bright first pixel nothing that is a number."""

    def __init__(self, dark: float, bad: float) -> None:
        super().__init__()
        self.dark, self.bad = dark, bad

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        level = images.mean(1)  # [B,H,W]
        dark = torch.where(level[:, :1, :1] > 1, self.bad, self.dark * torch.ones_like(level))
        return torch.stack([dark, level], 1)


class Marked(Dataset):
    """Of the split's images those of the given numbers are bright all over."""

    def __init__(self, dataset: Any, numbers: set[int]) -> None:
        self.dataset, self.numbers = dataset, numbers
        self.classes, self.palette, self.ignore_index = dataset.classes, dataset.palette, dataset.ignore_index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        return sample._replace(image=torch.full_like(sample.image, 255)) if index in self.numbers else sample


@pytest.mark.fault("F49")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_whose_logits_are_no_numbers_is_named(halves: Any, bad: float) -> None:
    with pytest.raises(
        NotFiniteError, match=r"^2 of 7 images \(halves-1, halves-5\): the model's output is NaN or inf"
    ):
        evaluate(Beyond(0.0, bad), Marked(halves(7), {1, 5}), precision=FP32, batch_size=3)


def test_a_class_may_be_ruled_out_and_void_may_hold_anything(halves: Any) -> None:
    scores = evaluate(Beyond(-float("inf"), 0.0), halves(3), precision=FP32)
    assert scores["predicted"]["class"] == "bright"

    class NanAtTheSeam(Brightness):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            logits[..., 9] = float("nan")  # void in all of them
            return logits

    assert evaluate(NanAtTheSeam(), halves(3), precision=FP32)["mean_iou"] == 1.0


class Context(nn.Module):
    """Class 1 where the whole picture is bright on average, and next to nothing of a pixel itself."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        level = images.mean((1, 2, 3), keepdim=True) + 0.01 * images.mean(1, keepdim=True)
        return torch.cat([-level, level], 1)


@pytest.mark.parametrize("resize", [None, 0.7, [40, 40]])
def test_an_image_too_large_for_the_network_is_scored_as_it_is_predicted(monkeypatch: Any, resize: Any) -> None:
    """With a network that looks at the whole of what it sees, tiles and the whole differ."""
    random = np.random.default_rng(0)
    image = (random.integers(0, 120, (3, 131, 150)) + np.linspace(0, 130, 150)).astype(np.uint8)
    mask = random.integers(0, 2, (131, 150), np.uint8)
    mask[:20] = 255
    sample = Sample(torch.from_numpy(image), torch.from_numpy(mask), "large")

    class One(Dataset):
        classes, palette, ignore_index = ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), 255

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            return sample

    predictor = Predictor(Context(), classes=One.classes, palette=One.palette, device="cpu", resize=resize, crop=32)
    whole = predictor.predict(image.transpose(1, 2, 0))
    monkeypatch.setattr(window_grid, "MAX_WHOLE_PIXELS", 1000)
    monkeypatch.setattr(window_grid, "MIN_SIDE", 32)
    predicted = predictor.predict(image.transpose(1, 2, 0))
    assert np.array_equal(predicted, whole) == isinstance(resize, list)  # of one size there are no tiles
    right = (predicted == mask)[20:].mean()
    criterion = Criterion([("ce", 1.0, nn.CrossEntropyLoss(ignore_index=255))])
    scores = evaluate(Context(), One(), precision=FP32, criterion=criterion, resize=resize, crop=32)
    assert scores["pixel_accuracy"] == pytest.approx(right, abs=1e-9)
    found = torch.from_numpy(predictor.probabilities(image.transpose(1, 2, 0)))
    cost = nn.functional.nll_loss(found.log()[None], sample.mask[None].long(), ignore_index=255)
    assert scores["loss"] == pytest.approx(float(cost), rel=1e-5)


def test_the_loss_is_a_mean_over_pixels_however_the_split_is_batched(halves: Any, tiny_net: Any) -> None:
    """An image without a label weighs nothing: torch's own cross-entropy of it alone is NaN."""

    class Void(type(halves(3))):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            mask = sample.mask.clone()
            mask[:, index:] = 255  # of image 0 every pixel
            return sample._replace(mask=mask)

    torch.manual_seed(0)
    model = tiny_net()
    criterion = Criterion([("ce", 1.0, nn.CrossEntropyLoss(ignore_index=255))])
    one, whole = (evaluate(model, Void(3), precision=FP32, criterion=criterion, batch_size=size) for size in (1, 3))
    assert one["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert one["losses"]["ce"] == pytest.approx(whole["loss"], rel=1e-6)
