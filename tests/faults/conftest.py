"""Runs as processes of their own, in which a fault happens at a moment that is chosen: real signals, kills and disks.

A run is forked from a process that has imported everything already, so that it begins within milliseconds; it ends as
any other does, through Python's own end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from segkit.engine import checkpoint

CONFIG = """
[dataset]
name = "shapes"
images = [16, 6, 8]  # the least in which every class occurs in every split
size = 32

[model]
name = "unet"
width = 4
depth = 2
dropout = 0.1

[[loss]]
name = "cross_entropy"
class_weights = "inverse"

[[loss]]
name = "dice"

[augment]
crop = 24
colour = 0.5

[train]
epochs = 3
batch_size = 4
device = "cpu"
precision = "fp32"
ema = 0.9
clip_norm = 1.0
checkpoint_minutes = 1000.0

[output]
samples = 0
"""

NURSERY = """
import faulthandler, gc, json, os, signal, sys
import segkit.runs, timm.utils, torch._dynamo, segkit_losses, segkit_shapes.dataset
from segkit import datasets, losses, metrics, models
from segkit.cli import main

for registry, name in ((datasets, "shapes"), (losses, "dice"), (losses, "cross_entropy"), (models, "unet")):
    registry[name]
gc.collect()
gc.freeze()  # what is imported is not looked at again, here and in all that is forked from here
order = None
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        status = os.waitpid(order["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    if "import" in order:
        print(__import__(order["import"]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
else:
    sys.exit()
os.setsid()
for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
    os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if name != os.devnull else 0)), number)
faulthandler.register(signal.SIGUSR1, file=2)  # the stack of each thread, to whoever waits too long
os.chdir(order["folder"])
os.environ.update(order["env"])
exec(order["before"], {})
sys.argv = ["segkit", *order["arguments"]]
sys.exit(main())
"""

TOOLS = """
import os, signal, sys, time

def at(owner, name, number, act, after=False):
    "Call act before, or after, a call of owner.name; it is told which call it is."
    real, calls = getattr(owner, name), []
    def wrapper(*arguments, **options):
        calls.append(1)
        if len(calls) == number and not after:
            act()
        result = real(*arguments, **options)
        if len(calls) == number and after:
            act()
        return result
    setattr(owner, name, wrapper)

def send(number, group=False):
    return lambda: (open("sent", "w").close(), (os.killpg if group else os.kill)(os.getpid(), number))

from segkit.engine.step import TrainingLoop
from segkit.engine.checkpoint import CheckpointManager
from segkit.engine import checkpoint, distributed, evaluate, inputs, pace, trainer
import segkit.data.scan as scan, segkit.plugins, torch

timed_before, pace.Pace.rehearse = pace.Pace.rehearse, lambda *_: pace.Costs(1.0, 1.0, 1.0)  # calls are counted

if not os.environ.get("OBSERVERS"):  # reports, pictures that move and TensorBoard cost more than the run itself
    segkit.plugins.notify = lambda event, **arguments: None

log = os.environ.get("SEEN")
if log:
    def train_step(self, batch, real_step=TrainingLoop.train_step):
        with open(log, "a") as file:
            file.write(f"{self.step} {distributed.PROCESSES.rank} {' '.join(batch.names)}\\n")
        return real_step(self, batch)
    TrainingLoop.train_step = train_step
"""


PATIENCE = 120.0  # seconds after which a process hangs; it takes one or two, and more where others work too


class Process:
    """A run in a process of its own."""

    def __init__(self, nursery: subprocess.Popen[str], pid: int, out: Path, err: Path) -> None:
        self.nursery, self.pid, self._out, self._err = nursery, pid, out, err
        self.status: int | None = None
        self.ended_at = 0.0

    def send(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self) -> int:
        """The exit status, or minus the signal's number.

        The nursery waits too, so it is asked only once the process has ended.
        """
        if self.status is None:
            end = time.monotonic() + PATIENCE
            while not self.ended():
                if time.monotonic() > end:
                    self.send(signal.SIGUSR1)
                    time.sleep(1)
                    self.send(signal.SIGKILL, group=True)
                    raise AssertionError(f"the run is still there after {PATIENCE} s\n{self.err}\n{self.out}")
                time.sleep(0.005)
            self.ended_at = time.time()
            self.status = int(ask(self.nursery, {"wait": self.pid}))
        return self.status

    def assert_left_within(self, seconds: float, since: Path) -> None:
        """It has ended soon after a file was written; what it did before that, beside other work, does not count."""
        assert self.ended_at - since.stat().st_mtime < seconds

    def ended(self) -> bool:
        if self.status is not None:
            return True
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what the process brings about; that it has ended since is not the test's concern."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert not self.ended() or condition(), self.err
            assert time.monotonic() < end, self.err
            time.sleep(0.002)

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace") if self._out.is_file() else ""

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace") if self._err.is_file() else ""


def ask(nursery: subprocess.Popen[str], order: dict[str, Any]) -> str:
    assert nursery.stdin
    assert nursery.stdout
    nursery.stdin.write(json.dumps(order) + "\n")
    nursery.stdin.flush()
    answer = nursery.stdout.readline()
    assert answer, "the nursery has ended"
    return answer


@pytest.fixture(scope="session")
def nursery(heeds_signals: Callable[[], None]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_signals,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


class Place:
    """A folder with a config, in which runs are started."""

    tools = TOOLS

    def __init__(self, folder: Path, nursery: subprocess.Popen[str]) -> None:
        self.folder, self.nursery = folder, nursery
        self.processes, self.ports = list[Process](), list[socket.socket]()
        (folder / "tiny.toml").write_text(CONFIG)

    def start(
        self,
        *arguments: str,
        to: str = "run",
        before: str = "",
        out: str = "",
        err: str = "",
        command: str = "run",
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start ``segkit run`` into the folder ``to``, after the code ``before``."""
        number = len(self.processes)
        outs = [Path(out or self.folder / f"{number}.out"), Path(err or self.folder / f"{number}.err")]
        words = [command, "tiny.toml", f"output.dir={to}", *arguments] if command == "run" else [command, *arguments]
        order = {
            "out": str(outs[0]),
            "err": str(outs[1]),
            "folder": str(self.folder),
            "env": {"SEEN": str(self.folder / f"{to}.seen"), **(env or {})},
            "before": TOOLS + before,
            "arguments": words,
        }
        process = Process(self.nursery, int(ask(self.nursery, order)), *outs)
        self.processes.append(process)
        return process

    def start_together(self, size: int, *arguments: str, before: str = "", **options: Any) -> list[Process]:
        """Start a run in several processes, as torchrun does; ``before`` knows its RANK."""
        taken = socket.socket()  # until the test has ended, or somebody else would be given the port before they meet
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # they may listen there all the same
        taken.bind(("127.0.0.1", 0))
        self.ports.append(taken)
        port = taken.getsockname()[1]
        there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        code = f"RANK = int(os.environ['RANK'])\n{before}"
        return [
            self.start(*arguments, before=code, env={**there, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
            for rank in range(size)
        ]

    def import_before(self, module: str) -> None:
        """Import what runs would import one by one, as the nursery did with what every run needs."""
        ask(self.nursery, {"import": module})

    def run_together(self, size: int, *arguments: str, **options: Any) -> list[Process]:
        """Start a run in several processes, all of which must end well."""
        processes = self.start_together(size, *arguments, **options)
        for process in processes:
            assert process.wait() == 0, process.err
        return processes

    def run(self, *arguments: str, **options: Any) -> Process:
        """Start a run that must end well."""
        process = self.start(*arguments, **options)
        assert process.wait() == 0, process.err
        return process

    def clear(self) -> None:
        """End what has not ended, and give back the ports."""
        for process in self.processes:
            if not process.ended():
                process.send(signal.SIGKILL, group=True)
                process.wait()
        for port in self.ports:
            port.close()

    def path(self, name: str = "run") -> Path:
        return self.folder / name

    def assert_same(self, whole: Path, name: str = "run") -> None:
        """A run has come to the same as another one, to the last bit."""
        folders = whole, self.folder / name
        first, second = (checkpoint.load(folder / "last.pt") for folder in folders)
        for name in ("model", "ema", "optimizer", "non_finite", "progress", "step", "history"):
            assert_same(timeless(first[name]), timeless(second[name]), name)
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert results[0]["splits"] == results[1]["splits"]
        assert results[0]["best_epoch"] == results[1]["best_epoch"]
        lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in folders]
        assert [timeless(json.loads(line)) for line in lines[0]] == [timeless(json.loads(line)) for line in lines[1]]
        assert (folders[0] / "model.safetensors").read_bytes() == (folders[1] / "model.safetensors").read_bytes()
        assert seen(folders[0]) == seen(folders[1])


def seen(folder: Path) -> dict[tuple[int, int], list[str]]:
    """Which images each step of each process was of; a step that was made twice counts as it was the second time."""
    lines = [line.split() for line in folder.with_suffix(".seen").read_text().splitlines()]
    return {(int(step), int(rank)): names for step, rank, *names in lines}


@pytest.fixture(scope="session")
def images_of_steps() -> Callable[[Path], dict[int, set[str]]]:
    """Of a run's folder the images of each step, of all processes together."""

    def read(folder: Path) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for (step, _), names in seen(folder).items():
            found.setdefault(step, set()).update(names)
        return found

    return read


def timeless(value: Any) -> Any:
    """A value without what a clock said."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "images_per_second")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def assert_same(one: Any, other: Any, place: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{place}.{number}")
    else:
        assert one == other, place


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, nursery: subprocess.Popen[str]) -> Path:
    """The folder of a run that nothing has happened to."""
    place = Place(tmp_path_factory.mktemp("whole"), nursery)
    place.run()
    return place.path()


@pytest.fixture(scope="session")
def place_class() -> type[Place]:
    """For a run that several tests share."""
    return Place


@pytest.fixture
def place(tmp_path: Path, nursery: subprocess.Popen[str]) -> Iterator[Place]:
    here = Place(tmp_path, nursery)
    yield here
    here.clear()
