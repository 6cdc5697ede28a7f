"""How good a run's model is on each of its splits, in figures and in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from segkit.data.normalise import Normalisation
from segkit.data.resize import Resize
from segkit.data.sample import Dataset
from segkit.data.visualize import sheet
from segkit.engine.data_source import DataSource
from segkit.engine.distributed import DistributedContext
from segkit.engine.evaluate import Constant, ImageScores, beside, evaluate
from segkit.engine.inputs import Job
from segkit.engine.precision import Precision
from segkit.engine.samples import panels, spread, write_picture


class Scorer:
    """Scores models on the splits of a run.

    Args:
        job: the run's.
        splits: datasets by name.
        floors: what the best constant prediction scores on each; those of foreign metrics are added as they are found.
        precision: of the forward pass.
        data_source: where the samples come from.
        distributed: the processes that share the work.
    """

    def __init__(
        self,
        job: Job,
        splits: Mapping[str, Dataset],
        floors: dict[str, dict[str, Any]],
        precision: Precision,
        data_source: DataSource,
        distributed: DistributedContext,
    ) -> None:
        self.job, self.splits, self.floors, self.precision = job, splits, floors, precision
        self.data_source, self.distributed = data_source, distributed
        self._constants = {name: Constant(job.metrics, data, floors[name]) for name, data in splits.items()}

    def scores(self, model: nn.Module, split: str, images: ImageScores | None = None) -> dict[str, Any]:
        """The scores on a split, beside their floors; those of each image go to ``images``."""
        constant = self._constants.pop(split, None)  # once a split
        found = evaluate(
            model,
            self.splits[split],
            precision=self.precision,
            criterion=self.job.criterion,
            metrics=self.job.metrics,
            batch_size=self.job.train.batch_size,
            resize=self.job.data.resize,
            crop=self.job.augment.crop,
            normalisation=self.job.normalisation,
            workers=self.data_source.workers,
            source=self.data_source.sources[split],
            description=f"scores on {split}",
            watchers=[each for each in (constant, images) if each],
            distributed=self.distributed,
        )
        if constant:
            self.floors[split] |= constant.compute()
        return beside(found, self.floors[split])

    def draw(self, model: nn.Module, name: str) -> None:
        """Draw what it predicts for some val images, as ``samples/<name>.png``.

        Raises:
            WriteError: it cannot be written.
        """
        count = self.job.output.samples
        if count and self.distributed.is_main_process:
            rows = panels(model, self.splits["val"], spread(len(self.splits["val"]), count), *self._how)
            write_picture(self._place(name), sheet(rows, self.splits["val"].classes, self.splits["val"].palette))

    def draw_extremes(self, model: nn.Module, split: str, ranked: Sequence[int]) -> None:
        """Draw a split's images with the lowest and the highest scores: ``samples/hardest_1.png``, ``easiest_1.png``...

        Raises:
            WriteError: one cannot be written.
        """
        count = min(self.job.output.samples, len(ranked) // 2)
        if count and self.distributed.is_main_process:
            for name, chosen in (("hardest", ranked[:count]), ("easiest", ranked[: -count - 1 : -1])):
                for number, row in enumerate(panels(model, self.splits[split], chosen, *self._how), 1):
                    write_picture(self._place(f"{name}_{number}"), row)

    @property
    def _how(self) -> tuple[Precision, Resize, int | Sequence[int] | None, Normalisation]:
        return self.precision, self.job.data.resize, self.job.augment.crop, self.job.normalisation

    def _place(self, name: str) -> Path:
        return self.job.folder / "samples" / f"{name}.png"
