"""Every rule of transforms is broken by one that breaks it, and kept by those that are sound."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import segkit
from segkit.testing import Check, checks


def failures(asked: list[Check]) -> dict[str, str]:
    """The checks that fail, with their messages."""
    answers = {check.name: check.ask() for check in asked}
    return {name: answer.why for name, answer in answers.items() if answer.state == "FAILED"}


class Sound:
    """Noise, a flip, and a crop of another size: nothing is wrong with it."""

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = strength

    def __call__(self, image: Any, mask: Any, random: Any) -> Any:
        noise = torch.from_numpy(random.normal(1, self.strength, image.shape[1:]))
        seen = (image * noise).clamp(0, 255).to(image.dtype)
        if random.random() < 0.5:
            seen, mask = seen.flip(-1), mask.flip(-1)
        top = int(random.integers(0, 4))
        return seen[:, top:], mask[top:]


class FewPixels(Sound):
    def __call__(self, image: Any, mask: Any, random: Any) -> Any:
        top, left = random.integers(0, 34, 2)
        return image[:, top : top + 6, left : left + 6], mask[top : top + 6, left : left + 6]


class Changed(Sound):
    def __call__(self, image: Any, mask: Any, random: Any) -> Any:
        return self.change(*super().__call__(image, mask, random))

    def change(self, image: Tensor, mask: Tensor) -> Any:
        raise NotImplementedError


class ImageAlone(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return image


class BecomesFloat(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return image / 1, mask


class MaskStays(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return image[:, :, 1:], mask


class LongMask(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return image, mask.long()


class DropsAChannel(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return image[:2], mask


class Interpolates(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        small = torch.nn.functional.interpolate(mask[None, None].float(), scale_factor=0.7, mode="bilinear")
        larger = torch.nn.functional.interpolate(small, mask.shape, mode="bilinear")
        return image, larger[0, 0].byte()


class OwnChance(Changed):
    def change(self, image: Tensor, mask: Tensor) -> Any:
        return (image if torch.rand(()) < 0.5 else image.flip(-2)), mask


class TwoChances(Sound):
    def __call__(self, image: Any, mask: Any, random: Any) -> Any:
        image, mask = super().__call__(image, mask, random)
        return tuple(each.flip(-1) if random.random() < 0.5 else each for each in (image, mask))


class Counts(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __call__(self, image: Any, mask: Any, random: Any) -> Any:
        self.asked += 1
        image, mask = super().__call__(image, mask, random)
        return image.roll(self.asked, -1), mask


class HoldsAFunction(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.keep = lambda image: image


class ForgetsInAPickle(Sound):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.strength = 0.5


BROKEN_TRANSFORMS: list[tuple[type, set[str], str]] = [
    (ImageAlone, {"results", "mask_follows_image", "same_for_the_same_generator", "copies"}, "returned a Tensor"),
    (BecomesFloat, {"results"}, r"torch\.uint8 \[3,40,56\] became torch\.float32 .*; dtype and channels must"),
    (MaskStays, {"results", "mask_follows_image"}, r"its mask torch\.uint8 \[\d+, 56\]; it must be uint8 \[\d+, 55\]"),
    (LongMask, {"results"}, r"its mask torch\.int64"),
    (DropsAChannel, {"results"}, r"became torch\.uint8 \[2, "),
    (
        Interpolates,
        {"results"},
        r"from the labels \(0, 1, 2, 3, 255\) it made .*; resize and rotate masks by the nearest",
    ),
    (
        OwnChance,
        {"same_for_the_same_generator", "mask_follows_image"},
        r"with numpy\.random\.default_rng\(\d\): image differs by up to",
    ),
    (TwoChances, {"mask_follows_image"}, r"labels explain \d+% of the image.s variance, before it 96 %: draw"),
    (Counts, {"same_for_the_same_generator", "mask_follows_image"}, r"called twice .*: image differs by up to"),
    (HoldsAFunction, {"copies"}, "no pickled copy can be made: .*lambda"),
    (ForgetsInAPickle, {"copies"}, "a pickled copy: image differs by up to"),
]


@pytest.mark.parametrize(
    ("transform", "broken", "message"), BROKEN_TRANSFORMS, ids=lambda it: getattr(it, "__name__", "")
)
def test_a_broken_transform_fails_just_there(transform: type, broken: set[str], message: str) -> None:
    torch.manual_seed(0)
    found = failures(checks("transform", transform))
    assert found.keys() == broken | (found.keys() & {"copies"} if transform is OwnChance else set())
    assert any(re.search(message, why) for why in found.values()), found


def test_a_sound_transform_keeps_every_rule_and_every_rule_is_seen_to_fail() -> None:
    asked = checks("transform", Sound, {"strength": 0.2})
    assert failures(asked) == failures(checks("transform", FewPixels)) == {}
    assert {name for _, broken, _ in BROKEN_TRANSFORMS for name in broken} == {check.name for check in asked}
    with pytest.raises(segkit.errors.ConfigError, match=r"Sound\.strenth: Sound has no such key; did you mean"):
        checks("transform", Sound, {"strenth": 0.2})
