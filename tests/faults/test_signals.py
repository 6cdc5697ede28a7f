"""SIGTERM and Ctrl-C: the run ends soon, says what it kept, and goes on from there as if it had not been stopped."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from segkit.engine import checkpoint

IN_TORCH_SAVE = """
from segkit.files import write_atomically
class File:
    def __init__(self, file):
        self.file = file
    def write(self, data):
        return self.file.write(data)
    def flush(self):
        self.file.flush()
checkpoint.write_atomically = lambda path, write, **how: write_atomically(path, lambda file: write(File(file)), **how)
CheckpointManager.due = lambda self, ahead=0.0: self.loop.step == 6
at(CheckpointManager, 'due', 7, lambda: at(File, 'write', 3, SEND))
"""
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
# where the signal comes -> the steps that are kept
MOMENTS = {
    "in the first step": ("at(TrainingLoop, '_forward_backward', 1, SEND)", 1),
    "in the midst of an epoch": ("at(TrainingLoop, '_forward_backward', 6, SEND)", 6),
    "between two steps": ("at(trainer.Trainer, '_between', 6, SEND)", 6),
    "in the last step of an epoch": ("at(TrainingLoop, '_forward_backward', 8, SEND)", 8),
    "in validation": ("at(evaluate.Evaluator, '_batch_values', 4, SEND)", 8),
    "in an observer": ("at(trainer.Trainer, '_notify', 3, SEND)", 8),
    "between the scores and the save": ("at(TrainingLoop, 'end_epoch', 3, SEND)", 8),
    "in a save": ("at(checkpoint, 'refuse_damage', 4, SEND)", 8),
    "in torch.save, between two steps": (IN_TORCH_SAVE, 6),
    "in the scores at the end": ("at(evaluate.Evaluator, 'evaluate', 5, SEND)", 12),
}


QUICK = {
    ("in the first step", "Ctrl-C"),
    ("in the midst of an epoch", "SIGTERM"),
    ("in validation", "SIGTERM"),
    ("in torch.save, between two steps", "SIGTERM"),
    ("between the scores and the save", "Ctrl-C"),
}
SIGNALS = [
    pytest.param(moment, number, id=f"{moment}, {name}", marks=[pytest.mark.slow] * ((moment, name) not in QUICK))
    for moment in MOMENTS
    for name, number in (("SIGTERM", signal.SIGTERM), ("Ctrl-C", signal.SIGINT))
]


@pytest.mark.fault("F08", "F10", "F11")
@pytest.mark.parametrize(("moment", "number"), SIGNALS)
def test_a_signal_ends_a_run_that_goes_on_as_if_it_had_not(
    place: Any, whole: Path, moment: str, number: signal.Signals
) -> None:
    """The step is finished, the state saved, the status is that of a shell, and one line says it."""
    code, steps = MOMENTS[moment]
    stopped = place.start(before=code.replace("SEND", f"send({int(number)})"))
    assert stopped.wait() == STATUS[number]
    stopped.assert_left_within(10, since=place.folder / "sent")
    told = [line for line in stopped.err.splitlines() if line]
    assert len(told) == 1, told
    assert told[0].startswith("segkit: interrupted; " if number == signal.SIGINT else "segkit: stopped by SIGTERM; ")
    assert f"saved in {place.path()} after epoch " in told[0]
    assert told[0].endswith("--resume continues from there")
    assert checkpoint.load(place.path() / "last.pt")["step"] == steps
    place.run("--resume")
    place.assert_same(whole)
    assert len((place.folder / "run.seen").read_text().splitlines()) == 12  # no step was made twice


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    "moment",
    [
        "at(scan, '_read_split', 1, SEND)",
        "at(inputs, 'check', 1, SEND)",
        "pace.Pace.rehearse = timed_before; at(TrainingLoop, '_forward_backward', 2, SEND)",
    ],
    ids=["scan", "checks", "a step that is timed"],
)
def test_before_the_first_step_there_is_nothing_to_keep(place: Any, moment: str) -> None:
    """A signal in the label scan ends at once; the next start is a new one."""
    stopped = place.start(before=moment.replace("SEND", "send(signal.SIGTERM)"))
    assert stopped.wait() == 143
    stopped.assert_left_within(10, since=place.folder / "sent")
    assert stopped.err == "segkit: stopped by SIGTERM; nothing to keep\n"
    assert not (place.path() / "last.pt").exists()
    place.run("train.epochs=1")


@pytest.mark.fault("F09")
def test_a_signal_to_the_whole_group_does_not_lose_the_workers(place: Any, whole: Path) -> None:
    """A scheduler tells every process; loaders work on until the step is done, and none hinders the end."""
    group = "send(signal.SIGTERM, group=True)"
    stopped = place.start("train.workers=2", before=f"at(TrainingLoop, '_forward_backward', 6, {group})")
    assert stopped.wait() == 143, stopped.err
    stopped.assert_left_within(10, since=place.folder / "sent")
    assert stopped.err.count("\n") == 1, stopped.err
    assert checkpoint.load(place.path() / "last.pt")["step"] == 6
    place.run("--resume", "train.workers=2")
    place.assert_same(whole)


@pytest.mark.fault("F10")
@pytest.mark.parametrize("number", STATUS, ids=["SIGTERM", "Ctrl-C", "SIGHUP"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_signal_while_a_batch_is_waited_for(place: Any, number: signal.Signals, workers: int) -> None:
    """The first batch takes for ever; the run ends all the same, and its workers with it."""
    slow = """
