"""Every rule of models is broken by a model in exactly one way, and kept by all that segkit brings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import segkit
from segkit.testing import Check, checks

SMALL: dict[str, list[dict[str, Any]]] = {  # a model that is not here is asked with its defaults
    "unet": [
        {"width": 4},
        {"width": 2, "depth": 2, "padding": "valid", "norm": "none", "dropout": 0.5, "upsample": "nearest"},
        {"width": 16, "depth": 2, "norm": "group"},
    ],
    "smp": [
        {"encoder": "tu-resnet10t"},
        {"architecture": "fpn", "encoder": "mobilenet_v2"},
        {"encoder": "resnet34"},  # deep, so that a part of the image reaches far
        {"architecture": "segformer", "encoder": "mit_b0"},
        {"architecture": "fpn", "encoder": "efficientnet-b0"},  # with layers that smp has no use for
    ],
}
BUNDLED = [component.name for component in segkit.models.components() if component.distribution == "segkit"]


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{number}-{check}", marks=[pytest.mark.slow] * (number > 0))
        for name in BUNDLED
        for number, options in enumerate(SMALL.get(name, [{}]))
        for check in checks("model", name, options)
    ],
)
def test_bundled_models_keep_every_rule(check: Check) -> None:
    check()


def test_layers_that_an_encoder_has_for_nothing_are_no_parameters_to_train():
    """pspnet uses the first half of a ResNet, and smp keeps the other one."""
    options = {"architecture": "pspnet", "encoder": "resnet18"}
    (check,) = [each for each in checks("model", "smp", options) if each.name == "every_parameter_learns"]
    check()


class Good(nn.Module):
    """As small as a model can be that keeps every rule."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)
        )
        self.classifier = nn.Conv2d(8, num_classes, 1)

    def forward(self, image: Tensor) -> Any:
        return self.classifier(self.features(image))


class AnyOption(Good):
    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, options.get("in_channels", 3))


class Whole(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).mul(0).to(torch.int16)


class Divided(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) / 0


class Halved(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[..., ::2, ::2]


class Named(Good):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(image)}


class OfTorchvisionsForm(Good):
    """Nothing is wrong with it."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": super().forward(image), "aux": image}


class EvenOnly(Good):
    def forward(self, image: Tensor) -> Tensor:
        return F.interpolate(super().forward(F.max_pool2d(image, 2)), scale_factor=2)


class LogOfWidth(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) / np.log(image.shape[-1])


class Auxiliary(Good):
    def forward(self, image: Tensor) -> Any:
        out = super().forward(image)
        return (out, out) if self.training else out


class Classes21(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(21, in_channels)


class TwoAtLeast(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(max(2, num_classes), in_channels)


class Rgb(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes)


class InstanceNormalised(Good):
    """torch's instance normalisation wants more than one pixel."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.features[1] = nn.InstanceNorm2d(8, affine=True)


class LayersLeftOut(Good):
    """Stochastic depth: nothing is wrong with it."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(6))

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        for block in self.blocks:
            kept = (torch.rand(len(image), 1, 1, 1, device=image.device) > 0.3) / 0.7 if self.training else 1.0
            features = features + kept * block(features).relu()
        return self.classifier(features)


class Softmax(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).softmax(1)


class Sigmoid(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).sigmoid()


class Unused(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.head = nn.Conv2d(8, 8, 1)


class NoWay(Unused):
    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        return self.classifier(features + 0 * self.head(features))


class Detached(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).detach()


class Steep(Good):
    def forward(self, image: Tensor) -> Tensor:
        out = super().forward(image)
        return out + (out - out).abs().sqrt()  # 0, with a slope that is not finite


class AlwaysDropout(Good):
    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image) * F.dropout(torch.ones(8, 1, 1, device=image.device)))


class BatchStatistics(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.features[1] = nn.BatchNorm2d(8, track_running_stats=False)


class InPlace(Good):
    def forward(self, image: Tensor) -> Tensor:
        image -= 0.5
        return super().forward(image)


class InPlaceInTraining(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.mul_(1.1) if self.training else image)


class Numpy(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        start = np.random.default_rng().normal(size=self.classifier.weight.shape)
        self.classifier.weight = nn.Parameter(torch.from_numpy(start).float())


class NumpyBuffer(Good):
    """Is not trained, and the logits depend on it all the same."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        drawn = np.random.default_rng().normal(size=(num_classes, 1, 1))
        self.register_buffer("scale", torch.from_numpy(drawn).float())

    def forward(self, image: Tensor) -> Tensor:
        return self.scale * super().forward(image)


