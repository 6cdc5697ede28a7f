"""What all contestants do: the model, the pictures, the settings. They differ in how."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# CamVid's
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
STORED_VOID = 11
VOID = 255  # as the networks' losses see it: outside of any number of classes
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of images scaled to 0..1
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        root: holds images/{train,val} and masks/{train,val}.
        folder: where a contestant may write.
        model: see :func:`build_model`.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
        batch: images a step; an incomplete last batch is left out in training.
        crop: height and width, pixels.
        epochs: passes over train, each followed by one over val.
        workers: processes that load data.
        lr: where the cosine to 0 begins; the optimizer is Adam without weight decay.
        cache: segkit's ``data.cache``; empty leaves it at its default.
        graph: whether the network is compiled with CUDA graphs, the mode "reduce-overhead".
    """

    root: Path
    folder: Path
    model: str
    device: str
    precision: str
    batch: int
    crop: tuple[int, int]
    epochs: int
    workers: int
    lr: float
    cache: str = ""
    graph: bool = False

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """The image and the mask of every sample, by name."""
        images = sorted((self.root / "images" / split).iterdir())
        return [(image, self.root / "masks" / split / f"{image.stem}.png") for image in images]

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps."""
        return len(self.pairs("train")) // self.batch


def copy_pairs(source: Path, target: Path, counts: dict[str, int]) -> None:
    """Copy so many images a split, evenly spaced, with their masks; 0 is all. What was copied is in memory for all."""
    for split in SPLITS:
        images = sorted((source / "images" / split).iterdir())
        count = min(counts[split] or len(images), len(images))
        for part in ("images", "masks"):
            (target / part / split).mkdir(parents=True)
        for number in range(count):
            image = images[number * len(images) // count]
            shutil.copy(image, target / "images" / split)
            shutil.copy(source / "masks" / split / f"{image.stem}.png", target / "masks" / split)


def build_model(name: str, classes: int = len(CLASSES)) -> Any:
    """``unet64`` is segkit's U-Net of that width; any other name is an encoder in smp's. The same weights each time."""
    import torch

    torch.manual_seed(0)
    if name.removeprefix("unet").isdecimal():
        from segkit.model.unet import UNet

        return UNet(classes, width=int(name.removeprefix("unet")))
    from segkit.model.smp import Smp

    return Smp(classes, encoder=name)
