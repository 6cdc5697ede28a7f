"""A run that is killed at any moment goes on to what it would have come to, bit by bit."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

KILL = "send(signal.SIGKILL)"
# a call, counted from the start of the process -> the moment; there are 4 steps an epoch, and 3 epochs
MOMENTS = {
    "before the first step": f"at(Loop, 'train_step', 1, {KILL})",
    "after the first step": f"at(Loop, 'train_step', 1, {KILL}, after=True)",
    "in the midst of an epoch": f"at(Loop, 'train_step', 7, {KILL})",
    "in a step": f"at(torch.optim.AdamW, 'step', 6, {KILL})",
    "after the last step of an epoch": f"at(Loop, 'train_step', 8, {KILL}, after=True)",
    "in validation": f"at(scorer, 'evaluate', 2, {KILL})",
    "after validation": f"at(scorer, 'evaluate', 2, {KILL}, after=True)",
    "before an epoch's checkpoint": f"at(checkpoint, 'save', 3, {KILL})",
    "while it is read again": f"at(checkpoint, '_damaged', 3, {KILL})",
    "before the one before has its name": f"at(checkpoint, 'link', 3, {KILL})",
    "before the best has its name": f"at(checkpoint, 'link', 2, {KILL})",
    "after an epoch's checkpoint": f"at(checkpoint, 'save', 3, {KILL}, after=True)",
    "after the last step": f"at(Loop, 'train_step', 12, {KILL}, after=True)",
    "in the last scores": f"at(scorer, 'evaluate', 5, {KILL})",
    "before the result": f"at(fit.record, 'write_result', 1, {KILL})",
}


@pytest.mark.fault("F15")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("minutes", [1000.0, 1e-9], ids=["a checkpoint an epoch", "a checkpoint a step"])
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
    killed = place.start("train.checkpoint_minutes=1e-9", before=MOMENTS["in validation"], env=everyone)
    assert killed.wait() == -signal.SIGKILL, killed.err
    place.run("--resume", env=everyone)
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
@pytest.mark.slow
def test_thirty_kills_at_random_moments(place: Any, whole: Path) -> None:
    """Whatever is on the disk at any moment can be resumed, by the same command each time."""
    chance = random.Random(0)
    kills, resumed = 0, 0
    while kills < 30:
        folder = place.path(f"run{kills}")
        name = folder.name
        # half of them write all the time, so that most kills are in the midst of a save
        minutes = chance.choice([1000.0, 1e-9])
        process = place.start(f"train.checkpoint_minutes={minutes}", to=name)
        steps = chance.randrange(13)  # the kill comes a random moment after this many steps
        process.until(lambda steps=steps, name=name, process=process: process.ended() or _steps(place, name) >= steps)
        pause = chance.uniform(0, 0.05)
        process.until(_after(pause, process))
        if not process.ended():
            process.send(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        if (folder / "result.json").exists() and process.status == 0:
            continue
        begun = (folder / "last.pt").exists()
        resumed += begun
        place.run(f"train.checkpoint_minutes={minutes}", *(["--resume"] if begun else []), to=name)
        place.assert_same(whole, name)
    assert resumed >= 20


def _steps(place: Any, name: str) -> int:
    log = place.folder / f"{name}.seen"
    return len(log.read_text().splitlines()) if log.exists() else 0


def _after(seconds: float, process: Any) -> Any:
    import time

    end = time.monotonic() + seconds
    return lambda: process.ended() or time.monotonic() > end
