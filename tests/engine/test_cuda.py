"""What only a CUDA device can show: precisions, a step that waits for nothing, repetition."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
import torch
from training import train_and_evaluate

import segkit
from segkit.data.sample import Batch
from segkit.engine import checkpoint
from segkit.engine.data_source import open_sources, training_batches
from segkit.engine.inputs import TrainerInputs
from segkit.engine.precision import resolve_precision, seed_everything
from segkit.engine.step import TrainingLoop
from segkit.errors import TrainingError
from segkit.signals import Interrupted

pytestmark = pytest.mark.gpu
MakeJob = Callable[..., TrainerInputs]


def a_batch(job: TrainerInputs, device: torch.device) -> Batch:
    batches, _ = training_batches(job, open_sources(job)["train"])
    return next(iter(batches)).to(device)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(make_job: MakeJob, precision: str) -> None:
    result = train_and_evaluate(make_job(precision, epochs=8, device="cuda", precision=precision))
    assert result.precision == precision
    assert result.splits["test"]["mean_iou"] > 0.9
    assert result.peak_memory_bytes > 0


@pytest.mark.fault("F37")
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_step_waits_for_nothing(
    make_job: MakeJob, optimizer: str, no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    device = torch.device("cuda")
    job = make_job(optimizer=optimizer, precision="bf16", device="cuda", ema=0.9, clip_norm=1.0)
    job = replace(job, precision=resolve_precision("bf16", device))
    loop = TrainingLoop(job, 10)
    batch = a_batch(job, device)
    loop.train_step(batch)  # the first one sets things up
    with no_waiting():
        for _ in range(3):
            loop.train_step(batch)
    assert loop.step == 4


@pytest.mark.fault("F35")
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


@pytest.fixture
def deterministic() -> Iterator[None]:
    seed_everything(0, deterministic=True)
    yield
    seed_everything(0)


@pytest.mark.fault("F36")
@pytest.mark.parametrize("name", ["unet", "smp"])
def test_every_model_runs_where_only_repeatable_algorithms_may(deterministic: None, name: str) -> None:
    options = {"width": 8} if name == "unet" else {"encoder": "resnet18"}
    model = segkit.models[name](num_classes=3, **options).cuda().train()
    model(torch.rand(2, 3, 64, 64, device="cuda")).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.fault("F36")
@pytest.mark.parametrize("name", list(segkit.losses))
def test_every_loss_runs_where_only_repeatable_algorithms_may(deterministic: None, name: str) -> None:
    loss = segkit.losses[name](num_classes=3, ignore_index=255).cuda()
    logits = torch.randn(2, 3, 16, 16, device="cuda", requires_grad=True)
    target = torch.randint(0, 3, (2, 16, 16), device="cuda")
    target[:, :4] = 255
    loss(logits, target).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.fault("F36")
@pytest.mark.parametrize("name", list(segkit.metrics))
def test_every_metric_runs_where_only_repeatable_algorithms_may(deterministic: None, name: str) -> None:
    metric = segkit.metrics[name](num_classes=3, ignore_index=255)
    metric.update(torch.randn(2, 3, 16, 16, device="cuda"), torch.randint(0, 3, (2, 16, 16), device="cuda"))
    assert all(value == value for value in metric.compute().values())


@pytest.mark.fault("F31")
def test_a_card_that_is_too_small_is_told_in_a_line(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job("small", epochs=2, device="cuda", precision="fp32")
    train_and_evaluate(job)
    before = (job.folder / "last.pt").read_bytes()

    def too_much(self: TrainingLoop, batch: object) -> None:
        torch.empty(1 << 44, dtype=torch.uint8, device="cuda")

    monkeypatch.setattr(TrainingLoop, "train_step", too_much)
    with pytest.raises(TrainingError) as caught:
        train_and_evaluate(make_job("small", epochs=4, device="cuda", precision="fp32"), resume=True)
    message = str(caught.value)
    assert "\n" not in message
    assert "out of memory on cuda" in message
    assert "train.batch_size=4, augment.crop=8, train.accumulate=1" in message
    assert (job.folder / "last.pt").read_bytes() == before


@pytest.mark.fault("F29")
def test_a_step_that_is_no_number_is_skipped_on_the_card(
    make_job: MakeJob, no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    # without a look at it from the host
    device = torch.device("cuda")
    job = make_job(precision="bf16", device="cuda")
    job = replace(job, precision=resolve_precision("bf16", device))
    loop = TrainingLoop(job, 10)
    batch = a_batch(job, device)
    loop.train_step(batch)
    before = {key: value.clone() for key, value in loop.model.state_dict().items()}
    loop.criterion.scales = [float("nan")]
    with no_waiting():
        loop.train_step(batch)
    assert all(torch.equal(value, before[key]) for key, value in loop.model.state_dict().items())
    assert loop.non_finite.check() == 1


@pytest.mark.fault("F46")
def test_a_compiled_run_makes_two_graphs_at_the_most(make_job: MakeJob) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    train_and_evaluate(make_job("compiled", epochs=2, device="cuda", precision="bf16", compile=True))
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@pytest.mark.fault("F15")
def test_a_run_that_was_stopped_on_a_card_goes_on_as_if_it_had_not_been(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with fp16's scaler and a moving average
    settings = {"epochs": 3, "device": "cuda", "precision": "fp16", "deterministic": True, "ema": 0.9}
    try:
        whole = make_job("whole", **settings)
        train_and_evaluate(whole)
        real = TrainingLoop.train_step

        def stop(self: TrainingLoop, batch: Batch) -> torch.Tensor:
            if self.step == 3:
                raise Interrupted(signal.SIGINT)
            return real(self, batch)

        monkeypatch.setattr(TrainingLoop, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(make_job("stopped", **settings))
        monkeypatch.undo()
        stopped = make_job("stopped", **settings)
        train_and_evaluate(stopped, resume=True)
    finally:
        seed_everything(0)
    one, two = (checkpoint.load(job.folder / "last.pt")["model"] for job in (whole, stopped))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_network_replayed_as_a_graph_learns_the_same(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    ends = []
    for name, settings in (("plain", {}), ("graph", {"cuda_graph": True})):
        # SGD: the bias before a BatchNorm has no gradient but rounding errors, of which AdamW would make whole steps
        job = make_job(name, device="cuda", precision="fp32", epochs=2, optimizer="sgd", lr=0.5, **settings)
        job.model.layers[3].p = 0.0  # warming up draws random numbers, so the first step's dropout is another
        train_and_evaluate(job)
        ends.append(checkpoint.load(job.folder / "last.pt")["model"])
    assert "continuing without it" not in capsys.readouterr().err
    for key, value in ends[0].items():  # the running statistics too: warming up has counted nothing
        torch.testing.assert_close(ends[1][key], value, atol=1e-2, rtol=1e-2)


def test_what_cannot_be_captured_trains_as_it_is(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    class Waits(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * float(images.mean() < 1e9)

    job = make_job(fields={"model": Waits(3, 2, 1)}, device="cuda", precision="fp32", epochs=1, cuda_graph=True)
    assert train_and_evaluate(job).best_epoch == 1
    assert "train.cuda_graph failed; continuing without it" in capsys.readouterr().err
