from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import ModelError
from segkit.model.layers import Upsampling, mirror_pad, pad_to_multiple
from segkit.model.unet import UNet, centre_crop

SIZES = [(1, 1), (1, 37), (16, 16), (33, 70)]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
def test_logits_have_the_size_of_any_image(padding, norm, upsample):
    model = UNet(5, width=2, depth=2, norm=norm, upsample=upsample, padding=padding).eval()
    for height, width in SIZES:
        with torch.inference_mode():
            logits = model(torch.rand(1, 3, height, width))
        assert logits.shape == (1, 5, height, width)
        assert logits.isfinite().all()


@pytest.mark.parametrize("patch_size", [2, 3, 4])
def test_patches_of_any_image(patch_size):
    model = UNet(5, width=2, depth=2, patch_size=patch_size).eval()
    for height, width in SIZES:
        with torch.inference_mode():
            assert model(torch.rand(1, 3, height, width)).shape == (1, 5, height, width)


def test_each_pixel_of_a_patch_has_logits_of_its_own():
    torch.manual_seed(0)
    model = UNet(2, width=8, depth=1, patch_size=2)
    image = torch.rand(4, 3, 16, 16)
    target = torch.zeros(4, 16, 16, dtype=torch.long)
    target[:, ::2, 1::2] = 1  # one pixel of the four
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(model(image).argmax(1), target)


