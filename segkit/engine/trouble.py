"""What ended a training from below, in words a user can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from segkit.engine.device import peak_memory
from segkit.engine.job import Job
from segkit.errors import DataError, TrainingError

_GIB = 1 << 30


@contextmanager
def explained(job: Job, device: torch.device, keep: Callable[[], str]) -> Iterator[None]:
    """What the run could not foresee, as one line that says what to change.

    Args:
        job: of the run.
        device: it runs on.
        keep: saves what there is, where no step is under way, and says how to go on.

    Raises:
        TrainingError: the card ran out of memory, or a loader's process ended.
        DataError: as the dataset or a loader's process has raised it.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_memory(job, device)) from error
    except DataError as error:
        before, _, message = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
        told = str(error)
        if before.startswith("Caught "):  # torch puts the traceback of a loader's process into the message
            told = message.partition("\nthis was sample ")[0].strip()
        raise type(error)(f"{told}\n{keep()}") from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        at_once = isinstance(error, (ConnectionError, EOFError))  # it ended while it handed a batch over
        killed = at_once or ("DataLoader worker" in str(error) and "Caught " not in str(error))
        if not killed or job.train.workers == 0:
            raise
        cause = f"a process that loads data ended: {(str(error).splitlines() or [type(error).__name__])[0]}"
        advice = "Memory may be short: fewer train.workers need less, train.workers=0 none"
        raise TrainingError(f"{cause} {advice}\n{keep()}") from error


def _memory(job: Job, device: torch.device) -> str:
    """What was needed of a device's memory, and what needs less."""
    there = ""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        there = f": {peak_memory(device) / _GIB:.1f} of {whole / _GIB:.1f} GiB"
    train = job.train
    return (
        f"out of memory on {device}{there} at train.batch_size={train.batch_size}, "
        f"augment.crop={job.augment.crop or 'whole images'}, train.accumulate={train.accumulate}; "
        f"train.accumulate={train.accumulate * 2} halves what a step needs; a smaller batch, crop or model, or "
        f"data.resize, helps an evaluation too. The checkpoint in {job.folder} is intact"
    )
