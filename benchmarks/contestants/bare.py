"""A bare PyTorch loop, as the tutorials teach it.

The loops are those of pytorch.org's "Quickstart" (train, test), the data that of torchvision's "Getting started with
transforms v2" (PIL images and masks as tv_tensors, transformed by the loader's processes), the precision that of the
"Automatic Mixed Precision" recipe. What slows a beginner down is left out: processes load the data and are kept, memory
is pinned, and the loss stays on the device. Nothing is written. ``tuned`` adds what the "Performance Tuning Guide" has
for convolutions: channels_last, cuDNN's benchmark, the fused optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from contestants.clock import Clock
from contestants.task import CLASSES, MEAN, STD, STORED_VOID, VOID, Task, build_model

Batches = Iterable[tuple[Tensor, Tensor]]


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Images float32 ``[3,H,W]``, normalised, and masks int64 ``[H,W]``."""

    def __init__(self, pairs: list[tuple[Path, Path]], crop: tuple[int, int] | None) -> None:
        self.pairs = pairs
        view = [v2.RandomCrop(crop), v2.RandomHorizontalFlip()] if crop else []
        types = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
        self.transform = v2.Compose([*view, v2.ToDtype(types, scale=True), v2.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        paths = self.pairs[index]
        image = tv_tensors.Image(Image.open(paths[0]).convert("RGB"))
        mask = tv_tensors.Mask(Image.open(paths[1]))
        image, mask = self.transform(image, mask)
        mask = mask.squeeze(0)  # [1,H,W] -> [H,W]
        return image.as_subclass(Tensor), mask.where(mask != STORED_VOID, VOID).as_subclass(Tensor)


class Training:
    """The model and what changes it.

    Args:
        task: what is trained.
        model: its network, on the device.
        tuned: whether the optimizer is the fused one.
    """

    def __init__(self, task: Task, model: nn.Module, tuned: bool) -> None:
        self.model, self.tuned = model, tuned
        self.device, self.mixed = torch.device(task.device), task.precision == "bf16"
        self.loss_function = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=VOID)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=task.lr, fused=tuned or None)
        steps = task.epochs * task.steps_an_epoch
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[B,C,H,W]``, masks on the device ``[B,H,W]``, loss."""
        images, masks = images.to(self.device, non_blocking=True), masks.to(self.device, non_blocking=True)
        if self.tuned:
            images = images.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            logits = self.model(images)
            return logits, masks, self.loss_function(logits, masks)

    def train(self, batches: Batches) -> float:
        """One pass; the mean loss."""
        self.model.train()
        total, steps = torch.zeros((), device=self.device), 0
        for images, masks in batches:
            self.optimizer.zero_grad()
            _, _, loss = self.forward(images, masks)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.detach()
            steps += 1
        return float(total) / steps

    @torch.no_grad()
    def validate(self, batches: Batches) -> float:
        """The mean IoU over the classes that occur, from one confusion matrix."""
        self.model.eval()
        classes = len(CLASSES)
        matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        total = torch.zeros((), device=self.device)  # the Quickstart's test loop takes the loss too
        for images, masks in batches:
            logits, masks, loss = self.forward(images, masks)
            known = masks != VOID
            index = masks[known] * classes + logits.argmax(1)[known]
            matrix += torch.bincount(index, minlength=classes**2).view(classes, classes)
            total += loss
        hits = matrix.diag()
        return float((hits / (matrix.sum(0) + matrix.sum(1) - hits)).nanmean())


def run(task: Task, clock: Clock, tuned: bool = False) -> dict[str, float]:
    """Train and validate."""
    shared = {"num_workers": task.workers, "persistent_workers": task.workers > 0, "pin_memory": task.device == "cuda"}
    training = DataLoader(Pairs(task.pairs("train"), task.crop), task.batch, shuffle=True, drop_last=True, **shared)
    validation = DataLoader(Pairs(task.pairs("val"), None), task.batch, **shared)
    model = build_model(task.model).to(task.device)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True
    clock.watch(model)
    trained = Training(task, model, tuned)
    for _ in range(task.epochs):
        loss = trained.train(training)
        clock.trained()
        score = trained.validate(validation)
        clock.ended()
    return {"train_loss": loss, "val_mean_iou": score}
