"""PyTorch Lightning with segmentation_models_pytorch, after smp's own example for CamVid.

That is ``examples/camvid_segmentation_multiclass.ipynb`` in github.com/qubvel-org/segmentation_models.pytorch: uint8
images that are normalised on the device, Dice, statistics by ``get_stats`` in every step of training and validation,
Adam with a cosine, the Trainer as it is, with the checkpoint it writes each epoch by default. Other than there the
images are divided by 255, which the example forgets, void is ignored and no class, the crop and flip are numpy's rather
than albumentations', and processes load the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from contestants.clock import Clock
from contestants.task import CLASSES, MEAN, STD, STORED_VOID, VOID, Task, build_model


class CamVid(Dataset[tuple[Any, Any]]):
    """Images uint8 ``[3,H,W]`` and masks uint8 ``[H,W]``."""

    def __init__(self, pairs: list[tuple[Path, Path]], crop: tuple[int, int] | None) -> None:
        self.pairs, self.crop = pairs, crop

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image_path, mask_path = self.pairs[index]
        image = np.asarray(Image.open(image_path).convert("RGB"))  # [H,W,3]
        mask = np.array(Image.open(mask_path))  # [H,W]
        mask[mask == STORED_VOID] = VOID
        if self.crop:
            top, left = (int(torch.randint(s - c + 1, ())) for s, c in zip(mask.shape, self.crop, strict=True))
            rows, columns = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
            image, mask = image[rows, columns], mask[rows, columns]
            if torch.rand(()) < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1)), np.ascontiguousarray(mask)


class CamVidModel(pl.LightningModule):
    """The example's module around the network of the task."""

    def __init__(self, task: Task, network: torch.nn.Module) -> None:
        super().__init__()
        self.task, self.network = task, network
        # training alone, as every size of an image would be compiled anew; in a tuple, as the weights are the network's
        self.compiled = (torch.compile(network, mode="reduce-overhead"),) if task.graph else ()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.loss_function = smp.losses.DiceLoss(mode="multiclass", from_logits=True, ignore_index=VOID)
        self.outputs: dict[str, list[dict[str, Tensor]]] = {"train": [], "val": []}
        self.scores: dict[str, dict[str, float]] = {}

    def forward(self, images: Tensor) -> Tensor:
        """uint8 ``[B,3,H,W]`` -> logits ``[B,C,H,W]``."""
        network = self.compiled[0] if self.compiled and self.training else self.network
        return network((images / 255 - self.mean) / self.std)

    def shared_step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        """The loss; the statistics are kept for the end of the epoch."""
        images, masks = batch
        masks = masks.long()
        logits = self(images).contiguous()
        loss = self.loss_function(logits, masks)
        predicted = logits.softmax(dim=1).argmax(dim=1)  # [B,H,W]
        stats = smp.metrics.get_stats(
            predicted, masks, mode="multiclass", num_classes=len(CLASSES), ignore_index=VOID
        )  # [B,C] each
        self.outputs[stage].append({"loss": loss.detach(), **dict(zip(("tp", "fp", "fn", "tn"), stats, strict=True))})
        return loss

    def shared_epoch_end(self, stage: str) -> None:
        """The example's two figures, and the mean IoU that the other contestants give."""
        outputs = self.outputs[stage]
        stats = [torch.cat([each[name] for each in outputs]) for name in ("tp", "fp", "fn", "tn")]
        self.log_dict(
            {
                f"{stage}_per_image_iou": smp.metrics.iou_score(*stats, reduction="micro-imagewise"),
                f"{stage}_dataset_iou": smp.metrics.iou_score(*stats, reduction="micro"),
            },
            prog_bar=True,
        )
        tp, fp, fn, _ = (each.sum(0) for each in stats)  # [C]
        loss = torch.stack([each["loss"] for each in outputs]).mean()
        self.scores[stage] = {"loss": float(loss), "mean_iou": float((tp / (tp + fp + fn)).nanmean())}
        outputs.clear()

    def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
        """One batch of train."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
        """One batch of val."""
        return self.shared_step(batch, "val")

    def on_train_epoch_end(self) -> None:
        """Sum up."""
        self.shared_epoch_end("train")

    def on_validation_epoch_end(self) -> None:
        """Sum up."""
        self.shared_epoch_end("val")

    def configure_optimizers(self) -> dict[str, Any]:
        """Adam with a cosine over all steps."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.task.lr)
        steps = self.task.epochs * self.task.steps_an_epoch
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class TimedCheckpoint(pl.callbacks.ModelCheckpoint):
    """The checkpoint a Trainer has by default; an epoch ends when it is written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning validates before it ends the epoch of training; two batches of it, before the first step."""
        if not trainer.sanity_checking:
            self.clock.trained()
        super().on_validation_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checkpoints come last."""
        super().on_train_epoch_end(trainer, pl_module)
        self.clock.ended()


def run(task: Task, clock: Clock) -> dict[str, float]:
    """Train and validate."""
    shared = {"num_workers": task.workers, "persistent_workers": task.workers > 0, "pin_memory": task.device == "cuda"}
    training = DataLoader(CamVid(task.pairs("train"), task.crop), task.batch, shuffle=True, drop_last=True, **shared)
    validation = DataLoader(CamVid(task.pairs("val"), None), task.batch, **shared)
    network = build_model(task.model)
    clock.watch(network)
    module = CamVidModel(task, network)
    trainer = pl.Trainer(
        max_epochs=task.epochs,
        accelerator="gpu" if task.device == "cuda" else "cpu",
        devices=1,
        precision={"bf16": "bf16-mixed", "fp32": "32-true"}[task.precision],
        default_root_dir=task.folder,
        logger=False,
        enable_progress_bar=False,
        callbacks=[TimedCheckpoint(clock)],
    )
    trainer.fit(module, train_dataloaders=training, val_dataloaders=validation)
    return {"train_loss": module.scores["train"]["loss"], "val_mean_iou": module.scores["val"]["mean_iou"]}
