"""What the losses hold beside the logits: their gradient, and little else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import segkit
from segkit.engine.criterion import Criterion
from segkit_losses import softmax

CASES = [("cross_entropy",), ("dice",), ("focal",), ("tversky",), ("dice_cross_entropy",)]


def held(names: tuple[str, ...], dtype: torch.dtype, classes: int = 19) -> float:
    """The most bytes at a time beyond the logits in forward and backward, as a multiple of the logits' own."""
    criterion = Criterion([(name, 1.0, segkit.losses[name](classes, ignore_index=255)) for name in names])
    logits = torch.randn(2, classes, 256, 512).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    target = torch.randint(0, classes, (2, 256, 512), dtype=torch.uint8)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        criterion(logits, target)[0].backward()
    now = most = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most / (logits.numel() * logits.element_size())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same proportion to the batch as at 8 x 19 x 512 x 1024."""
    monkeypatch.setattr(softmax, "CPU_BLOCK", softmax.CPU_BLOCK // 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("names", CASES, ids="+".join)
def test_no_more_than_twice_the_logits(names: tuple[str, ...], dtype: torch.dtype) -> None:
    assert 1 < held(names, dtype) <= 2


def test_two_losses_hold_a_gradient_each() -> None:
    assert 2 < held(("cross_entropy", "dice"), torch.float32) <= 3  # dice_cross_entropy, which is one, holds half


def test_few_classes_hold_no_more() -> None:
    assert 1 < held(("dice_cross_entropy",), torch.bfloat16, classes=11) <= 2.5  # a block is a larger share of it


def test_what_keeps_a_softmax_holds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(nn.Module):
        def __init__(self, num_classes: int, ignore_index: int) -> None:
            super().__init__()

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(logits.float(), target.long())

    monkeypatch.setattr(type(segkit.losses), "__getitem__", lambda registry, name: Plain)
    assert held(("plain",), torch.bfloat16) > 4
