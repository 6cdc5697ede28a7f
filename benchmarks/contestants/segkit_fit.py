"""segkit as a user has it: ``segkit.fit`` with its scan, floors, checkpoints, pictures and observers.

What is not its default is what the task says: Adam without weight decay, a cosine without a warm-up. Its Dice is the
mean over the classes that a batch holds; smp's counts absent ones as 0, so that its figure of the train loss is lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import segkit
from contestants.clock import Clock
from contestants.task import CLASSES, SPLITS, STORED_VOID, VOID, Task, build_model
from segkit import plugins
from segkit_folder.dataset import FolderDataset
from segkit_losses.region import Dice


class Observer:
    """Tells the clock that an epoch has ended, as any plugin may."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.scores: dict[str, float] = {}

    @segkit.hookimpl
    def segkit_epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        """The checkpoint is on disk."""
        self.clock.trained_in.append(metrics["train"]["seconds"])  # with the device waited for, as by the clock
        self.clock.ended()
        self.scores = {"train_loss": metrics["train"]["loss"], "val_mean_iou": metrics["val"]["mean_iou"]}


def run(task: Task, clock: Clock) -> dict[str, float]:
    """Train and validate."""
    splits = {name: FolderDataset(task.root, name, CLASSES, void=[STORED_VOID, VOID]) for name in SPLITS}
    model = build_model(task.model)
    clock.watch(model)
    observer = Observer(clock)
    everything = plugins.installed
    own = plugins.load_plugin(plugins.Plugin("clock", "benchmarks", "0", __name__), lambda: observer)
    plugins.installed = lambda: (*everything(), own)  # type: ignore[assignment]
    try:
        segkit.fit(
            model=model,
            loss=Dice(num_classes=len(CLASSES), ignore_index=VOID),
            **splits,
            output=task.folder / "run",
            data={"cache": task.cache} if task.cache else None,
            augment={"crop": list(task.crop)},
            epochs=task.epochs,
            batch_size=task.batch,
            lr=task.lr,
            weight_decay=0.0,
            schedule="cosine",
            warmup=0.0,
            precision=task.precision,
            device=task.device,
            workers=task.workers,
            compile=task.graph,
            cuda_graph=task.graph,
        )
    finally:
        plugins.installed = everything
    return observer.scores