from segkit.data import loader
def never(self, key, real=loader.TrainBatches.__getitem__):
    open("waiting", "w").close()
    while True:  # not one long sleep: a signal just before a system call is seen by Python when that ends
        time.sleep(0.05)
loader.TrainBatches.__getitem__ = never
"""
    stopped = place.start(f"train.workers={workers}", before=slow)
    stopped.until((place.folder / "waiting").exists)
    stopped.send(number, group=True)
    assert stopped.wait() == STATUS[number], stopped.err
    stopped.assert_left_within(10, since=place.folder / "waiting")
    assert "after epoch 0 of 3; --resume continues from there" in stopped.err


SWALLOWED = {
    "forking for training": ("os.register_at_fork(after_in_parent=nth(2))", ["train.workers=2"], 0),
    "forking for validation": ("os.register_at_fork(after_in_parent=nth(4))", ["train.workers=2"], 4),
    "a dataset, in training": (
        "at(TrainingLoop, 'run_epoch', 1, lambda: at(dataset.ShapesDataset, '__getitem__', 6, swallowing))",
        [],
        2,
    ),
    "a dataset, in validation": (
        "at(TrainingLoop, 'run_epoch', 1, lambda: at(dataset.ShapesDataset, '__getitem__', 18, swallowing))",
        [],
        4,
    ),
    "an observer of the last epoch": ("at(trainer.Trainer, '_notify', 2, swallowing)", ["train.epochs=1"], 4),
}


QUICK_TOO = {"forking for training", "a dataset, in validation"}


@pytest.mark.fault("F08")
@pytest.mark.parametrize(
    "moment", [pytest.param(each, marks=[pytest.mark.slow] * (each not in QUICK_TOO)) for each in SWALLOWED]
)
def test_a_signal_that_somebody_swallows_ends_the_run_all_the_same(place: Any, moment: str) -> None:
    """Python drops what is raised in a callback of a fork, as a bare ``except:`` of a component does."""
    code, arguments, steps = SWALLOWED[moment]
    before = f"""
from segkit_shapes import dataset
forks = []
def nth(number):
    def callback():
        forks.append(1)
        if len(forks) == number:
            os.kill(os.getpid(), signal.SIGTERM)
    return callback
