from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training import logits_of

from segkit.errors import NotFiniteError
from segkit.inference import sliding_window
from segkit.inference.predictor import Predictor
from segkit.inference.window_grid import windows
from segkit.model.layers import pad_to_multiple
from segkit.model.unet import UNet

FACTS = {"classes": ("dark", "red", "blue"), "palette": ((0, 0, 0), (200, 0, 0), (0, 0, 200)), "device": "cpu"}


def photograph(height, width, seed=0):
    """Smooth noise, as a network sees borders in it."""
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=torch.Generator().manual_seed(seed))
    fine = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (fine * 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(13, 18), (100, 64), (64, 100), (129, 131), (16, 300)])
@pytest.mark.parametrize("overlap", [0, 0.5, 0.8])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_a_pixel_alone_decides_is_the_same_in_tiles(size, overlap, batch_size):
    image = photograph(*size)
    predictor = Predictor(nn.Conv2d(3, 3, 1), **FACTS, precision="fp32")
    options = {"tile": 32, "overlap": overlap, "batch_size": batch_size}
    whole, tiled = predictor.probabilities(image), predictor.probabilities(image, **options)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)
    assert np.array_equal(predictor.predict(image, **options), tiled.argmax(0))


def test_an_image_of_one_tile_is_predicted_whole_to_the_last_bit():
    image = photograph(96, 80)
    predictor = Predictor(UNet(3, width=4, depth=2), **FACTS, precision="fp32")
    for options in ({"tile": 96}, {"tile": 0}, {}):
        assert np.array_equal(predictor.probabilities(image, **options), logits_of(predictor, image).softmax(0).numpy())
        assert np.array_equal(predictor.predict(image, **options), logits_of(predictor, image).argmax(0).numpy())


def test_tiles_differ_from_the_whole_by_no_more_than_the_weight_of_their_borders():
    """The tolerance: at a pixel the weight of the tiles in which the network sees beyond their inner borders."""
    torch.manual_seed(0)
    reach = 44  # pixels that a UNet of depth 2 sees on each side: 2 + 2 * 2 * 2 + 4 * 2 + ..., rounded up to its grid
    height, width = 320, 288
    image = photograph(height, width)
    predictor = Predictor(UNet(3, width=4, depth=2, norm="none"), **FACTS, precision="fp32")
    whole, tiled = predictor.probabilities(image), predictor.probabilities(image, tile=128)
    outside = []
    for side in (height, width):
        share = np.zeros(side)
        for tile in windows(side, side, 128, 0.5):
            place = np.arange(tile.start, tile.end)
            cut = (place < tile.start + reach) & (tile.start > 0) | (place >= tile.end - reach) & (tile.end < side)
            share[tile.start : tile.end] += tile.weights * cut
        outside.append(share)
    bound = 1 - np.outer(1 - outside[0], 1 - outside[1])  # [H,W]
    difference = np.abs(tiled - whole).max(0)
    assert (difference <= bound + 1e-5).all()
    assert (bound < 1e-3).mean() > 0.05  # there are pixels of which it says something
    assert difference.max() > 1e-5, "the network saw no border: the test shows nothing"
    assert (tiled.argmax(0) == whole.argmax(0)).mean() > 0.98


def test_tiles_halve_their_resolution_where_the_whole_image_does():
    """Max pooling off the grid would differ everywhere, not at the borders of tiles alone."""
    torch.manual_seed(0)
    image = photograph(290, 290)  # a last tile of 160 that ended with the image would begin at 130
    predictor = Predictor(UNet(3, width=4, depth=2, norm="none"), **FACTS, precision="fp32")
    whole, tiled = predictor.probabilities(image), predictor.probabilities(image, tile=160)
    middle = np.s_[:, 205:213, 205:213]  # of a late tile
    np.testing.assert_allclose(tiled[middle], whole[middle], atol=1e-3)


def resnet():
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    body = nn.Sequential(*[layer for name, layer in network.named_children() if name not in ("avgpool", "fc")][:6])
    return Multiple(nn.Sequential(body, nn.Conv2d(128, 3, 1)))


