from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from training import logits_of

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.sample import ImageFormat
from segkit.data.visualize import overlay
from segkit.errors import ConfigError, DataError, ModelError, NotFiniteError
from segkit.inference.predictor import Predictor

FACTS = {"classes": ("dark", "red", "blue"), "palette": ((0, 0, 0), (200, 0, 0), (0, 0, 200)), "device": "cpu"}


def test_logits_are_those_of_the_model(colour_model, labels, paint):
    image = paint(labels)
    logits = logits_of(Predictor(colour_model, **FACTS, precision="fp32"), image)
    with torch.inference_mode():
        expected = colour_model(IMAGENET.normalise(torch.from_numpy(image).permute(2, 0, 1)[None]))[0]
    assert logits.shape == (3, 13, 18)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predictions_are_labels_at_the_images_own_size(colour_model, labels, paint, precision):
    predicted = Predictor(colour_model, **FACTS, precision=precision).predict(paint(labels))
    assert predicted.dtype == np.uint8
    assert np.array_equal(predicted, labels)


def test_a_file_is_read_upright(colour_model, labels, paint, tmp_path):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.rot90(paint(labels))).save(path, exif=exif)
    assert np.array_equal(Predictor(colour_model, **FACTS).predict(path), labels)


def test_a_list_of_images_gives_a_list_of_predictions(colour_model, labels, paint, tmp_path):
    predictor, image = Predictor(colour_model, **FACTS), paint(labels)
    Image.fromarray(image).save(tmp_path / "a.png")
    every = [image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")]
    for images in (every, tuple(every), iter(every)):
        found = predictor.predict(images, flips="horizontal")
        assert isinstance(found, list)
        assert [np.array_equal(each, labels) for each in found] == [True] * 4
    assert predictor.predict([]) == []


class Stored:
    """As the arrays of h5py and zarr, of which ``[:]`` gives the pixels."""

    shape, dtype = (3, 4, 3), np.uint8

    def __getitem__(self, rows):
        return np.zeros(self.shape, self.dtype)[rows]


@pytest.mark.parametrize("image", [3, None, torch.zeros(3, 4, 4), [3], b"a.png", Stored()])
def test_what_is_no_image_is_refused_in_a_line(colour_model, image):
    with pytest.raises(
        DataError, match=r"is a path, a uint8 array \[H,W,3\] or a Pillow image, not (int|None|Tensor|bytes|Stored)"
    ):
        Predictor(colour_model, **FACTS).predict(image)


@pytest.mark.parametrize(("resize", "seen"), [(2.0, (26, 36)), (0.5, (6, 9)), ([20, 30], (20, 30)), (None, (13, 18))])
def test_the_network_sees_the_image_resized_and_logits_come_back(labels, paint, resize, seen):
    sizes = []

    class Probe(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape[2:]))
            return images

    image = np.full((13, 18, 3), 200, np.uint8)
    image[:, 9:] = 20
    logits = logits_of(Predictor(Probe(), **FACTS, precision="fp32", resize=resize), image)
    assert sizes == [seen]
    assert logits.shape == (3, 13, 18)
    assert (logits[:, :, :6] > 0.5).all(), "the bright half is not where it was"
    assert (logits[:, :, 12:] < -0.5).all()


def test_enlarged_logits_are_bilinear_between_pixel_centres(paint):
    image = paint(np.array([[0, 1], [2, 0]], np.uint8))
    logits = logits_of(Predictor(nn.Identity(), **FACTS, precision="fp32", resize=[1, 1]), image)
    mean = torch.from_numpy(np.asarray(Image.fromarray(image).resize((1, 1), Image.Resampling.BILINEAR)).copy())
    torch.testing.assert_close(logits, F.interpolate(IMAGENET.normalise(mean.permute(2, 0, 1)[None]), (2, 2))[0])


def test_dropout_and_batch_statistics_are_off(paint, labels):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    predictor = Predictor(model, **FACTS, precision="fp32")
    before = logits_of(predictor, paint(labels))
    assert torch.equal(before, logits_of(predictor, paint(labels)))
    assert model[0].num_batches_tracked == 0


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_image_is_refused(colour_model, image):
    with pytest.raises(DataError, match=r"an image is RGB, uint8 \[H,W,3\]; this one is"):
        Predictor(colour_model, **FACTS).predict(image)


