"""How good a run's model is on each of its splits, in figures and in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from segkit.data.sample import Dataset
from segkit.engine.evaluate import evaluate
from segkit.engine.feed import Feed
from segkit.engine.floors import Constant, beside
from segkit.engine.job import Job
from segkit.engine.precision import Precision
from segkit.engine.samples import write_samples
from segkit.engine.world import World


class Scorer:
    """Scores models on the splits of a run.

    Args:
        job: the run's.
        splits: datasets by name.
        floors: what the best constant prediction scores on each; those of foreign metrics are added as they are found.
        precision: of the forward pass.
        feed: where the samples come from.
        world: the processes that share the work.
    """

    def __init__(
        self,
        job: Job,
        splits: Mapping[str, Dataset],
        floors: dict[str, dict[str, Any]],
        precision: Precision,
        feed: Feed,
        world: World,
    ) -> None:
        self.job, self.splits, self.floors, self.precision = job, splits, floors, precision
        self.feed, self.world = feed, world
        self._constants = {name: Constant(job.metrics, data, floors[name]) for name, data in splits.items()}

    def scores(self, model: nn.Module, split: str) -> dict[str, Any]:
        """The scores on a split, beside their floors."""
        constant = self._constants.pop(split, None)  # once a split
        found = evaluate(
            model,
            self.splits[split],
            precision=self.precision,
            objective=self.job.objective,
            metrics=self.job.metrics,
            batch_size=self.job.train.batch_size,
            resize=self.job.data.resize,
            workers=self.feed.workers,
            source=self.feed.sources[split],
            description=f"scores on {split}",
            watcher=constant,
            world=self.world,
        )
        if constant:
            self.floors[split] |= constant.compute()
        return beside(found, self.floors[split])

    def draw(self, model: nn.Module, name: str) -> None:
        """Draw what it predicts for some val images, as ``samples/<name>.png``."""
        if self.job.output.samples and self.world.first:
            write_samples(
                model,
                self.splits["val"],
                self.job.folder / "samples" / f"{name}.png",
                count=self.job.output.samples,
                precision=self.precision,
                resize=self.job.data.resize,
            )