class Remembered(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.factor = 1 + torch.rand(()).item()

    def forward(self, image: Tensor) -> Tensor:
        return self.factor * super().forward(image)


class Forgotten(Good):
    """What it learns in training is not kept."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.register_buffer("steps", torch.ones(()), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.steps * super().forward(image)


class Extra(Good):
    def get_extra_state(self) -> object:
        return np.random.default_rng(0)

    def set_extra_state(self, state: object) -> None:
        pass


class WithFunction(Good):
    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.activation = lambda x: x


class NoDeepCopy(Good):
    """Keeps a tensor that was computed from its weights."""

    def forward(self, image: Tensor) -> Tensor:
        if self.training:
            with torch.enable_grad():
                self.kept = self.classifier.weight * 2
        return super().forward(image)


class OwnDevice(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image + torch.linspace(0, 1, image.shape[-1]))


class ToCpu(Good):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).cpu()


class LargeNumbers(Good):
    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image) + 100) - 100 * self.classifier.weight.sum(1).view(1, -1, 1, 1)


class Overflow(Good):
    def forward(self, image: Tensor) -> Tensor:
        out = super().forward(image)
        return out * float("inf") if out.dtype == torch.bfloat16 else out


class Views(Good):
    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        return self.classifier(features.view(len(features), -1).view(features.shape))


class MemoryOrder(Good):
    """Reads its memory as if it were in the usual order."""

    def forward(self, image: Tensor) -> Tensor:
        _, channels, height, width = image.shape
        usual = (channels * height * width, height * width, width, 1)
        return super().forward(image.as_strided(image.shape, usual))


class Branch(Good):
    def forward(self, image: Tensor) -> Tensor:
        out = super().forward(image)
        return out if out.mean() < 100 else out / 2


class Constant(Good):
    """Its graph holds what was computed for the first image."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) * (1 + float(torch.compiler.is_exporting()))


EVERY_ONE_THAT_RUNS_IT = "every one that runs it"


class NoSelf(Good):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Mirrored(Good):
    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).flip(-1))


class Averaged(Good):
    """Of the whole image, and the same everywhere."""

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image)
        return self.classifier(features.mean((2, 3), keepdim=True).expand_as(features))


class FirstThree(Good):
    """What a pretrained encoder has no weights for is left out."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__(num_classes, min(3, in_channels))

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image[:, :3])


class OneForAll(Good):
    def forward(self, image: Tensor) -> Tensor:
        out = super().forward(image)
        return out.mean(1, keepdim=True).expand_as(out)


class UsualLayout(Good):
    """Every convolution is given the usual order, whatever a run asks for."""

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image.contiguous()).contiguous())


BROKEN: list[tuple[type[nn.Module], Any, str]] = [
    (UsualLayout, {"channels_last"}, "2 of 2 convolutions do not get channels_last; is there"),
    (NoSelf, {"logits"}, r"eval\(\) must return the model itself, as torch's modules do"),
    (FirstThree, {"logits"}, "for images of 12 channels the last one does not affect the logits: is it left out"),
    (OneForAll, {"no_probabilities"}, "all classes have the same logits, whatever the weights"),
    (Mirrored, {"looks_at_the_place"}, "moved most in only 0 of 4 cases: is there a reshape"),
    (Averaged, {"looks_at_the_place"}, "moved most in only 1 of 4 cases: is there a reshape"),
    (
        Whole,
        EVERY_ONE_THAT_RUNS_IT,
        r"the model returned int16 \[2, 7, 64, 64\] for 2 images of 64 x 64 and 7 classes; it must return logits, fl",
    ),
    (
        Divided,
        {"logits", "any_size", "every_parameter_learns", "bf16_autocast", "looks_at_the_place"},
        "100.0% of the logits of an untrained model are not finite",
    ),
    (
        Halved,
        EVERY_ONE_THAT_RUNS_IT,
        r"returned float32 \[2, 7, 32, 32\] for 2 images of 64 x 64 and 7 classes; .* floats \[2, 7, 64, 64\], at",
    ),
    (
        Named,
        EVERY_ONE_THAT_RUNS_IT,
        r"images \[2, 3, 64, 64\] in evaluation: the model returned dict; it must return logits, a tensor \[B,C,H,W\]",
    ),
    (EvenOnly, {"any_size"}, r"returned float32 \[1, 7, 64, 62\] for 1 images of 65 x 63; "),
    (LogOfWidth, {"any_size"}, "100.0% of the logits of images of 1 x 1 are not finite"),
    (
        Auxiliary,
        {"any_size", "state_dict", "copies", "looks_at_the_place"},
        r"images \[2, 3, 64, 64\] in training: the model returned tuple",
    ),
    (Classes21, {"logits"}, r"\[2, 21, 64, 64\] for 2 images of 64 x 64 and 7 classes;"),
    (TwoAtLeast, {"logits"}, r"\[2, 2, 64, 64\] for 2 images of 64 x 64 and 1 classes;"),
    (Rgb, {"logits"}, r"images \[1, 1, 64, 64\] in evaluation: RuntimeError: .* 3 channels, but got 1"),
    (
        InstanceNormalised,
        {"any_size"},
        "more than 1 spatial element .*The rule: .*pad images and crop logits",
    ),
    (Softmax, {"no_probabilities"}, r"all outputs are in 0..1 \(.*\), .*: softmax or sigmoid belong"),
    (Sigmoid, {"no_probabilities"}, "all outputs are in 0..1"),
    (Unused, {"every_parameter_learns"}, "2 of 8 parameters get no gradient: head.weight, head.bias. The rule"),
    (NoWay, {"every_parameter_learns"}, "1 of 8 parameters get no gradient: head.weight. The rule"),
    (Detached, {"every_parameter_learns"}, "the logits depend on no parameter"),
    (Steep, {"every_parameter_learns"}, "the gradients of 6 of 6 parameters are not finite: features.0.weight"),
    (AlwaysDropout, {"deterministic"}, "the same images passed twice in evaluation"),
    (
        BatchStatistics,
        {"deterministic", "any_size"},
        "an image in a batch of three and alone: differs by up",
    ),
    (InPlace, {"input_unchanged"}, "forward modified its input, in evaluation"),
    (InPlaceInTraining, {"input_unchanged"}, "forward modified its input, in training"),
    (Numpy, {"deterministic"}, "two models of the same seed: classifier.weight differs"),
    (NumpyBuffer, {"deterministic"}, "two models of the same seed: scale differs"),
    (Remembered, {"state_dict"}, "a model and a new one with its state_dict: .* largest number. The rule"),
    (Forgotten, {"state_dict"}, "a model and a new one with its state_dict: differs by up to 0.5"),
    (Extra, {"state_dict"}, r"its state_dict cannot be loaded into a new instance \(.*weights_only"),
    (WithFunction, {"copies"}, "no pickled copy can be made: .*lambda"),
    (NoDeepCopy, {"copies"}, "no deep copy can be made: RuntimeError"),
    (OwnDevice, {"no_fixed_device"}, "not on one device, .*: Tensor on device cpu is not on the expected"),
    (ToCpu, {"no_fixed_device"}, "Cannot copy out of meta tensor"),
    (LargeNumbers, {"bf16_autocast"}, r"under bfloat16 autocast the logits are off by \d+% on average"),
    (Overflow, {"bf16_autocast"}, "of the logits under bfloat16 autocast are not finite"),
    (Views, {"channels_last"}, r"in evaluation: RuntimeError: view size is not compatible"),
    (MemoryOrder, {"channels_last"}, "the same images in channels_last and in the usual order: differs"),
    (Branch, {"exportable"}, "torch.export cannot follow forward: .*: forward may branch on shapes, but not on values"),
    (Constant, {"exportable"}, "the exported graph and the model: differs by up to 1 of the largest"),
]


def failures(target: Callable[..., Any], rules: Collection[str] = ()) -> dict[str, str]:
    """Why it breaks the rules that are named, or any, by the rule's name."""
    answers = {check.name: check.ask() for check in checks("model", target) if not rules or check.name in rules}
    return {name: answer.why for name, answer in answers.items() if answer.state == "FAILED"}


