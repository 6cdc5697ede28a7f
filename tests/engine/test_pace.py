"""``train.minutes``: the plan of a run by a clock that the tests turn, so that nobody waits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tqdm import tqdm
from training import train_and_evaluate

from segkit.data.sample import Sample
from segkit.engine.inputs import TrainerInputs, open_trainer
from segkit.engine.pace import REPORT, Costs, Pace
from segkit.engine.step import TrainingLoop
from segkit.errors import ConfigError
from segkit.settings import TrainSettings

MakeJob = Callable[..., TrainerInputs]


class Clock:
    """In place of the module ``time``."""

    def __init__(self) -> None:
        self.now, self.slower = 1000.0, 1.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = process_time = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("segkit.engine.pace.cpu_slowdown", lambda: clock.slower)
    for module in ("engine.pace", "engine.step", "engine.trainer", "engine.checkpoint", "signals"):
        monkeypatch.setattr(f"segkit.{module}.time", clock)
    return clock


def pace_of(minutes: float, a_pass: int, began: float, all_pixels: float = 2.0, **limits: int) -> Pace:
    """A clock of a run that has taken no step; all splits have so many times the pixels of val."""
    settings = TrainSettings.model_validate({"minutes": minutes, **limits})
    statistics = {"train": [SimpleNamespace(size=(1, all_pixels - 1))], "val": [SimpleNamespace(size=(1, 1))]}
    inputs: Any = SimpleNamespace(train=settings, metrics={}, scan=SimpleNamespace(statistics=statistics))
    loop: Any = SimpleNamespace(step=0, steps=0, progress=SimpleNamespace(steps=0))
    order = SimpleNamespace(steps=a_pass)
    trainer: Any = SimpleNamespace(inputs=inputs, loop=loop, order=order, batches=[], evaluators={})
    pace = Pace(trainer)
    pace.began = began
    return pace


class Machine:
    """A run as the trainer makes it, on a machine whose speed is a function of the time since the start.

    Args:
        costs: what a step, the end of an epoch and the scores at the end take at speed 1; the report takes 3 seconds.
        speed: factor on all of them, by the share of the run's time.
        guess: factor on what was measured before the first step.
        a_pass: steps of a pass over the training images.
    """

    def __init__(
        self,
        clock: Clock,
        minutes: float,
        costs: Costs,
        speed: Callable[[float], float] = lambda share: 1.0,
        guess: float = 1.0,
        a_pass: int = 46,
        start: float = 8.0,
    ) -> None:
        self.clock, self.seconds, self.speed = clock, 60 * minutes, speed
        self.pace = pace_of(float(minutes), a_pass, clock.now, costs.scores / costs.epoch)
        self.began, self.training, self.plans = clock.now, 0.0, 0
        clock.now += start
        self.pace.begin(Costs(guess * costs.step, guess * costs.epoch, guess * costs.scores))
        loop, progress = self.pace.loop, self.pace.loop.progress
        while loop.step < loop.steps:
            while progress.steps < self.pace.order.steps and loop.step < loop.steps:
                self.training += self.take(costs.step)
                loop.step, progress.steps = loop.step + 1, progress.steps + 1
                self.pace.stepped()
                planned = self.pace.planned()
                self.plans += planned != loop.steps
                loop.steps = planned
            began, progress.steps = clock.now, 0
            self.take(costs.epoch)
            self.pace.epoch_ended(began, clock.now, clock.now)
        self.take(costs.scores + 3.0)
        self.took = clock.now - self.began

    def take(self, seconds: float) -> float:
        self.clock.slower = self.speed((self.clock.now - self.began) / self.seconds)
        seconds *= self.clock.slower
        self.clock.now += seconds
        return seconds

    @property
    def overrun(self) -> float:
        """As a share of what is allowed: 5 %, or 5 seconds."""
        return (self.took - self.seconds) / max(5.0, 0.05 * self.seconds)


USUAL = Costs(step=0.3, epoch=3.5, scores=22.0)
SPEEDS: dict[str, Callable[[float], float]] = {
    "steady": lambda share: 1.0,
    "half as fast from the middle on": lambda share: 1.0 if share < 0.5 else 2.0,
    "three times slower for a while": lambda share: 3.0 if 0.2 < share < 0.6 else 1.0,
    "twice as fast after a tenth": lambda share: 1.0 if share < 0.1 else 0.5,
}


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS)
@pytest.mark.parametrize("guess", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("minutes", [2, 5, 20])
def test_a_run_ends_in_time_and_trains_most_of_it(
    clock: Clock, minutes: float, guess: float, speed: Callable[[float], float]
) -> None:
    run = Machine(clock, minutes, USUAL, speed, guess)
    assert run.overrun <= 1
    if minutes >= 20 or (minutes >= 5 and speed(0.5) <= 1):  # scores that became slower fill 25 % of 5 minutes
        assert run.training >= 0.85 * run.took


@pytest.mark.parametrize("costs", [Costs(0.01, 0.3, 1.0), Costs(6.0, 2.0, 10.0), Costs(0.5, 20.0, 22.0)], ids=str)
@pytest.mark.parametrize("minutes", [1, 20])
def test_a_plan_that_holds_stays(clock: Clock, minutes: float, costs: Costs) -> None:
    run = Machine(clock, minutes, costs)
    assert run.overrun <= 1
    assert run.plans == 0
    if minutes >= 5:
        assert run.training >= 0.85 * run.took


@pytest.mark.parametrize(("minutes", "costs"), [*product([1, 2, 5], [Costs(0.03, 0.36, 0.4)]), (2, USUAL), (5, USUAL)])
def test_a_few_slow_seconds_do_not_end_a_run(clock: Clock, minutes: float, costs: Costs) -> None:
    def stalled(share: float) -> float:  # for 10 seconds, as where two programs have the same processors
        return 20.0 if 20 <= share * 60 * minutes < 30 else 1.0

    run = Machine(clock, minutes, costs, stalled, a_pass=30)
    assert run.overrun <= 1
    assert run.took >= 0.9 * 60 * minutes


@pytest.mark.parametrize("minutes", [5, 15])
def test_a_slow_minute_costs_little_more_than_itself(clock: Clock, minutes: float) -> None:
    def stalled(share: float) -> float:
        return 10.0 if 0.22 < share < 0.29 else 1.0

    steady, run = (Machine(clock, minutes, Costs(0.7, 10.0, 40.0), speed) for speed in (lambda share: 1.0, stalled))
    assert run.overrun <= 1
    assert run.pace.loop.step >= 0.8 * steady.pace.loop.step


def test_scores_that_become_slower_are_expected_as_slow_as_val_last_was(clock: Clock) -> None:
    pace = pace_of(10, 46, clock.now, all_pixels=4.0)
    pace.begin(USUAL)
    for seconds in (2.0, 6.0, 2.0):
        began, scored, clock.now = clock.now, clock.now + seconds, clock.now + seconds + 1.0
        pace.epoch_ended(began, scored, scored)  # the observers take a second
        assert pace.costs.scores == 4 * seconds
        assert pace.costs.epoch == seconds + 1


def test_the_report_is_given_more_time_where_a_processor_has_become_slower(clock: Clock) -> None:
    pace = pace_of(2, 46, clock.now)
    pace.begin(USUAL)
    clock.slower = 9.0
    pace.epoch_ended(clock.now, clock.now, clock.now)
    assert pace.costs.report == 5 * REPORT


def test_a_time_in_which_no_step_fits_is_refused(clock: Clock) -> None:
    with pytest.raises(
        ConfigError, match=r"train.minutes = 1: .* about 1\.6 minutes, so no step fits; give .* 1\.8, or"
    ):
        Machine(clock, 1, Costs(1.0, 20.0, 60.0))


@pytest.mark.timeout(10)
def test_a_very_long_time_is_planned_at_once(clock: Clock) -> None:
    pace = pace_of(1e9, 46, clock.now, max_steps=4)
    pace.begin(USUAL)
    assert pace.loop.steps == 4
    pace.loop.step = pace.loop.progress.steps = 1
    assert pace.planned() == 4


@pytest.mark.parametrize("a_pass", [5, 1000])  # which takes 1 second, or 200
def test_the_first_epoch_ends_in_the_first_half_as_it_shows_what_observers_take(clock: Clock, a_pass: int) -> None:
    pace = pace_of(1, a_pass, clock.now)
    pace.begin(Costs(0.2, 6.0, 2.0))  # whose scores would be a twentieth of two minutes
    assert 15 <= 0.2 * pace.order.steps <= 25


class Slow(torch.nn.Module):
    """The tiny network; its forward pass takes as long as the clock is told."""

    def __init__(self, inner: torch.nn.Module, clock: Clock, seconds: Callable[[], float]) -> None:
        super().__init__()
        self.inner, self.clock, self.seconds = inner, clock, seconds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.clock.now += self.seconds() if self.training else 0.125  # binary fractions add up exactly
        result: torch.Tensor = self.inner(images)
        return result


@pytest.fixture
def slow(make_job: MakeJob, clock: Clock, tiny_net: Any) -> MakeJob:
    """A job whose step takes a second, and after ``change`` seconds ``later`` seconds."""

    def make(
        folder: str = "run",
        later: float = 1.0,
        fail_at: float = float("inf"),
        elapsed: float = 0.0,
        change: float = 30.0,
        **train: Any,
    ) -> TrainerInputs:
        began = clock.now - elapsed

        def seconds() -> float:
            if clock.now - began > fail_at:
                raise RuntimeError("a cable was pulled")
            return 1.0 if clock.now - began < change else later

        torch.manual_seed(0)
        train = {"minutes": 1.0, "epochs": None, **train}
        record = {"config": {"train": train}}
        return make_job(folder, {"model": Slow(tiny_net(), clock, seconds), "record": record}, **train)

    return make


def read(folder: Path, name: str = "run.json") -> Any:
    return json.loads((folder / name).read_text())


def lines(folder: Path) -> list[Any]:
    """What each epoch came to, without the time."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["val"], line["train"]["loss"], line["train"]["lr"]) for line in found]