class Multiple(nn.Module):
    """A network that wants multiples of 32, as those of smp do."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        logits = self.network(pad_to_multiple(images, 32))
        size = [8 * side for side in logits.shape[2:]]
        return nn.functional.interpolate(logits, size, mode="bilinear")[..., : images.shape[2], : images.shape[3]] * 4


def unet():
    torch.manual_seed(0)
    return UNet(3, width=4, depth=2, norm="none")


@pytest.mark.parametrize("network", [unet, resnet])
@pytest.mark.parametrize("factor", [None, 0.3, 0.7, 1.5])
def test_tiles_are_as_near_to_the_whole_image_off_the_grid_as_on_it(network, factor):
    """Whatever the factor and the size; at the lower and right border, where an image ends off the grid, too."""
    predictor = Predictor(network(), **FACTS, precision="fp32", resize=factor)
    worst = []
    for seen in ((288, 320), (299, 309)):  # on the grid of 32, and off it
        height, width = (round(side / (factor or 1)) for side in seen)
        image = photograph(height, width)
        whole = predictor.probabilities(image, tile=0)
        tiled = predictor.probabilities(image, tile=round(160 / (factor or 1)))
        difference = np.abs(tiled - whole).max(0)
        border = round(16 / (factor or 1))
        worst.append((difference.max(), difference[-border:].max(), difference[:, -border:].max(), difference.mean()))
    assert all(off < 2 * on + 0.01 for on, off in zip(*worst, strict=True)), worst
    assert max(worst[0]) < 0.15, worst


@pytest.mark.parametrize("factor", [None, 0.3, 0.7, 1.5])
def test_what_a_pixel_alone_decides_is_the_same_in_tiles_at_any_factor(factor):
    image = photograph(211, 307)
    predictor = Predictor(nn.Conv2d(3, 3, 1), **FACTS, precision="fp32", resize=factor)
    for options, most, mean in (
        ({}, 2e-3, 1e-5),
        ({"flips": "both"}, 2e-3, 1e-5),
        ({"scales": (0.75, 1.25)}, 0.1, 5e-3),
    ):
        whole = predictor.probabilities(image, **options, tile=0)
        tiled = predictor.probabilities(image, **options, tile=64)
        inner = np.abs(tiled - whole)[:, 8:-8, 8:-8]  # beside the last pixel of a tile nothing is interpolated
        assert inner.max() < most
        assert inner.mean() < mean


def test_an_image_too_large_to_be_scored_is_resized_part_by_part(monkeypatch):
    image = photograph(300, 260)
    predictor = Predictor(unet(), **FACTS, precision="fp32", resize=0.7)
    expected = predictor.probabilities(image, tile=64)
    monkeypatch.setattr("segkit.inference.sliding_window.MAX_PIXELS", 1000)
    with Largest() as largest:
        found = predictor.probabilities(image, tile=64)
    assert np.array_equal(found, expected)
    assert largest.bytes < found.nbytes / 2


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returned."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return result


def test_no_more_than_the_strip_is_ever_allocated():
    image = photograph(3000, 320)
    predictor = Predictor(nn.Conv2d(3, 3, 1), **FACTS, precision="fp32")
    with Largest() as largest:
        predictor.predict(image, tile=64)
    assert largest.bytes <= max(4 * 3 * 64 * 320, image.nbytes)
    logits = 4 * 3 * 3000 * 320
    assert largest.bytes < logits / 3


def test_a_network_of_one_size_is_enlarged_in_bands(monkeypatch):
    """Of a large image of which the network sees 40 x 30 pixels, logits at its own size are never held either."""
    image = photograph(333, 257)
    whole = Predictor(nn.Conv2d(3, 3, 1), **FACTS, precision="fp32", resize=[40, 30])
    expected, labels = whole.probabilities(image), whole.predict(image)
    monkeypatch.setattr(sliding_window, "MAX_WHOLE_PIXELS", 1000)
    monkeypatch.setattr(sliding_window, "PATCH_ROWS", 10)
    np.testing.assert_allclose(whole.probabilities(image), expected, atol=1e-5)
    assert (whole.predict(image) == labels).mean() > 0.9999
    with Largest() as largest:
        whole.predict(image)
    assert largest.bytes <= max(image.nbytes, 4 * 3 * 257 * 10)
    views = {"flips": "horizontal", "scales": (0.5, 1.0)}
    monkeypatch.undo()
    averaged = whole.probabilities(image, **views)
    monkeypatch.setattr(sliding_window, "MAX_WHOLE_PIXELS", 1000)
    assert np.abs(whole.probabilities(image, **views) - averaged).mean() < 0.02


def test_of_equal_classes_the_first_is_predicted():
    values = torch.randint(0, 3, (4, 20, 30), generator=torch.Generator().manual_seed(0)).float()  # with many ties

    class Tied(nn.Module):
        def forward(self, images):
            return values[None]

    predictor = Predictor(Tied(), **{**FACTS, "classes": "abcd", "palette": ((0, 0, 0),) * 4}, precision="fp32")
    assert np.array_equal(predictor.predict(photograph(20, 30)), values.numpy().argmax(0))
    values[1, 0, 0] = torch.nan
    with pytest.raises(NotFiniteError):
        predictor.predict(photograph(20, 30))


MEASURE = """
import resource, sys
import numpy as np, torch
from segkit.inference.predictor import Predictor
classes = tuple(map(str, range(21)))
predictor = Predictor(torch.nn.Conv2d(3, 21, 1), classes=classes, palette=((0, 0, 0),) * 21, device="cpu")
predictor.predict(np.zeros((600, 600, 3), np.uint8), tile=512)  # what torch needs at all
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predictor.predict(np.zeros((int(sys.argv[1]), 3000, 3), np.uint8), tile=512)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts in kB as Linux does")
def test_the_memory_of_the_process_grows_by_image_labels_and_strip():
    done = subprocess.run([sys.executable, "-c", MEASURE, "2500"], capture_output=True, text=True, check=True)
    strip, image, labels = 4 * 21 * 512 * 3000, 3 * 2500 * 3000, 2500 * 3000
    assert int(done.stdout) < 1.4 * (strip + image + labels)  # logits of it all are 630 MB
