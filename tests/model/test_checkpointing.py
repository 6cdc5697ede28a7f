"""Activation checkpointing: the same gradients and statistics, from less memory."""

from __future__ import annotations

import copy

import torch
from torch.autograd.graph import saved_tensors_hooks

from segkit.model.unet import UNet


def step(model: UNet, images: torch.Tensor) -> int:
    """Forward and backward; the bytes that the forward pass kept for the backward one."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(images).square().mean()
    loss.backward()
    return sum(kept.values())


def test_gradients_and_running_statistics_are_those_without_it() -> None:
    torch.manual_seed(0)
    plain = UNet(3, width=4, depth=2)
    saving = UNet(3, width=4, depth=2, checkpointing=True)
    saving.load_state_dict(copy.deepcopy(plain.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    for model in (plain, saving):
        for _ in range(2):
            step(model, images)
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    assert all(torch.equal(value, saving.state_dict()[key]) for key, value in plain.state_dict().items())
    assert plain.state_dict()["down.0.1.num_batches_tracked"] == 2


def test_less_is_kept_for_the_backward_pass() -> None:
    images = torch.randn(2, 3, 64, 64)
    plain, saving = (step(UNet(3, width=8, depth=2, checkpointing=on), images) for on in (False, True))
    assert saving < 0.5 * plain


def test_an_evaluation_computes_nothing_twice() -> None:
    model = UNet(3, width=4, depth=1, checkpointing=True).eval()
    calls = []
    model.down[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(torch.randn(1, 3, 16, 16))
    assert len(calls) == 1
