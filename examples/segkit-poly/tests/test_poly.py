"""The loss ``poly`` keeps every rule of its contract, and is what the paper writes; install the package first."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import segkit
from segkit.testing import Check, checks


@pytest.mark.parametrize("check", checks("loss", "poly"), ids=str)
def test_poly(check: Check) -> None:
    check()


def test_a_pixel_worked_out_by_hand() -> None:
    loss = segkit.losses["poly"](num_classes=2, epsilon=3.0)
    logits = torch.log(torch.tensor([0.8, 0.2])).view(1, 2, 1, 1)  # the softmax of these is 0.8 and 0.2
    assert float(loss(logits, torch.tensor([[[0]]]))) == pytest.approx(-math.log(0.8) + 3 * 0.2)


def test_an_epsilon_of_0_is_cross_entropy_with_its_weights_and_void() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 5, 7))
    target[:, :2] = 255
    loss = segkit.losses["poly"](num_classes=3, epsilon=0.0, class_weights=[1.0, 2.0, 5.0])
    expected = F.cross_entropy(logits, target, torch.tensor([1.0, 2.0, 5.0]), ignore_index=255)
    assert float(loss(logits, target)) == pytest.approx(float(expected), rel=1e-5)


def test_weights_count_for_the_added_term_as_well() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.5, 0.5]])).T.reshape(1, 2, 1, 2)  # two pixels
    loss = segkit.losses["poly"](num_classes=2, epsilon=1.0, class_weights=[1.0, 3.0])
    costs = -math.log(0.8) + 0.2, -math.log(0.5) + 0.5
    assert float(loss(logits, torch.tensor([[[0, 1]]]))) == pytest.approx((costs[0] + 3 * costs[1]) / 4)


def test_what_would_reward_mistakes_is_refused() -> None:
    with pytest.raises(segkit.SegkitError, match=r"epsilon = -1\.5; allowed are finite numbers of -1 or more"):
        segkit.losses["poly"](num_classes=2, epsilon=-1.5)
    with pytest.raises(segkit.SegkitError, match="class_weights has 3 numbers for 2 classes; give one a class"):
        segkit.losses["poly"](num_classes=2, class_weights=[1.0, 2.0, 3.0])
