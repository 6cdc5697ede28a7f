"""A run that is killed at any moment goes on to what it would have come to, bit by bit."""

from __future__ import annotations

import json
import random
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from segkit.engine import checkpoint

KILL = "send(signal.SIGKILL)"
# a call, counted from the start of the process -> the moment; there are 4 steps an epoch, and 3 epochs
MOMENTS = {
    "before the first step": f"at(TrainingLoop, 'train_step', 1, {KILL})",
    "after the first step": f"at(TrainingLoop, 'train_step', 1, {KILL}, after=True)",
    "in the midst of an epoch": f"at(TrainingLoop, 'train_step', 7, {KILL})",
    "in a step": f"at(torch.optim.AdamW, 'step', 6, {KILL})",
    "after the last step of an epoch": f"at(TrainingLoop, 'train_step', 8, {KILL}, after=True)",
    "in validation": f"at(evaluate.Evaluator, 'evaluate', 2, {KILL})",
    "after validation": f"at(evaluate.Evaluator, 'evaluate', 2, {KILL}, after=True)",
    "before an epoch's checkpoint": f"at(CheckpointManager, 'save', 2, {KILL})",
    "while it is read again": f"at(checkpoint, 'refuse_damage', 4, {KILL})",
    "between the names of two": f"""
from pathlib import Path
def replace(self, target, real=Path.replace):
    if self.name.startswith(".last.pt") and target.with_name("previous.pt").exists():
        {KILL}()
    return real(self, target)
Path.replace = replace
""",
    "before the best is written": f"at(checkpoint, 'save', 5, {KILL})",
    "after an epoch's checkpoint": f"at(CheckpointManager, 'save', 2, {KILL}, after=True)",
    "after the last step": f"at(TrainingLoop, 'train_step', 12, {KILL}, after=True)",
    "in the last scores": f"at(evaluate.Evaluator, 'evaluate', 5, {KILL})",
    "before the result": f"at(trainer.run_folder, 'write_result', 1, {KILL})",
}


QUICK = {  # a moment of each kind; all of them take a minute
    (1000.0, "before the first step"),
    (1000.0, "in validation"),
    (1000.0, "between the names of two"),
    (1e-9, "in a step"),
    (1e-9, "while it is read again"),
    (1e-9, "before the result"),
}
KILLS = [
    pytest.param(minutes, moment, id=f"{moment}, a checkpoint {often}", marks=[pytest.mark.slow] * (each not in QUICK))
    for minutes, often in ((1000.0, "an epoch"), (1e-9, "a step"))
    for moment in MOMENTS
    for each in [(minutes, moment)]
]


