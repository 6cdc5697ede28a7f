"""Choose the samples of each batch and process as a pure function of (seed, epoch); resuming restores no state."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np

from segkit.errors import ConfigError

Key = tuple[int, int]  # (epoch, index); an index beyond the dataset's length belongs to a repeated pass


class Stream(IntEnum):
    """Purposes of random numbers; the streams of two purposes are independent even for equal keys."""

    ORDER = 1  # order of the samples in an epoch; key: seed, epoch, pass
    VIEW = 2  # random transform of a sample; key: seed, epoch, index, and from the second attempt on its number
    STEP = 3  # dropout and other randomness of the network; key: seed, step, rank
    TRANSFORM = 5  # a plugin's transform; key: seed, epoch, index, position in the list of transforms
    WORKERS = 4  # random numbers that a dataset draws in a worker process; key: seed

    def sequence(self, *key: int) -> np.random.SeedSequence:
        """Return the seed sequence of a key."""
        return np.random.SeedSequence(key, spawn_key=(self,))

    def generator(self, *key: int) -> np.random.Generator:
        """Return a new generator for a key; equal keys give equal numbers."""
        return np.random.default_rng(self.sequence(*key))


class TrainBatchSampler:
    """Yields batches of keys, reshuffled each epoch; drops an incomplete last batch, which would harm BatchNorm.

    Each process gets a share of every micro-batch, so a micro-batch holds the same images for any number of processes.

    Args:
        length: number of samples in the dataset.
        batch_size: images per batch, summed over all processes.
        seed: the run's seed.
        repeat: passes over the dataset per epoch.
        parts: micro-batches per batch.
        rank: rank of this process.
        size: number of processes.

    Attributes:
        epoch: the current epoch; the caller sets it before iterating.
        start: number of batches to skip, which were processed before the run was interrupted.
        images: images per batch, summed over all processes.
        steps: batches per epoch; if the caller sets another number, the epoch has as many passes as that needs.

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
                f"each of {size} processes needs an image of each part; use a larger batch, or fewer processes"
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