def swallowing():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except:
        pass
{code}
"""
    stopped = place.start(*arguments, before=before)
    assert stopped.wait() == 143, stopped.out
    assert "--resume continues from there" in stopped.err
    assert checkpoint.load(place.path() / "last.pt")["step"] == steps


def test_a_run_that_is_complete_says_so_to_whoever_stops_it(place: Any) -> None:
    late = "at(trainer, 'final_table', 1, send(signal.SIGINT))"
    stopped = place.start("train.epochs=1", before=late)
    assert stopped.wait() == 130
    assert stopped.err == f"segkit: interrupted; the run was complete, and is in {place.path()}\n"
    assert (place.path() / "result.json").exists()


def test_signals_without_end_are_no_more_than_one(place: Any) -> None:
    """What comes while the process ends changes neither its status nor what it says."""
    stopped = place.start()
    stopped.until(lambda: (place.folder / "run.seen").exists())
    while not stopped.ended():
        stopped.send(signal.SIGTERM)
        time.sleep(0.001)
    assert stopped.wait() == 143
    assert stopped.err.count("\n") == 1, stopped.err


@pytest.mark.fault("F11")
def test_a_second_ctrl_c_leaves_at_once(place: Any) -> None:
    """Also in a step that does not end."""
    act = "lambda: (open('here', 'w').close(), [time.sleep(0.01) for _ in range(99999)])"
    endless = f"at(TrainingLoop, '_forward_backward', 2, {act})"
    stopped = place.start(before=endless)
    stopped.until((place.folder / "here").exists)
    for _ in range(5):
        stopped.send(signal.SIGTERM)  # which changes nothing after the first: schedulers send it several times
    assert not stopped.ended()
    while not stopped.ended():  # two that come at once are one to the system; the step alone takes a quarter of an hour
        stopped.send(signal.SIGINT)
        time.sleep(0.01)
    assert stopped.wait() == 130
    assert "stopped at once" in stopped.err
    assert checkpoint.load(place.path() / "last.pt")["step"] == 0  # whole, from before the first step


@pytest.mark.fault("F10")
def test_a_signal_in_the_compiler_does_not_wait_for_it(place: Any) -> None:
    """What a compiler has begun is not kept; the run has not taken a step yet."""
    compiler = """
def slow(model, **options):
    def forward(*arguments):
        open("compiling", "w").close()
        time.sleep(3600)
    return forward
torch.compile = slow
"""
    stopped = place.start("train.compile=true", before=compiler)
    stopped.until((place.folder / "compiling").exists)
    stopped.send(signal.SIGTERM)
    assert stopped.wait() == 143
    assert checkpoint.load(place.path() / "last.pt")["step"] == 0
    place.run("--resume")


def test_a_run_in_python_raises_keyboard_interrupt_and_is_kept(place: Any) -> None:
    """Whoever calls segkit.run can catch it; the handlers that were there before are there again."""
    script = """
import segkit
handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
at(TrainingLoop, '_forward_backward', 3, send(signal.SIGTERM))
try:
    segkit.run("tiny.toml", {"output.dir": "run"})
except KeyboardInterrupt as error:
    print("caught", error.kept)
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    sys.exit(7)
"""
    stopped = place.start(before=script)
    assert stopped.wait() == 7, stopped.err
    assert "caught saved in" in stopped.out
    assert checkpoint.load(place.path() / "last.pt")["step"] == 3


@pytest.mark.fault("F08")
def test_a_run_with_a_time_goes_on_as_if_it_had_not_been_stopped(place: Any, whole: Path) -> None:
    """Its plan, of one epoch in the time that there is, stands in the checkpoint."""
    given = "train.minutes=60", "train.max_steps=12"
    place.run(*given, to="uninterrupted")
    stopped = place.start(*given, before="at(TrainingLoop, '_forward_backward', 6, send(signal.SIGTERM))")
    assert stopped.wait() == 143, stopped.err
    place.run(*given, "--resume")
    place.assert_same(place.path("uninterrupted"))