def test_parameters_at_the_defaults_layer_by_layer():
    def convolution(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + 2 * outputs  # 3x3 without bias; scale and shift of the normalisation

    down = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    bottom = [(512, 1024), (1024, 1024)]
    merge = [(1024, 512), (512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    up = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = sum(convolution(i, o) for i, o in down + bottom + merge)
    expected += sum(4 * i * o + o for i, o in up)  # 2x2 with bias
    expected += 64 * 21 + 21

    with torch.device("meta"):
        assert parameters(UNet(21)) == expected == 31_038_933
        # The paper's own network: a bias for each 3x3 convolution instead of a scale and a shift.
        biases = sum(o for _, o in down + bottom + merge)
        assert parameters(UNet(21, norm="none")) == expected - biases
        # Nearest and 1x1 instead of transposed 2x2: a quarter of the upsampling's weights.
        assert parameters(UNet(21, upsample="nearest")) == expected - 3 * sum(i * o for i, o in up)


def test_valid_padding_is_the_papers_arithmetic():
    model = UNet(2, width=1, norm="none", padding="valid").eval()
    with torch.inference_mode():
        assert model.network(torch.zeros(1, 3, 572, 572)).shape == (1, 2, 388, 388)


def test_skips_are_cropped_to_the_papers_sizes(monkeypatch):
    seen = []

    def spy(x: Tensor, height: int, width: int) -> Tensor:
        seen.append((x.shape[-1], width))
        return centre_crop(x, height, width)

    monkeypatch.setattr("segkit.model.unet.centre_crop", spy)
    with torch.inference_mode():
        UNet(2, width=1, norm="none", padding="valid").network(torch.zeros(1, 3, 572, 572))
    assert seen == [(64, 56), (136, 104), (280, 200), (568, 392)]


def test_centre_crop_takes_the_middle():
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(centre_crop(x, 2, 4), x[..., 2:4, 1:5])


def test_valid_tiles_are_seamless():
    """The paper's reason for unpadded convolutions: a tile's logits do not depend on where it was cut."""
    torch.manual_seed(0)
    model = UNet(2, width=2, depth=2, norm="none", padding="valid").eval()
    image = torch.rand(1, 3, 76, 76)
    with torch.inference_mode():
        whole, tile = model.network(image), model.network(image[..., 8:68, 12:72])
    assert whole.shape[-2:] == (36, 36)
    torch.testing.assert_close(tile, whole[..., 8:28, 12:32])


def test_valid_logits_continue_the_image_by_mirroring():
    torch.manual_seed(0)
    model = UNet(2, width=2, depth=2, norm="none", padding="valid").eval()
    image = torch.rand(1, 3, 40, 40)  # 40 - 4 * 3 is a multiple of 4: no surplus
    with torch.inference_mode():
        expected = model.network(F.pad(image, (20, 20, 20, 20), mode="reflect"))
        torch.testing.assert_close(model(image), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (2, 3), (5, 4)])
def test_mirroring_goes_to_and_fro_beyond_the_limit_of_reflect(size):
    image = torch.arange(float(size[0] * size[1])).view(1, 1, *size)
    padded = mirror_pad(image, 7, 8, 9, 10)
    step = image
    for dimension in (-2, -1):  # numpy's reflect mode, spelled out
        length = step.shape[dimension]
        period = [*range(length), *range(length - 2, 0, -1)]
        before, after = (7, 8) if dimension == -2 else (9, 10)
        positions = [period[i % len(period)] for i in range(-before, length + after)]
        step = step.index_select(dimension, torch.tensor(positions))
    assert torch.equal(padded, step)


def test_padding_to_a_multiple_leaves_a_fitting_image_alone():
    image = torch.rand(1, 3, 32, 16)
    assert pad_to_multiple(image, 16) is image
    assert pad_to_multiple(image[..., :17, :1], 16).shape == (1, 3, 32, 16)
    assert pad_to_multiple(image, 16, least=48).shape == (1, 3, 48, 48)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_logits_lie_where_their_pixels_are(padding, monkeypatch):
    """With a network that returns what it sees, less what unpadded convolutions cost at each side."""
    model = UNet(3, width=1, depth=2, padding=padding)
    margin = 20 if padding == "valid" else 0
    monkeypatch.setattr(model, "network", lambda x: centre_crop(x, x.shape[-2] - 2 * margin, x.shape[-1] - 2 * margin))
    image = torch.rand(1, 3, 13, 18)
    assert torch.equal(model(image), image)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_initialisation_keeps_the_scale_through_the_network(patch_size):
    """Without normalisation only He's deviation does it: torch's own leaves logits of 0.006."""
    torch.manual_seed(0)
    model = UNet(8, width=16, norm="none", patch_size=patch_size).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 3, 64, 64))
    assert 0.3 < logits.std(dim=(0, 2, 3)).mean() < 1.5
    weight = model.down[3][2].weight  # 128 -> 128
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_every_parameter_learns(patch_size):
    model = UNet(3, width=2, depth=2, patch_size=patch_size)
    model(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_only_in_training():
    torch.manual_seed(0)
    model = UNet(3, width=4, depth=2, norm="none", dropout=0.5)
    image = torch.rand(1, 3, 16, 16)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_a_convolution_has_a_bias_where_no_normalisation_follows():
    for norm, expected in (("batch", False), ("group", False), ("none", True)):
        first = UNet(3, width=2, depth=1, norm=norm).down[0][0]
        assert (first.bias is not None) is expected


def test_channels_last_stays_channels_last():
    model = UNet(3, width=8, depth=2).eval().to(memory_format=torch.channels_last)
    image = torch.rand(2, 3, 16, 32).contiguous(memory_format=torch.channels_last)
    logits = model(image)
    assert logits.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(logits, model(image.contiguous()))


def test_a_batch_of_one_trains_where_a_channel_has_more_than_one_value():
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="more than 1 value per channel"):  # which a run explains
        UNet(3, width=2)(image)
    UNet(3, width=2)(image.expand(2, -1, -1, -1))
    UNet(3, width=2)(torch.rand(1, 3, 16, 17))
    UNet(3, width=2, depth=3)(image)
    UNet(3, width=2, norm="group")(image)
    UNet(3, width=2).eval()(image)
    UNet(3, width=2, padding="valid")(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 2, "padding": "valid"}, "patch_size = 2 needs padding = 'same'"),
        ({"patch_size": 0}, "patch_size = 0 must be at least 1"),
        ({"norm": "bacth"}, "norm = 'bacth' must be one of 'batch', 'group', 'none'; did you mean 'batch'?"),
        ({"upsample": "bilinear"}, "upsample = 'bilinear' must be one of 'transposed', 'nearest'"),
        ({"padding": "Valid"}, "did you mean 'valid'?"),
        ({"width": 0}, "width = 0 must be at least 1"),
        ({"depth": 0}, "depth = 0 must be from 1 to 10"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and less than 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ModelError) as caught:
        UNet(3, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_exports_with_any_size(padding):
    model = UNet(3, width=2, depth=2, padding=padding).eval()
    image = torch.rand(1, 3, 9, 14)
    program = torch.export.export(model, (image,))
    torch.testing.assert_close(program.module()(image), model(image))


def test_exports_multiples_as_free_sizes():
    model = UNet(3, width=2, depth=2).eval()
    height, width = torch.export.Dim("height", min=2, max=64), torch.export.Dim("width", min=2, max=64)
    shapes = {"image": {2: 4 * height, 3: 4 * width}}
    program = torch.export.export(model, (torch.rand(1, 3, 16, 24),), dynamic_shapes=shapes)
    image = torch.rand(1, 3, 20, 12)
    torch.testing.assert_close(program.module()(image), model(image))


@pytest.mark.parametrize("size", [2, 3])
def test_in_16_bits_on_a_cpu_upsampling_and_its_gradients_are_those_of_a_transposed_convolution(size: int) -> None:
    torch.manual_seed(0)
    layer = Upsampling(16, 11, size)
    image = torch.randn(2, 16, 5, 7).bfloat16().to(memory_format=torch.channels_last)
    towards = torch.randn(2, 11, 5 * size, 7 * size).bfloat16()

    def found(forward: Callable[[Tensor], Tensor], x: Tensor, enabled: bool) -> list[Tensor]:
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = forward(x)
        return [out, *torch.autograd.grad(out, [x, layer.weight, layer.bias], towards.to(out.dtype))]

    exact = found(functools.partial(nn.ConvTranspose2d.forward, layer), image.float(), False)
    for mine, wanted in zip(found(layer, image.clone(), True), exact, strict=True):
        assert (mine - wanted).norm() < 2**-7 * wanted.norm()
