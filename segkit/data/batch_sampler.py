"""The samples of each batch and process: a pure function of (seed, epoch), so there is nothing to restore."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np

from segkit.errors import ConfigError

Key = tuple[int, int]  # (epoch, index); an index beyond the dataset's length is a repeated pass


class Stream(IntEnum):
    """What random numbers are drawn for. Each purpose has streams of its own: equal keys share no number."""

    ORDER = 1  # of an epoch; key: seed, epoch, pass
    VIEW = 2  # the random transform of an image; key: seed, epoch, index, and the attempt after the first
    STEP = 3  # dropout and the like; key: seed, step, rank
    TRANSFORM = 5  # a plugin's transform; key: seed, epoch, index, place among the transforms
    WORKERS = 4  # what a dataset draws in a loader's process; key: seed

    def sequence(self, *key: int) -> np.random.SeedSequence:
        """The seeds of a key."""
        return np.random.SeedSequence(key, spawn_key=(self,))

    def generator(self, *key: int) -> np.random.Generator:
        """A generator for a key; it gives the same numbers each time."""
        return np.random.default_rng(self.sequence(*key))


class TrainBatchSampler:
    """Batches of keys, shuffled anew each epoch; an incomplete last batch is left out (BatchNorm suffers from it).

    Of several processes each gets its share of every micro-batch, so that a micro-batch is the same images however many
    processes share it.

    Args:
        length: samples of the dataset.
        batch_size: of all processes together.
        seed: of the run.
        repeat: passes over the dataset in one epoch.
        parts: micro-batches of a batch.
        rank: of this process.
        size: number of processes.

    Attributes:
        epoch: set before each pass.
        start: batches of the epoch to leave out, as they were seen before the run was stopped.
        images: in a batch, over all processes.
        steps: batches of an epoch; where another number is set, it has as many passes as that takes.

    Raises:
        ConfigError: a process would get no image of a micro-batch.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, repeat: int = 1, *, parts: int = 1, rank: int = 0, size: int = 1
    ) -> None:
        self.images = min(batch_size, length * repeat)
        self.length, self.seed, self.steps = length, seed, length * repeat // self.images
        self.parts, self.rank, self.size = parts, rank, size
        self.epoch = self.start = 0
        if size > 1 and (self.images % parts or self.images // parts < size):
            raise ConfigError(
                f"train.batch_size = {batch_size} in {parts} parts (train.accumulate), of {length * repeat} images: "
                f"each of {size} processes needs an image of each part; give a larger batch, or fewer processes"
            )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        end = self.steps * self.images
        passes = [
            number * self.length + Stream.ORDER.generator(self.seed, self.epoch, number).permutation(self.length)
            for number in range(-(-end // self.length))
        ]
        indices = np.concatenate(passes)
        for start in range(self.start * self.images, end, self.images):
            batch = indices[start : start + self.images]
            if self.size > 1:
                shares = [np.array_split(part, self.size)[self.rank] for part in np.split(batch, self.parts)]
                batch = np.concatenate(shares)
            yield [(self.epoch, int(index)) for index in batch]
