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
from segkit.settings import TrainSettings

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
    ("error", "accumulate", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "less: train.accumulate=2, the"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
            2,
            "=3, the batch",
        ),
        (MemoryError(), 3, "train.accumulate=6, the batch"),
        (MemoryError(), 6, "accumulate=6; these need less: a smaller train.batch_size, augment.crop, data.resize"),
    ],
)
def test_what_is_advised_when_memory_runs_out_is_allowed(
    make_job: MakeJob, error: BaseException, accumulate: int, advice: str
) -> None:
    """On a CPU too: parts have to divide the batch."""
    job = make_job(batch_size=6, accumulate=accumulate, fields={"model": Failing(error)})
    with pytest.raises(TrainingError, match=r"^out of memory on cpu") as caught:
        train_and_evaluate(job)
    assert advice in str(caught.value)
    if ", the" in advice:
        told = str(caught.value).partition("less: train.accumulate=")[2].partition(",")[0]
        TrainSettings(batch_size=6, accumulate=int(told))


def test_a_model_of_other_channels_is_told_in_the_words_of_the_contract(make_job: MakeJob, tiny_net: Any) -> None:
    with pytest.raises(
        ModelError, match=r"expects images with 4 channels, and the dataset gives 3, \[B,3,H,W\]; build it"
    ):
        train_and_evaluate(make_job(fields={"model": tiny_net(in_channels=4)}))


@pytest.mark.parametrize(
    "model", [UNet(2, width=2, depth=3), Smp(2, architecture="deeplabv3", encoder="resnet18")], ids=["unet", "smp"]
)
def test_one_value_a_channel_is_told_of_whatever_model_it_is(make_job: MakeJob, model: nn.Module) -> None:
    told = r"^batch normalisation cannot train on one value per channel, to which .* of 1: use a larger train\.batch"
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