def test_the_plan_stands_in_the_record_and_is_kept(slow: MakeJob, clock: Clock) -> None:
    job = slow()
    began = clock.now
    result = train_and_evaluate(job)
    assert 50 <= result.seconds == clock.now - began <= 60
    plan, epochs = read(job.folder)["plan"], lines(job.folder)
    assert epochs[-1][0] == plan["steps"] >= 45
    assert plan["costs"]["step"] == 1.0
    assert plan["epoch"] > 2  # an epoch of a pass would be scored all the time
    assert len(epochs) == -(-plan["steps"] // plan["epoch"])


@pytest.mark.parametrize("limit", [{"epochs": 3}, {"max_steps": 6}])
def test_with_another_limit_whichever_is_first_counts(slow: MakeJob, limit: dict[str, int]) -> None:
    result = train_and_evaluate(slow(minutes=5.0, **limit))
    assert read(result.folder)["plan"]["steps"] == 6  # of 2 an epoch
    result = train_and_evaluate(slow("short", minutes=0.3, **limit))
    assert 0 < read(result.folder)["plan"]["steps"] < 18


def test_a_run_that_becomes_slower_is_shortened_and_ends_in_time(slow: MakeJob, clock: Clock) -> None:
    job = slow(later=3.0)
    began = clock.now
    train_and_evaluate(job)
    assert clock.now - began <= 63
    steps, *_, rate = lines(job.folder)[-1]
    assert steps < read(job.folder)["plan"]["steps"]
    assert rate < 0.2 * job.train.lr  # the schedule ends where the run does


def test_a_run_that_loses_most_of_its_steps_says_so(slow: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    train_and_evaluate(slow("well"))
    assert "slower" not in capsys.readouterr().err
    train_and_evaluate(slow(later=20.0, change=8.0))
    planned, done = read(slow().folder)["plan"]["steps"], lines(slow().folder)[-1][0]
    assert 2 * done < planned
    said = f"the machine has become slower: {done} steps fit into train.minutes, not {planned}; close other programs"
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("minutes", [3, 10])
def test_observers_that_take_long_are_called_seldom_and_counted_at_the_end(
    slow: MakeJob, clock: Clock, minutes: float
) -> None:
    def notify(event: str, **_arguments: Any) -> None:
        clock.now += {"segkit_epoch_ended": 6.0, "segkit_run_ended": 20.0}.get(event, 0.0)

    began = clock.now
    result = train_and_evaluate(slow(minutes=float(minutes), later=0.5), notify=notify)
    took, epochs = clock.now - began, (result.folder / "metrics.jsonl").read_text().splitlines()
    assert took <= 63 * minutes
    assert sum(json.loads(line)["train"]["seconds"] for line in epochs) >= (0.85 if minutes > 5 else 0.7) * took


def test_metrics_that_take_long_are_shown_the_floor_in_time(slow: MakeJob, clock: Clock) -> None:
    class Metric:
        def update(self, logits: torch.Tensor, target: torch.Tensor) -> None:
            clock.now += 5.0

        def compute(self) -> float:
            return 0.5

        reset = merge = lambda self, *_: None

    began = clock.now
    train_and_evaluate(replace(slow(minutes=2.0), metrics={"slow": Metric()}))
    assert 100 <= clock.now - began <= 126


def test_the_time_of_scores_is_that_of_small_images_and_large_ones(
    make_job: MakeJob, clock: Clock, tiny_net: Any, halves: Any
) -> None:
    class Sizes(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            factor = 1 if index < self.count // 2 else 10
            image, mask = sample.image.repeat(1, factor, factor), sample.mask.repeat(factor, factor)
            return sample._replace(image=image, mask=mask)

    class Pixels(Slow):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.clock.now += 1.0 if self.training else 0.05 * len(images) + 1e-6 * images.numel()
            result: torch.Tensor = self.inner(images)
            return result

    splits = {"train": Sizes(8), "val": Sizes(20, 100)}
    job = make_job("run", {"model": Pixels(tiny_net(), clock, lambda: 1.0), "splits": splits}, max_steps=2)
    costs = read(train_and_evaluate(job).folder)["plan"]["costs"]
    assert costs["scores"] == pytest.approx(28 * 0.05 + 1e-6 * 3 * 12 * 16 * 14 * 101, rel=0.2)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_twelve_bands_are_trained_on_in_time(
    make_job: MakeJob, clock: Clock, tiny_net: Any, halves: Any, workers: int
) -> None:
    class Bands(halves):  # type: ignore[misc]
        channels = tuple(f"band {number}" for number in range(1, 13))

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(image=100 * sample.image.repeat(4, 1, 1).float())

    began, model = clock.now, Slow(tiny_net(in_channels=12), clock, lambda: 1.0)
    splits = {"train": Bands(8), "val": Bands(4, 100)}
    job = make_job("run", {"model": model, "splits": splits}, minutes=1.0, epochs=None, workers=workers)
    result = train_and_evaluate(job)
    assert 50 <= clock.now - began <= 63
    assert result.splits["val"]["mean_iou"] > 0.9
    assert len(read(job.folder, "config.json")["normalisation"]["mean"]) == 12


@pytest.mark.parametrize("later", [1.0, 3.0])
@pytest.mark.parametrize("fail_at", [20.0, 38.0])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    slow: MakeJob, clock: Clock, later: float, fail_at: float
) -> None:
    whole = train_and_evaluate(slow("whole", later)).folder
    with pytest.raises(RuntimeError, match="cable"):
        train_and_evaluate(slow("stopped", later, fail_at, checkpoint_minutes=0.01))
    clock.now = 9000.0  # the next morning; the time that was used counts
    stopped = whole.with_name("stopped")
    elapsed = torch.load(stopped / "last.pt", weights_only=True)["pace"]["seconds"]
    assert abs(elapsed - fail_at) <= 3
    train_and_evaluate(slow("stopped", later, elapsed=elapsed), resume=True)
    assert read(stopped)["plan"]["epoch"] == read(whole)["plan"]["epoch"]
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert lines(stopped) == lines(whole)


@pytest.mark.parametrize(("epoch", "change"), [(1, 40.0), (2, 200.0)])  # the first one makes the next ones longer
def test_a_run_that_is_killed_as_an_epoch_begins_and_planned_anew_is_resumed_bit_for_bit(
    slow: MakeJob, clock: Clock, monkeypatch: pytest.MonkeyPatch, epoch: int, change: float
) -> None:
    def notify(event: str, **arguments: Any) -> None:
        clock.now += (6.0 if arguments["epoch"] == 1 else 4.0) if event == "segkit_epoch_ended" else 0.0

    def run_epoch(loop: TrainingLoop, *arguments: Any) -> dict[str, Any]:
        if loop.step == steps[epoch - 1]:
            raise RuntimeError("a cable was pulled")
        return real(loop, *arguments)

    real = TrainingLoop.run_epoch
    how: dict[str, Any] = {"later": 2.0, "change": change, "minutes": 10.0}  # slower after the kill
    whole = train_and_evaluate(slow("whole", **how), notify=notify).folder
    steps = [step for step, *_ in lines(whole)]
    assert len(steps) > epoch
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run_epoch", run_epoch)
        with pytest.raises(RuntimeError, match="cable"):
            train_and_evaluate(slow("stopped", **how), notify=notify)
    stopped = whole.with_name("stopped")
    state = torch.load(stopped / "last.pt", weights_only=True)
    assert state["step"] == steps[epoch - 1]
    assert state["pace"]["seconds"] < change
    assert state["pace"]["steps"] > steps[-1]
    clock.now = 9000.0
    train_and_evaluate(slow("stopped", elapsed=state["pace"]["seconds"], **how), resume=True, notify=notify)
    assert lines(stopped) == lines(whole)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_more_minutes_go_on_with_a_finished_run(slow: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    first = read(train_and_evaluate(slow(minutes=0.5)).folder)["plan"]["steps"]
    train_and_evaluate(slow(minutes=1.0), resume=True)
    assert "train.minutes was 0.5 and is 1.0: the learning rate schedule changes" in capsys.readouterr().err
    assert read(slow().folder)["plan"]["steps"] > 1.8 * first


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [({"epochs": 1}, {"epochs": 3}, 138), ({}, {"max_steps": 50}, 50), ({"max_steps": 50}, {"max_steps": 70}, 70)],
)
def test_other_epochs_and_steps_count_when_a_run_is_resumed(
    clock: Clock, before: dict[str, int], after: dict[str, int], steps: int
) -> None:
    first, resumed = (pace_of(10, 46, clock.now, **limits) for limits in (before, after))
    first.begin(USUAL)
    resumed.load_state_dict(first.state_dict())
    assert resumed.loop.steps == steps


def test_a_run_says_first_what_it_will_take(slow: MakeJob, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    job = slow(minutes=None, epochs=6)
    with open_trainer(job) as trainer:
        trainer.plan()
        assert trainer.expected().startswith("expected: about 22 s, ")  # 12 steps, scores, and the report
    assert not job.folder.exists()
    began = clock.now
    train_and_evaluate(slow(minutes=None, epochs=6))
    out = capsys.readouterr().out
    said = re.search(r"expected: about (\d+) s, \d\.\d GiB of memory, 0 MiB on the disk\n", out)
    assert said
    assert out.index(said[0]) < out.index("  1/6")
    assert int(said[1]) == pytest.approx(clock.now - began + REPORT, abs=3)


def test_the_bar_tells_the_time_left_for_the_run(slow: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda self, text, refresh: told.append(text))
    train_and_evaluate(slow(minutes=None, epochs=4, repeat=5, log_every=5))
    left = [text.partition(", ")[2].partition(", ")[2] for text in told if "left" in text]
    assert left[:2] == ["41 s left of the run", "36 s left of the run"]


def test_a_plan_that_grows_in_a_short_epoch_makes_it_a_whole_one(
    slow: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(pace: Pace, costs: Costs) -> None:
        pace.costs, pace.order.steps, pace.loop.steps = costs, 4, 3  # of 4 an epoch

    monkeypatch.setattr(Pace, "begin", begin)
    monkeypatch.setattr(Pace, "planned", lambda pace: 6 if pace.loop.step >= 2 else 3)
    folder = train_and_evaluate(slow()).folder
    assert [step for step, *_ in lines(folder)] == [4, 6]  # as a resumed run has them