@pytest.mark.parametrize("target", [Good, LayersLeftOut, AnyOption, OfTorchvisionsForm])
def test_the_smallest_models_keep_every_rule(target):
    assert failures(target) == {}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["this rule", "every rule"])
@pytest.mark.parametrize(("target", "broken", "message"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
def test_each_fault_is_found_and_nothing_else(target, broken, message, every):
    if broken == EVERY_ONE_THAT_RUNS_IT:
        broken = {check.name for check in checks("model", target)} - {"input_unchanged"}
    found = failures(target, () if every else broken)
    assert set(found) == broken
    assert any(re.search(message, text) for text in found.values()), found


def test_every_rule_has_a_model_that_breaks_it():
    proven = {name for _, broken, _ in BROKEN if broken != EVERY_ONE_THAT_RUNS_IT for name in broken}
    assert {check.name for check in checks("model", Good)} == proven


def test_what_is_no_rule():
    """Frozen parameters, scales that begin with 0, work in place on its own, numbers and positions on the CPU."""

    class Legal(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.frozen = nn.Conv2d(3, 4, 1).requires_grad_(False)
            self.norm = nn.BatchNorm2d(4)
            self.classifier = nn.Conv2d(4, num_classes, 1)
            nn.init.zeros_(self.norm.weight)
            nn.init.zeros_(self.classifier.weight)

        def forward(self, image: Tensor) -> Tensor:
            image = image[:, torch.tensor([2, 1, 0])] * torch.tensor(2.0)  # CUDA takes both from the CPU
            out: Tensor = self.classifier(self.norm(self.frozen(image).relu_()))
            return out

    found = failures(Legal)
    assert set(found) == {"copies"}  # as a class of this function it cannot be pickled
    assert "no pickled copy can be made" in found["copies"]


def test_random_numbers_of_others_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    failures(Good)
    assert torch.equal(torch.rand(3), expected)
