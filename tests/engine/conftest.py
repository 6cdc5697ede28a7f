"""A dataset and a model that learn within a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segkit.data.sample import Dataset, Sample, check_splits
from segkit.data.scan import Scan, scan_splits
from segkit.engine.criterion import Criterion
from segkit.engine.inputs import TrainerInputs
from segkit.registry import optimizers
from segkit.settings import AugmentSettings, DataSettings, TrainSettings


class Halves(Dataset):
    """Images of a dark and a bright part, with a void seam between: brightness is the class, dark is more often."""

    classes = ("dark", "bright")
    palette = ((0, 0, 0), (255, 255, 255))
    ignore_index = 255

    def __init__(self, count: int = 8, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(self.first + index)
        mask = torch.zeros(12, 16, dtype=torch.uint8)
        mask[:, 10 + (self.first + index) % 3 :] = 1
        noise = torch.randint(0, 60, (3, 12, 16), generator=generator)
        image = (noise + 150 * mask).to(torch.uint8)
        mask[:, 9] = 255
        return Sample(image, mask, f"halves-{self.first + index}")


class TinyNet(nn.Module):
    """A 1x1 convolution between two BatchNorms, with dropout: everything a checkpoint has to hold."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(4, num_classes, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    pixels = logits.permute(0, 2, 3, 1).flatten(0, 2).float()  # that of images does not repeat itself on CUDA
    return nn.functional.cross_entropy(pixels, target.flatten().long(), ignore_index=255)


@pytest.fixture
def halves() -> type[Halves]:
    return Halves


@pytest.fixture
def tiny_net() -> type[TinyNet]:
    return TinyNet


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., TrainerInputs]:
    """A job on the tiny dataset; keywords go to ``[train]``, others by ``fields``."""

    def scanned(splits: dict[str, Dataset], data: DataSettings | None) -> Scan:
        check_splits(splits)
        return scan_splits(splits, data, progress=False).refuse_errors()

    def make(folder: str = "run", fields: dict[str, Any] | None = None, **train: Any) -> TrainerInputs:
        torch.manual_seed(0)
        given, splits = dict(fields or {}), {"train": Halves(8), "val": Halves(4, 100), "test": Halves(4, 200)}
        chosen = {"epochs": 3, "batch_size": 4, "lr": 0.05, "precision": "fp32", "device": "cpu", **train}
        job = TrainerInputs(
            model=TinyNet(),
            criterion=Criterion([("cross_entropy", 1.0, cross_entropy)]),
            scan=scanned(given.pop("splits", splits), given.get("data")),
            folder=tmp_path / folder,
            train=TrainSettings.model_validate(chosen),
            augment=AugmentSettings(crop=8),
            model_record={"model": None},
            optimizer=optimizers[chosen.get("optimizer", "adamw")],
        )
        return replace(job, **given)

    return make
