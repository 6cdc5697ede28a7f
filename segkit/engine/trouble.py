"""What ended a training from below, in words a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segkit.engine.device import peak_memory
from segkit.engine.job import Job
from segkit.errors import DataError, TrainingError

_GIB = 1 << 30


@contextmanager
def explained(job: Job, device: torch.device) -> Iterator[None]:
    """What the run could not foresee, as one line that says what to change.

    Raises:
        TrainingError: the card ran out of memory, or a loader's process ended.
        DataError: as a loader's process has raised it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        peak, whole = peak_memory(device) / _GIB, torch.cuda.get_device_properties(device).total_memory / _GIB
        crop = job.augment.crop or "whole images"
        raise TrainingError(
            f"out of memory on {device}: {peak:.1f} of {whole:.1f} GiB at train.batch_size={job.train.batch_size}, "
            f"augment.crop={crop}, train.accumulate={job.train.accumulate}; "
            f"train.accumulate={job.train.accumulate * 2} halves what a step needs, a smaller batch, crop or model "
            f"helps too. The checkpoint in {job.folder} is intact"
        ) from error
    except DataError as error:
        before, _, message = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
        if not before.startswith("Caught "):  # torch puts the traceback of a loader's process into the message
            raise
        raise type(error)(message.partition("\nthis was sample ")[0].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught " in str(error):
            raise
        told = str(error).splitlines()[0]
        raise TrainingError(
            f"a process that loads data ended: {told} Memory may be short: fewer train.workers need less, "
            f"train.workers=0 none. {job.folder} holds what was saved; --resume goes on from there"
        ) from error
