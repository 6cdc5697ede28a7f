"""Muon: orthogonal steps inside the network, AdamW's at its ends, nothing where a step is skipped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segkit.engine.optim import build_optimizer
from segkit.model.unet import UNet
from segkit.settings import TrainSettings
from segkit_muon.muon import Muon, hidden_weights, orthogonal

SETTINGS = TrainSettings(optimizer="muon", lr=0.02, weight_decay=0.1)


@pytest.mark.parametrize("shape", [(8, 8), (4, 90), (90, 4), (1, 7)])
def test_singular_values_are_nearly_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * 1e-3
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < values.min() <= values.max() < 1.3
    assert (orthogonal(matrix) * matrix).sum() > 0  # along the gradient, not against it


def test_directions_without_a_gradient_stay_small() -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(90, 30))[0] for _ in range(2))
    values = torch.linalg.svdvals(orthogonal(left @ torch.diag(torch.logspace(0, -6, 30)) @ right.T))
    assert values[0] < 1.3  # rounding makes squares of some of them negative, which must not grow
    assert values[29] < 1e-3


def test_matrices_move_as_in_torchs_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 12), nn.Linear(12, 6, bias=False), nn.Linear(6, 2))
    weight = nn.Parameter(model[1].weight.detach().clone())
    theirs = torch.optim.Muon([weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    ours = build_optimizer(model, SETTINGS, Muon)
    before = weight.detach().clone()
    for _ in range(4):
        gradient = torch.randn_like(weight)
        for each in model.parameters():
            each.grad = torch.zeros_like(each)
        model[1].weight.grad, weight.grad = gradient, gradient.clone()
        ours.step()
        theirs.step()
    moved = weight.detach() - before
    # theirs computes in bfloat16
    assert (model[1].weight.detach() - weight.detach()).norm() < 0.02 * moved.norm()


def test_a_convolution_moves_as_the_matrix_of_its_rows() -> None:
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Linear(2, 2), nn.Linear(18, 4, bias=False), nn.Linear(2, 2))
    convolutions = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 2, 1))
    convolutions = convolutions.to(memory_format=torch.channels_last)
    with torch.no_grad():
        convolutions[1].weight.copy_(flat[1].weight.view(4, 2, 3, 3))
    for model in (flat, convolutions):
        torch.manual_seed(1)
        gradient = torch.randn(4, 18)
        model[1].weight.grad = gradient.view(model[1].weight.shape)
        build_optimizer(model, SETTINGS, Muon).step()
    torch.testing.assert_close(convolutions[1].weight.flatten(1), flat[1].weight)


def test_the_ends_and_whatever_is_no_matrix_are_left_to_adamw() -> None:
    model = UNet(5, width=2, depth=2, patch_size=2)
    found = {id(p) for p in hidden_weights(model)}
    names = {name for name, p in model.named_parameters() if id(p) in found}
    assert {"stem.0.weight", "classifier.weight"}.isdisjoint(names)
    assert names == {n for n, p in model.named_parameters() if p.ndim == 4} - {"stem.0.weight", "classifier.weight"}
    depthwise = nn.Conv2d(4, 4, 3, groups=4)
    assert hidden_weights(nn.Sequential(nn.Conv2d(3, 4, 1), depthwise, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))) != []
    assert all(p is not depthwise.weight for p in hidden_weights(nn.Sequential(nn.Linear(1, 1), depthwise, depthwise)))


def test_a_kernel_that_two_layers_share_moves_once_and_an_end_that_is_shared_is_an_end() -> None:
    layers = [nn.Linear(4, 4, bias=False) for _ in range(4)]
    layers[2].weight = layers[1].weight
    assert [id(p) for p in hidden_weights(nn.Sequential(*layers))] == [id(layers[1].weight)]
    layers[3].weight = layers[1].weight
    assert hidden_weights(nn.Sequential(*layers)) == []


def test_every_weight_is_in_one_group_and_moves() -> None:
    model = UNet(3, width=2, depth=2)
    optimizer = build_optimizer(model, SETTINGS, Muon)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.rand(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(p.grad is not None for p in model.parameters())


def test_a_step_that_is_skipped_changes_neither_weights_nor_state() -> None:
    model = UNet(3, width=2, depth=1)
    optimizer = build_optimizer(model, SETTINGS, Muon)
    for bad in (1.0, 0.0, 1.0):  # the first one too, which makes the state
        weights = [p.detach().clone() for p in model.parameters()]
        states = [state["momentum_buffer"].clone() for state in optimizer.state.values() if "momentum_buffer" in state]
        model(torch.rand(2, 3, 16, 16)).square().sum().backward()
        if bad:
            for p in model.parameters():
                assert p.grad is not None
                p.grad.fill_(torch.nan)
        optimizer.found_inf = torch.tensor(bad)  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad()
        same = [torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True)]
        assert all(same) if bad else not any(same)
        assert all(p.isfinite().all() for p in model.parameters())
        kept = [state["momentum_buffer"] for state in optimizer.state.values() if "momentum_buffer" in state]
        if bad and states:
            assert all(torch.equal(old, new) for old, new in zip(states, kept, strict=True))