@pytest.mark.fault("F15")
@pytest.mark.parametrize(("minutes", "moment"), KILLS)
def test_a_kill_at_any_moment_changes_nothing(place: Any, whole: Path, moment: str, minutes: float) -> None:
    """Weights, optimizer, average, schedule, samples and what is logged, as if there had been no kill."""
    often = f"train.checkpoint_minutes={minutes}"
    killed = place.start(often, before=MOMENTS[moment])
    assert killed.wait() == -signal.SIGKILL, killed.err
    resumed = place.run(often, "--resume")
    assert "resumed after epoch" in resumed.out
    place.assert_same(whole)
    assert not list(place.path().glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.fault("F15")
def test_observers_hear_of_a_run_that_was_killed_and_went_on(place: Any, whole: Path) -> None:
    everyone = {"OBSERVERS": "1"}
    options = "train.checkpoint_minutes=1e-9", "output.samples=1"
    killed = place.start(*options, before=MOMENTS["in validation"], env=everyone)
    assert killed.wait() == -signal.SIGKILL, killed.err
    place.run(*options, "--resume", env=everyone)
    place.assert_same(whole)
    assert {"report.html", "samples.gif", "tensorboard"} <= {path.name for path in place.path().iterdir()}


@pytest.mark.parametrize("minutes", [0.0005, 1e-9], ids=["seldom", "often"])
def test_what_a_kill_costs_is_bounded(place: Any, whole: Path, minutes: float) -> None:
    """``train.checkpoint_minutes``: with one a step, no step is made twice."""
    killed = place.start(f"train.checkpoint_minutes={minutes}", before=MOMENTS["in the midst of an epoch"])
    assert killed.wait() == -signal.SIGKILL
    place.run(f"train.checkpoint_minutes={minutes}", "--resume")
    place.assert_same(whole)
    steps = len((place.folder / "run.seen").read_text().splitlines())
    assert steps == 12 if minutes < 1e-6 else steps >= 12


@pytest.mark.fault("F01")
@pytest.mark.parametrize("number", [6, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1000)])])
def test_kills_at_random_moments(place: Any, whole: Path, number: int) -> None:
    """Whatever is on the disk at any moment can be resumed, by the same command each time."""
    chance = random.Random(0)
    kills, resumed = 0, 0
    for attempt in count():
        if kills == number:
            break
        name = f"run{attempt}"
        # half of them write all the time, so that most kills are in the midst of a save
        minutes = chance.choice([1000.0, 1e-9])
        process = place.start(f"train.checkpoint_minutes={minutes}", to=name)
        steps = chance.randrange(13)  # the kill comes a random moment after this many steps
        while not process.ended() and _steps(place, name) < steps:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        process.send(signal.SIGKILL)
        if process.wait() == 0:  # it was quicker
            continue
        assert process.status == -signal.SIGKILL, process.err
        kills += 1
        begun = any((place.path(name) / each).exists() for each in ("last.pt", "previous.pt"))
        resumed += begun
        place.run(f"train.checkpoint_minutes={minutes}", *(["--resume"] if begun else []), to=name)
        place.assert_same(whole, name)
    assert resumed >= number // 2


def _steps(place: Any, name: str) -> int:
    log = place.folder / f"{name}.seen"
    return len(log.read_text().splitlines()) if log.exists() else 0


CLOCK = """
class Clock:  # a step takes a second, and from the 24th on two; scoring a split takes one
    now = float(os.getpid())
    monotonic = perf_counter = process_time = lambda self: self.now
clock = Clock()
for module in (pace, trainer, checkpoint, sys.modules["segkit.engine.step"], sys.modules["segkit.signals"]):
    module.time = clock
def train_step(self, batch, real=TrainingLoop.train_step):
    clock.now += 1.0 if self.step < 24 else 2.0
    return real(self, batch)
TrainingLoop.train_step = train_step
def evaluated(self, *arguments, real=evaluate.Evaluator.evaluate, **options):
    clock.now += 1.0
    return real(self, *arguments, **options)
evaluate.Evaluator.evaluate = evaluated
"""
TIMED = ("train.epochs=none", "train.minutes=1.0")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory, nursery: Any, place_class: Any) -> Path:
    """The folder of a run of a given time that nothing has happened to."""
    place = place_class(tmp_path_factory.mktemp("timed"), nursery)
    place.run(*TIMED, before=CLOCK)
    folder: Path = place.path()
    return folder


@pytest.mark.fault("F08", "F15")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("minutes", [1000.0, pytest.param(1e-9, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("number", "step"),  # before the machine becomes slower, and while it is
    [
        (signal.SIGINT, 14),
        (signal.SIGKILL, 30),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((signal.SIGINT, 30), (signal.SIGKILL, 14))),
    ],
)
def test_a_run_of_a_given_time_that_is_stopped_or_killed_changes_nothing(
    place: Any, timed: Path, number: signal.Signals, step: int, minutes: float, workers: int
) -> None:
    """What is planned anew after it too: a clock that the steps turn tells both runs the same."""
    options = *TIMED, f"train.checkpoint_minutes={minutes}", f"train.workers={workers}"
    moment = f"at(TrainingLoop, '_forward_backward', {step}, send({int(number)}))"
    stopped = place.start(*options, before=CLOCK + moment)
    assert stopped.wait() == (130 if number == signal.SIGINT else -number), stopped.err
    place.run(*options, "--resume", before=CLOCK)
    plans = [json.loads((folder / "run.json").read_text())["plan"] for folder in (timed, place.path())]
    place.assert_same(timed)
    assert plans[0]["steps"] > checkpoint.load(timed / "last.pt")["step"] > 30  # it was shortened
    assert plans[0]["epoch"] > 4
