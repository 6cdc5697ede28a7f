"""Parameters that no gradient can reach are not to be trained, and all others are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import segkit
from segkit.model.encoder import freeze_unused


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.used(image))


class Network(nn.Module):
    def __init__(self, asks_for_values: bool = False) -> None:
        super().__init__()
        self.encoder, self.classifier, self.spare = Encoder(), nn.Conv2d(4, 2, 1), nn.Conv2d(1, 1, 1)
        self.asks_for_values = asks_for_values

    def forward(self, image: Tensor) -> Tensor:
        features = self.encoder(image)
        return self.classifier(features) if not self.asks_for_values or features.mean() > 0 else features


def frozen(network: nn.Module) -> list[str]:
    return [name for name, parameter in network.named_parameters() if not parameter.requires_grad]


def test_what_nothing_depends_on_is_frozen_in_that_part_alone() -> None:
    network = Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    freeze_unused(network, network.encoder, (1, 3, 8, 8))
    assert frozen(network) == ["encoder.head.weight", "encoder.head.bias"]  # `spare` is of another part
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {value.device.type for value in network.state_dict().values()} == {"cpu"}


def test_a_network_that_does_not_run_on_the_meta_device_stays_as_it_is() -> None:
    network = Network(asks_for_values=True)
    freeze_unused(network, network.encoder, (1, 3, 8, 8))
    assert frozen(network) == []
    assert network.training


@pytest.mark.parametrize(
    ("architecture", "encoder", "unused"),
    [
        ("fpn", "efficientnet-b0", ["_conv_head.weight", "_bn1.weight", "_bn1.bias"]),
        ("dpt", "tu-vit_tiny_patch16_224", [f"model.{n}.{p}" for n in ("norm", "head") for p in ("weight", "bias")]),
        ("unet", "resnet18", []),
    ],
)
def test_last_layers_that_smp_has_no_use_for(architecture: str, encoder: str, unused: list[str]) -> None:
    model = segkit.models["smp"](num_classes=2, architecture=architecture, encoder=encoder)
    assert frozen(model) == [f"network.encoder.{name}" for name in unused]
