"""Transforms of plugins: they come after ``[augment]``, and their chance depends on seed, epoch and sample alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import segkit
from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, batch_loader
from segkit.data.sample import Dataset, Sample
from segkit.errors import ConfigError, DataError
from segkit.registry import REGISTRIES, Component
from segkit.settings import AugmentSettings

CPU = torch.device("cpu")


class Noise:
    """Adds one number to an image.

    Args:
        most: the largest.
    """

    def __init__(self, most: int = 9) -> None:
        self.most = most

    def __call__(self, image: Tensor, mask: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        return image + int(random.integers(1, self.most)), mask


class Flat:
    """Returns an image without channels."""

    def __call__(self, image: Tensor, mask: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        return image[0], mask


class Plain(Dataset):
    """Images of 0."""

    classes, palette = ("a", "b"), ((0, 0, 0), (9, 9, 9))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int, /) -> Sample:
        if index >= len(self):
            raise IndexError(index)
        return Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((8, 8), index % 2).byte(), f"{index}")


def drawn(workers: int, epoch: int, *transforms: Any) -> dict[str, list[int]]:
    """Of each sample what the transforms have added."""
    transform = RandomTransform(AugmentSettings(), 5, transforms=transforms)
    sampler = TrainBatchSampler(8, 4, seed=5)
    sampler.epoch = epoch
    loader = batch_loader(SampleSource(Plain()), sampler, transform, workers=workers, device=CPU)
    return {
        name: image.unique().tolist() for batch in loader for name, image in zip(batch.names, batch.image, strict=True)
    }


def test_chance_depends_on_the_epoch_and_the_sample_and_not_on_workers() -> None:
    first = drawn(0, 1, Noise(200))
    assert all(len(added) == 1 for added in first.values())
    assert len({added[0] for added in first.values()}) > 5
    assert drawn(0, 1, Noise(200)) == first
    assert drawn(2, 1, Noise(200)) == first
    assert drawn(0, 2, Noise(200)) != first
    twice = drawn(0, 1, Noise(100), Noise(100))  # each has a generator of its own
    assert {name: [added[0] * 2] for name, added in drawn(0, 1, Noise(100)).items()} != twice


def test_what_breaks_the_contract_is_refused() -> None:
    with pytest.raises(DataError, match=r"its image or mask has a wrong type or shape \(torch.uint8 \[8, 8\] and"):
        drawn(0, 1, Flat())


def test_a_config_names_them_and_fit_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Component("transform", "noise", f"{__name__}:Noise", "mine", "segkit-mine", "1")
    monkeypatch.setattr(
        type(REGISTRIES["transform"]), "components", lambda self: [own] if self.kind == "transform" else before(self)
    )
    monkeypatch.setattr(Component, "load", lambda self: Noise if self is own else load(self))
    tables: dict[str, Any] = {
        "dataset": {"name": "shapes", "images": [4, 2, 2], "size": 32},
        "model": {"name": "unet", "width": 2, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
        "transform": [{"name": "noise", "most": 200}],
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu", "precision": "fp32"},
        "output": {"dir": str(tmp_path / "run"), "samples": 0},
    }
    noisy = segkit.run(tables)
    assert segkit.read_run(tmp_path / "run").config["transform"] == [{"name": "noise", "most": 200}]
    with pytest.raises(ConfigError, match=r"transform.0.*mots: .*; did you mean 'most'"):
        segkit.run({**tables, "transform": [{"name": "noise", "mots": 3}]}, overwrite=True)
    del tables["transform"]
    plain = segkit.run(tables, overwrite=True)
    assert plain.splits["train"]["loss"] != noisy.splits["train"]["loss"]
    assert "transform" not in segkit.read_run(tmp_path / "run").config


before, load = type(REGISTRIES["transform"]).components, Component.load
