"""Several processes agree: on what is skipped, on when to end, on the statistics of layers, and on who may begin."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segkit.engine.distributed import distributed_context
from segkit.errors import ConfigError


@pytest.mark.fault("F29")
def test_a_step_that_is_bad_in_one_is_skipped_in_all(place: Any) -> None:
    """The loss is no number in the second process alone, and its gradient is one."""
    infinite = """
def spoil(self, batch, real=TrainingLoop._forward_backward):
    return real(self, batch) + (float("inf") if RANK == 1 and self.step == 5 else 0.0)
TrainingLoop._forward_backward = spoil
"""
    place.run_together(2, before=infinite)
    lines = [json.loads(line)["train"] for line in (place.path() / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [0, 1, 0]


@pytest.mark.slow
def test_layers_that_count_their_own_part_are_evaluated_alike(place: Any) -> None:
    """Without synchronised normalisation all use the first one's statistics, which are those that are kept."""
    place.run_together(2, "train.sync_batch_norm=false", "train.ema=0.0")
    process = place.start(str(place.path()), "--json", command="evaluate")
    assert process.wait() == 0, process.err
    result = json.loads((place.path() / "result.json").read_text())
    assert json.loads(process.out)["splits"] == result["splits"]
    lines = [json.loads(line)["val"] for line in (place.path() / "metrics.jsonl").read_text().splitlines()]
    assert lines[result["best_epoch"] - 1]["loss"] == result["splits"]["val"]["loss"]


@pytest.mark.slow
def test_random_numbers_differ_between_processes_and_repeat(place: Any) -> None:
    """Dropout that leaves the same places out in each process would see half as many."""
    draw = """
def drawn(self, batch, real=TrainingLoop._forward_backward):
    with open(f"{sys.argv[3]}-{RANK}".replace("output.dir=", ""), "a") as file:
        file.write(f"{torch.get_rng_state().sum().item()}\\n")
    return real(self, batch)
TrainingLoop._forward_backward = drawn
"""
    for name in ("a", "b"):
        place.run_together(2, "train.epochs=1", to=name, before=draw)
    first, second = ((place.folder / f"a-{rank}").read_text().split() for rank in (0, 1))
    assert len({*first, *second}) == len(first) + len(second) == 8
    assert first == (place.folder / "b-0").read_text().split()


DRAWING = """
import random, torch
class Drawing:
    "A metric that looks at a few pixels, drawn anew in each process, and cannot be merged."
    def reset(self): pass
    def update(self, logits, target): pass
    def compute(self): return random.random()
class Whole:
    "One of torchmetrics' kind, whose state cannot be merged."
    full_state_update = True
    def __init__(self): self.images = 0
    def reset(self): self.images = 0
    def update(self, logits, target): self.images += len(target)
    def compute(self): return float(self.images)
    def merge_state(self, other): raise RuntimeError("merge_state is not supported")
"""


@pytest.mark.slow
def test_a_metric_that_cannot_be_merged_sees_all_images(place: Any) -> None:
    (place.folder / "drawing.py").write_text(DRAWING)
    code = """
sys.path.insert(0, os.getcwd())
from drawing import Whole
check = inputs.check
def checked(job):
    job.metrics.update(whole=Whole())
    check(job)
inputs.check = checked
"""
    place.run_together(2, "train.epochs=1", before=code)
    assert json.loads((place.path() / "result.json").read_text())["splits"]["val"]["whole"] == 6.0


@pytest.mark.slow
def test_scores_that_differ_between_processes_do_not_part_them(place: Any) -> None:
    """Whether to stop early follows from the first one's scores."""
    (place.folder / "drawing.py").write_text(DRAWING)
    code = """
sys.path.insert(0, os.getcwd())
import random
from drawing import Drawing
check, count = inputs.check, []
def checked(job):
    job.metrics.update(drawing=Drawing())
    check(job)
inputs.check = checked
def otherwise(*arguments, real=evaluate.Evaluator.evaluate, **options):
    count.append(1)
    random.seed(len(count) * (7 if RANK else 3))
    return real(*arguments, **options)
evaluate.Evaluator.evaluate = otherwise
"""
    options = ("train.best=drawing", "train.best_mode=max", "train.patience=1", "train.epochs=8")
    first, _ = place.run_together(2, *options, before=code)
    assert "stopped early" in first.out


def test_a_layer_that_is_not_used_is_named(place: Any) -> None:
    """DistributedDataParallel would wait for its gradient, and tell of it by number."""
    idle = """
import functools
from segkit.model import unet
@functools.wraps(unet.UNet.__init__)
def add(self, *arguments, real=unet.UNet.__init__, **options):
    real(self, *arguments, **options)
    self.idle = torch.nn.Linear(2, 2)
unet.UNet.__init__ = add
"""
    place.run("train.epochs=1", to="alone", before=idle)
    processes = place.start_together(2, before=idle)
    assert [process.wait() for process in processes] == [2, 2]
    assert "the loss does not depend on idle.weight, idle.bias" in processes[0].err
    assert "Traceback" not in processes[0].err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"WORLD_SIZE": "x"}, "'x'"),
        ({"WORLD_SIZE": None}, "environment variable WORLD_SIZE expected"),
        ({"RANK": "first"}, "'first'"),
        ({"MASTER_PORT": "http"}, "'http'"),
    ],
)
def test_what_a_launcher_sets_wrongly_is_named(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], told: str
) -> None:
    right = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in {**right, **changed}.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match="start several processes with torchrun") as caught,
        distributed_context("cpu"),
    ):
        pass
    assert told in str(caught.value)


def test_a_port_that_is_in_use_is_named(place: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
        process = place.start(env=there)
        assert process.wait() == 1
    assert process.err.startswith("segkit: another process of the run ended or cannot be reached: ")
    assert f"port: {port}" in process.err
    assert process.err.count("\n") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_a_shell_has_closed_change_no_status(tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m segkit list {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, stdin=subprocess.DEVNULL).returncode == 0
