"""What ends a training from below is told in words a user can act on, and as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training import train_and_evaluate

from segkit.engine import checkpoint
from segkit.engine.inputs import TrainerInputs
from segkit.errors import DataError, ModelError, TrainingError
from segkit.model.smp import Smp
from segkit.model.unet import UNet

MakeJob = Callable[..., TrainerInputs]


class Failing(nn.Module):
    """Raises in its first step."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.layer, self.error = nn.Conv2d(3, 2, 1), error

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise self.error
        return self.layer(image)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_what_is_advised_when_memory_runs_out_is_allowed(make_job: MakeJob, error: BaseException) -> None:
    """On a CPU too: parts have to divide the batch."""
    job = make_job(batch_size=6, accumulate=2, fields={"model": Failing(error)})
    told = r"at train\.batch_size=6, augment\.crop=8, train\.accumulate=2; .* accumulate that divides batch_size\. What"
    with pytest.raises(TrainingError, match=rf"^out of memory on cpu: .*{told}"):
        train_and_evaluate(job)


def test_a_model_of_other_channels_is_told_in_the_words_of_the_contract(make_job: MakeJob, tiny_net: Any) -> None:
    with pytest.raises(
        ModelError,
        match=r"cannot train on .*\[B,3,H,W\]: .* to have 4 channels, .*; it must be built with in_channels=3",
    ):
        train_and_evaluate(make_job(fields={"model": tiny_net(in_channels=4)}))


@pytest.mark.parametrize(
    "model", [UNet(2, width=2, depth=3), Smp(2, architecture="deeplabv3", encoder="resnet18")], ids=["unet", "smp"]
)
def test_one_value_a_channel_is_told_of_whatever_model_it_is(make_job: MakeJob, model: nn.Module) -> None:
    told = (
        r"^the model cannot train on batches of 1 images .* more than 1 value per channel .* larger train\.batch_size"
    )
    with pytest.raises(ModelError, match=told):
        train_and_evaluate(make_job(batch_size=1, fields={"model": model}))


def test_a_card_that_fails_while_a_checkpoint_is_written_is_no_full_disk(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, calls = torch.save, []

    def fails(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be ...")
        save(*arguments)

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(TrainingError, match=r"cpu failed: CUDA error: device-side assert triggered; CUDA_LAUN"):
        train_and_evaluate(make_job())
    assert len(calls) == 2  # nothing more is asked of the card
    assert "could not be written" not in capsys.readouterr().err


def test_an_error_that_is_no_disks_is_raised_as_it_is(tmp_path: Path) -> None:
    def write(_file: Any) -> None:
        raise RuntimeError("the storage of this tensor is on another planet")

    with pytest.raises(RuntimeError, match="another planet"):
        checkpoint.write_atomically(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


class BadLeaf(DataError):
    """What a plugin may raise: a constructor of its own."""

    def __init__(self, folder: str, number: int) -> None:
        super().__init__(f"leaf {number} of {folder} is no leaf")
        self.number = number


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_with_a_constructor_of_its_own_keeps_its_message(
    make_job: MakeJob, halves: Any, tmp_path: Path, workers: int
) -> None:
    class Leaves(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            if (tmp_path / "run" / "last.pt").exists():
                raise BadLeaf("trees", index)
            return super().__getitem__(index)

    job = make_job(workers=workers)
    with pytest.raises(DataError, match=r"^leaf \d of trees is no leaf\nsaved in .*run after epoch 0"):
        train_and_evaluate(make_job(workers=workers, fields={"splits": {**job.splits, "train": Leaves(8)}}))
