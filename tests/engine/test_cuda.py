"""What only a CUDA device can show: precisions, a step that waits for nothing, repetition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from segkit.data.loader import training_loader
from segkit.engine import checkpoint
from segkit.engine.device import seed_everything
from segkit.engine.fit import train_and_evaluate
from segkit.engine.job import Job
from segkit.engine.loop import Loop
from segkit.engine.precision import resolve

pytestmark = pytest.mark.gpu
MakeJob = Callable[..., Job]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(make_job: MakeJob, precision: str) -> None:
    result = train_and_evaluate(make_job(precision, epochs=8, device="cuda", precision=precision))
    assert result.precision == precision
    assert result.splits["test"]["mean_iou"] > 0.9
    assert result.peak_memory_bytes > 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_waits_for_nothing(make_job: MakeJob, optimizer: str) -> None:
    device = torch.device("cuda")
    job = make_job(optimizer=optimizer, precision="bf16", device="cuda", ema=0.9, clip_norm=1.0)
    loop = Loop(job.model, job.objective, job.train, resolve("bf16", device), steps=10)
    batches, _ = training_loader(
        job.splits["train"], job.augment, batch_size=4, seed=0, repeat=1, resize=None, workers=0, device=device
    )
    batch = next(iter(batches)).to(device)
    loop.train_step(batch)  # the first one sets things up
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.train_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loop.step == 4


def test_deterministic_runs_repeat_to_the_bit(make_job: MakeJob) -> None:
    states = []
    try:
        for name in ("one", "two"):
            job = make_job(name, device="cuda", precision="fp32", deterministic=True)
            train_and_evaluate(job)
            states.append(checkpoint.load(job.folder / "last.pt")["model"])
    finally:
        seed_everything(0)
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
