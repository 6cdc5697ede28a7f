"""What ended a training from below, in words a user can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from segkit.engine.job import Job
from segkit.engine.precision import peak_memory
from segkit.errors import DataError, ModelError, SegkitError, TrainingError

_GIB = 1 << 30


@contextmanager
def explained(job: Job, device: torch.device, keep: Callable[[], str]) -> Iterator[None]:
    """What the run could not foresee, as one line that says what to change.

    Args:
        job: of the run.
        device: it runs on.
        keep: saves what there is, where no step is under way, and says how to go on.

    Raises:
        TrainingError: memory ran out, the card failed, or a loader's process ended.
        ModelError: the model takes images of another number of channels.
        DataError: as the dataset or a loader's process has raised it.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_memory(job, device)) from error
    except DataError as error:
        before, _, message = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
        told = str(error)
        if before.startswith("Caught "):  # torch puts the traceback of a loader's process into the message
            told = message.partition("\nthis was sample ")[0].strip()
        raise error.retold(f"{told}\n{keep()}") from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        at_once = isinstance(error, (ConnectionError, EOFError))  # it ended while it handed a batch over
        killed = at_once or ("DataLoader worker" in str(error) and "Caught " not in str(error))
        if not killed or job.train.workers == 0:
            if explanation := _of_torch(error, job, device):
                raise explanation from error
            raise
        cause = f"a process that loads data ended: {(str(error).splitlines() or [type(error).__name__])[0]}"
        advice = "Memory may be short: fewer train.workers need less, train.workers=0 none"
        raise TrainingError(f"{cause} {advice}\n{keep()}") from error


def _of_torch(error: Exception, job: Job, device: torch.device) -> SegkitError | None:
    """What torch tells in words of its own: no memory on a CPU, a device that failed, images of other channels."""
    text = str(error)
    first = (text.strip().splitlines() or [""])[0]
    if re.search(r"DefaultCPUAllocator|can't allocate memory", text):
        return TrainingError(_memory(job, device))
    if re.search(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error", text):
        return TrainingError(
            f"{device} failed: {first}; CUDA_LAUNCH_BLOCKING=1 before the command tells in which operation. Nothing of "
            f"this process can use the device any more. The last checkpoint in {job.folder} is intact"
        )
    found = re.search(r"expected input\[\d+, 3, .*\] to have (\d+) channels, but got 3 channels", text)
    if found:
        return ModelError(
            f"the model takes images of {found[1]} channels, and a dataset gives 3, [B,3,H,W]; build it with "
            "in_channels=3"
        )
    return None


def _memory(job: Job, device: torch.device) -> str:
    """What was needed of a device's memory, and what needs less."""
    there = ""
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        there = f": {peak_memory(device) / _GIB:.1f} of {whole / _GIB:.1f} GiB"
    train = job.train
    parts = range(train.accumulate + 1, train.batch_size + 1)
    allowed = [count for count in parts if train.batch_size % count == 0]
    smaller = f"train.accumulate={allowed[0]} takes the batch in smaller parts; " if allowed else ""
    return (
        f"out of memory on {device}{there} at train.batch_size={train.batch_size}, "
        f"augment.crop={job.augment.crop or 'whole images'}, train.accumulate={train.accumulate}; {smaller}"
        f"a smaller {'batch, ' if train.batch_size > 1 else ''}crop or model, or data.resize, helps an evaluation too. "
        f"The checkpoint in {job.folder} is intact"
    )