def test_a_model_of_other_classes_is_named(colour_model, paint, labels):
    with pytest.raises(ModelError, match=r"the model returned float32 \[1, 3, 13, 18\] for 1 images of 13 x 18 and 2"):
        Predictor(colour_model, classes=("a", "b"), palette=(), device="cpu").predict(paint(labels))


def test_a_device_that_is_not_there(colour_model):
    with pytest.raises(ConfigError, match="tpu"):
        Predictor(colour_model, classes=(), palette=(), device="tpu")


@pytest.mark.fault("F49")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "options", [{}, {"tile": 16}, {"flips": "both"}, {"scales": (1.0, 2.0)}], ids=["whole", "tiles", "flips", "scales"]
)
def test_logits_that_are_no_numbers_have_no_class(colour_model, labels, paint, tmp_path, value, options):
    with torch.no_grad():
        colour_model.classifier.bias[:] = value
    predictor = Predictor(colour_model, **FACTS, precision="fp32")
    path = tmp_path / "street.png"
    Image.fromarray(paint(labels)).save(path)
    for ask in (predictor.predict, predictor.probabilities):
        with pytest.raises(NotFiniteError, match=r"street\.png: the model's output is NaN or infinite"):
            ask(path, **options)
    with pytest.raises(NotFiniteError, match=r"^the image: the model's output"):
        predictor.predict(paint(labels), **options)


def test_a_class_may_be_ruled_out(colour_model, labels, paint):
    with torch.no_grad():
        colour_model.classifier.bias[2] = -float("inf")
    predictor = Predictor(colour_model, **FACTS, precision="fp32")
    assert np.array_equal(predictor.predict(paint(labels)), np.where(labels == 2, 0, labels))
    assert (predictor.probabilities(paint(labels))[2] == 0).all()


def test_a_notebook_shows_predictions_and_the_predictor(colour_model, labels, paint, tmp_path):
    predictor, image = Predictor(colour_model, **{**FACTS, "classes": ("dark", "<red>", "blue")}), paint(labels)
    shown = predictor.overlay(image)
    assert np.array_equal(np.asarray(shown), overlay(image, labels, FACTS["palette"]))
    text = predictor._repr_html_()
    assert "takes red, green, blue" in text
    assert "&lt;red&gt;" in text
    assert "rgb(200, 0, 0)" in text


def test_grey_is_repeated_as_red_green_and_blue_and_as_no_other_three_channels(colour_model):
    grey = np.full((8, 9, 1), 200, np.uint8)
    colours = Predictor(colour_model, **FACTS)
    assert np.array_equal(colours.predict(grey), colours.predict(grey.repeat(3, 2)))
    infrared = Predictor(colour_model, **FACTS, images=ImageFormat(("infrared", "red", "green")))
    with pytest.raises(DataError, match=r"infrared, red, green, uint8 \[H,W,3\].* uint8 \[8, 9, 1\]"):
        infrared.predict(grey)


@pytest.mark.parametrize("mark", ["void", -99.0])
def test_where_there_is_no_data_is_void_in_python_too(mark, tmp_path):
    """As the command writes it: of a file, of an array, in tiles, and the caller's array stays as it is."""
    facts = {**FACTS, "normalisation": Normalisation((50.0,), (20.0,), "float32", no_data=True), "precision": "fp32"}
    format = ImageFormat(("height",), no_data=mark)
    predictor = Predictor(nn.Conv2d(1, 3, 1), **facts, images=format, ignore_index=254)
    image = np.linspace(10, 90, 40 * 50, dtype=np.float32).reshape(40, 50, 1)
    image[3:5, 7] = np.nan if mark == "void" else mark
    np.save(tmp_path / "height.npy", image)
    for given in (image, image[..., 0], Image.fromarray(image[..., 0]), tmp_path / "height.npy"):
        for options in ({}, {"tile": 16}):
            labels = predictor.predict(given, **options)
            assert (labels == 254).sum() == 2
            assert (labels[3:5, 7] == 254).all()
    assert np.isnan(image).sum() == (2 if mark == "void" else 0)
    assert predictor.probabilities(image).shape == (3, 40, 50)
    assert predictor.overlay(image).size == (50, 40)
    facts["normalisation"] = Normalisation((50.0,), (20.0,), "float32")
    plain = Predictor(nn.Conv2d(1, 3, 1), **facts, images=ImageFormat(("height",)))
    if mark == "void":
        with pytest.raises(DataError, match=r"the image: pixels that are not numbers \(2 of 2,000 are NaN"):
            plain.predict(image)
    else:
        assert plain.predict(image).max() <= 2
