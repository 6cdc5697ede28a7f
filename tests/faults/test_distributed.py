"""Several processes that train together: what they come to is what one comes to, and none is left waiting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from segkit.engine import checkpoint

# AdamW makes much of a gradient that is nearly 0, and batch normalisation is that of each process on a CPU
EXACT = ("model.dropout=0.0", "model.norm=none", "train.optimizer=sgd", "train.lr=0.01")

GRADIENTS = """
import numpy as np, segkit
from segkit.engine.distributed import global_batch
from segkit.engine.distributed import distributed_context
from torch.nn.parallel import DistributedDataParallel

def gradients(distributed, loss_name):
    torch.manual_seed(0)
    model = segkit.models["unet"](num_classes=6, width=4, depth=2, norm="none").double().train()
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 24, 20, generator=draw, dtype=torch.float64)
    target = torch.randint(0, 6, (5, 24, 20), generator=draw)
    target[0, :20], target[4, :5], target[1] = 255, 255, 255  # void is spread unevenly
    loss = segkit.losses[loss_name](num_classes=6, ignore_index=255, **OPTIONS.get(loss_name, {}))
    parallel = DistributedDataParallel(model) if distributed.size > 1 else model
    mine = np.array_split(np.arange(5), distributed.size)[distributed.rank]
    with global_batch():
        value = loss(parallel(images[mine]), target[mine])
    value.backward()
    return {"loss": value.detach(), **{name: p.grad for name, p in model.named_parameters()},
            **{name: b for name, b in model.named_buffers()}}

with distributed_context("cpu") as distributed:
    found = {name: gradients(distributed, name) for name in NAMES}
    torch.save(found, f"gradients-{distributed.size}-{distributed.rank}.pt")
sys.exit()
"""
LOSSES = ("cross_entropy", "dice", "focal", "tversky", "lovasz", "ohem")


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_losses_and_gradients_are_those_of_the_whole_batch(place: Any, size: int) -> None:
    """In float64, where rounding hides nothing: each loss, in several processes of parts of unequal size."""
    weights = {"class_weights": [1.0, 2.0, 3.0, 0.5, 1.0, 1.0]}
    options = {"cross_entropy": weights, "ohem": weights, "dice": {"include_background": False}}
    code = f"NAMES, OPTIONS = {LOSSES}, {options}\n{GRADIENTS}"
    assert place.start(before=code).wait() == 0
    whole = torch.load(place.folder / "gradients-1-0.pt", weights_only=True)
    for process in place.start_together(size, before=code):
        assert process.wait() == 0, process.err
    for rank in range(size):
        found = torch.load(place.folder / f"gradients-{size}-{rank}.pt", weights_only=True)
        for loss in LOSSES:
            for name, value in whole[loss].items():
                torch.testing.assert_close(found[loss][name], value, rtol=1e-9, atol=1e-12, msg=f"{loss} {name}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, nursery: Any, place_class: Any) -> Path:
    place = place_class(tmp_path_factory.mktemp("alone"), nursery)
    place.run(*EXACT)
    return place.path()


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_of_several_is_that_of_one(place: Any, alone: Path, images_of_steps: Any, size: int) -> None:
    """The batch of the config is that of all together; scores are exactly what one process finds for these weights."""
    first, *others = place.run_together(size, *EXACT)
    assert f"in {size} processes" in " ".join(first.out.split())
    assert all(not process.out and not process.err for process in others)  # one prints
    assert images_of_steps(place.path()) == images_of_steps(alone)
    one, several = (checkpoint.load(folder / "last.pt") for folder in (alone, place.path()))
    for name, value in one["model"].items():
        torch.testing.assert_close(several["model"][name], value, rtol=1e-3, atol=1e-5, msg=name)
    lines = [
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (alone, place.path())
    ]
    for before, after in zip(*lines, strict=True):
        assert after["train"]["loss"] == pytest.approx(before["train"]["loss"], rel=1e-3)
        assert after["train"]["images"] == before["train"]["images"]
    process = place.start(str(place.path()), "--json", command="evaluate")
    assert process.wait() == 0, process.err
    again, result = json.loads(process.out)["splits"], json.loads((place.path() / "result.json").read_text())["splits"]
    assert again == result  # to the last digit, loss and all


@pytest.mark.slow
def test_only_the_first_writes(place: Any) -> None:
    forbidden = "if RANK: checkpoint.write_atomically = checkpoint.save = Path.mkdir = None\n"
    place.run_together(2, "train.epochs=2", "output.samples=1", before=f"from pathlib import Path\n{forbidden}")
    assert (place.path() / "result.json").exists()


@pytest.mark.slow
def test_accumulated_parts_are_shared_out_too(place: Any, alone: Path, images_of_steps: Any) -> None:
    place.run(*EXACT, "train.accumulate=2", to="one")
    place.run_together(2, *EXACT, "train.accumulate=2", to="two")
    assert images_of_steps(place.path("two")) == images_of_steps(alone)
    one, two = (checkpoint.load(place.path(name) / "last.pt")["model"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_too_many_processes_for_a_batch_are_refused(place: Any) -> None:
    processes = place.start_together(3, "train.batch_size=2")
    assert {process.wait() for process in processes} == {2}
    assert "train.batch_size = 2 in 1 parts" in processes[0].err
    assert "each of 3 processes needs an image" in processes[0].err


def test_a_config_that_is_wrong_is_told_by_each_process_and_data_that_is_wrong_by_one(place: Any) -> None:
    processes = place.start_together(2, "train.epoch=2")
    assert [process.wait() for process in processes] == [2, 2]
    assert [process.err.count("has no such key") for process in processes] == [1, 1]
    assert processes[1].err.startswith("segkit (process 1): ")
    processes = place.start_together(2, "dataset.images=[4,0,0]")
    assert [process.wait() for process in processes] == [2, 2]
    assert processes[0].err.startswith("segkit: ")
    assert not processes[1].err


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, nursery: Any, place_class: Any) -> Path:
    """The folder of a run in two processes that nothing has happened to."""
    place = place_class(tmp_path_factory.mktemp("together"), nursery)
    place.run_together(2)
    place.clear()
    return place.path()


@pytest.mark.fault("F12")
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on(place: Any, together: Path) -> None:
    """Soon, with a status that is not 0."""
    kill = "if RANK == 1: at(TrainingLoop, 'train_step', 6, send(signal.SIGKILL))"
    first, second = place.start_together(2, before=kill)
    assert second.wait() == -signal.SIGKILL
    assert first.wait() == 1
    assert "another process of the run ended or cannot be reached" in first.err
    assert "Traceback" not in first.err
    assert checkpoint.load(place.path() / "last.pt")["step"] == 4
    place.run_together(2, "--resume")
    place.assert_same(together)


@pytest.mark.fault("F14")
def test_what_one_process_raises_is_shown_and_nobody_waits_for_ever(place: Any) -> None:
    fail = "def fail(): raise ValueError('only here')\nif RANK == 1: at(TrainingLoop, 'train_step', 6, fail)"
    first, second = place.start_together(2, before=fail)
    assert second.wait() == 1
    assert "ValueError: only here" in second.err
    assert first.wait() == 1
    assert "another process of the run ended" in first.err


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("rank", "number"),
    [
        (1, signal.SIGTERM),
        *(
            pytest.param(rank, number, marks=pytest.mark.slow)
            for rank, number in ((0, signal.SIGTERM), (0, signal.SIGINT), (1, signal.SIGINT))
        ),
    ],
)
def test_a_signal_to_one_stops_all_after_the_same_step(place: Any, together: Path, rank: int, number: int) -> None:
    """They agree, the first one saves, and the resumed run is bit-equal to one that was not stopped."""
    send = f"if RANK == {rank}: at(TrainingLoop, '_forward_backward', 6, send({int(number)}))"
    processes = place.start_together(2, before=send)
    statuses = [process.wait() for process in processes]
    assert statuses[rank] == 128 + number
    assert statuses[1 - rank] == 128 + signal.SIGTERM
    assert "--resume continues from there" in processes[0].err
    assert not processes[1].err
    steps = checkpoint.load(place.path() / "last.pt")["step"]
    assert steps in (6, 7)  # what comes in a step is agreed on in it, or in the next one
    place.run_together(2, "--resume")
    place.assert_same(together)


@pytest.mark.slow
@pytest.mark.fault("F13", "F10")
def test_a_signal_in_validation_saves_and_ends(place: Any, together: Path) -> None:
    send = "at(evaluate.Evaluator, '_batch_values', 1, send(signal.SIGTERM))"
    processes = place.start_together(2, before=send)
    assert [process.wait() for process in processes] == [143, 143]
    assert checkpoint.load(place.path() / "last.pt")["step"] == 4
    place.run_together(2, "--resume")
    place.assert_same(together)


@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 2), (3, 2)))]
)
def test_a_run_goes_on_in_another_number_of_processes(
    place: Any, alone: Path, images_of_steps: Any, before: int, after: int
) -> None:
    """The same images in the same steps; that sums are rounded in another order is said."""
    stop = "if RANK == 0: at(TrainingLoop, '_forward_backward', 6, send(signal.SIGTERM))"
    for process in place.start_together(before, *EXACT, before=stop):
        assert process.wait() == 143, process.err
    first, *_ = place.run_together(after, *EXACT, "--resume")
    assert f"began in {before} processes and continues in {after}: images and steps are the same" in first.err
    assert images_of_steps(place.path()) == images_of_steps(alone)
    one, two = (checkpoint.load(folder / "last.pt")["model"] for folder in (alone, place.path()))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_what_is_decided_by_scores_is_decided_alike(place: Any) -> None:
    """Early stopping, and the collapse watch, which ends the run."""
    first, *_ = place.run_together(2, "train.epochs=9", "train.patience=2", "train.lr=1e-12")
    assert "stopped early: no better mean_iou for 2 epochs" in first.out
    first, *_ = place.run_together(2, "train.epochs=9", "train.stop_on_collapse=true", "train.lr=1e-9", to="floor")
    assert "stopped early: at the floor" in first.out
    assert first.err.count("the network has learned next to nothing") == 1


COUNTING = """
import torch
import torchmetrics


class Count:
    def reset(self):
        self.images = self.zeros = 0

    def update(self, logits, target):
        self.images, self.zeros = self.images + len(target), self.zeros + int((target == 0).sum())

    def compute(self):
        return {"images": self.images, "zeros": self.zeros}


class Merged(Count):
    def compute(self):
        return {"merged_images": self.images, "merged_zeros": self.zeros}

    def merge(self, other):
        self.images, self.zeros = self.images + other.images, self.zeros + other.zeros


class Pixels(torchmetrics.Metric):
    def __init__(self):
        super().__init__()
        self.add_state("pixels", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits, target):
        self.pixels += target.numel()

    def compute(self):
        return self.pixels


class Added(Pixels):
    def merge(self, other):
        self.pixels = self.pixels + other.pixels
"""


@pytest.mark.slow
def test_metrics_of_others_are_merged_or_seen_by_all(place: Any) -> None:
    """What cannot be merged, such as torchmetrics', is shown everything in each process."""
    (place.folder / "counting.py").write_text(COUNTING)
    place.import_before("torchmetrics.classification")
    code = """
sys.path.insert(0, os.getcwd())
from counting import Added, Count, Merged, Pixels
import torchmetrics, torchmetrics.classification as tm
real_check = inputs.check
def check(job):
    job.metrics.update({"merged": Merged(), "jaccard": tm.MulticlassJaccardIndex(6, ignore_index=255)} | EXTRA)
    job.metrics.update(pixels=Pixels(), added=Added(), precise=tm.MulticlassAveragePrecision(6, ignore_index=255))
    real_check(job)
inputs.check = check
"""
    for name, extra in (
        ("merged", "{}"),
        ("all", "{'count': Count(), 'many': torchmetrics.MetricCollection({'each': Pixels()})}"),
    ):
        before = code.replace("EXTRA", extra)
        place.run("train.epochs=1", *EXACT, to=f"{name}-1", before=before)
        place.run_together(2, "train.epochs=1", *EXACT, to=f"{name}-2", before=before)
        one, two = (json.loads((place.path(f"{name}-{n}") / "result.json").read_text())["splits"] for n in (1, 2))
        for split in one:
            own = ["images", "zeros", "each"] if name == "all" else []
            for key in ("merged_images", "merged_zeros", "pixels", "added", *own):
                assert one[split][key] == two[split][key], (name, split, key)
            for key in ("jaccard", "precise"):
                assert two[split][key] == pytest.approx(one[split][key], abs=2e-3), (name, split, key)


def torchrun(place: Any, script: str, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    end = "from segkit.cli import main\nsys.exit(main())"
    (place.folder / "script.py").write_text(f"{place.tools}\nRANK = int(os.environ['RANK'])\n{script}\n{end}\n")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(f"--max-restarts={restarts}", "script.py", "run", "tiny.toml", "output.dir=run", *arguments),
        ],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SEEN": str(place.folder / "run.seen")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
def test_torchrun_restarts_go_on_by_themselves(place: Any, together: Path) -> None:
    """``--max-restarts``: the same command, no word more; twice, at different places."""
    kill = """
count = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if RANK == 1 and count < 2:
    at(TrainingLoop, 'train_step', 6 if count == 0 else 2, send(signal.SIGKILL))
"""
    process = torchrun(place, kill, restarts=3)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("resumed after epoch 1 of 3") == 2
    place.assert_same(together)
    process = torchrun(place, kill, "--overwrite", restarts=3)  # begins anew, and does not go on with the old run
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("resumed after epoch 1 of 3") == 2


@pytest.mark.fault("F13")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_once(place: Any, number: int) -> None:
    """torchrun passes it on to all processes, Ctrl-C in a terminal a second time."""
    slow = "at(TrainingLoop, 'train_step', 3, lambda: (open(f'here{RANK}', 'w').close(), time.sleep(1)))"
    process = torchrun(place, slow, "train.epochs=300")
    try:
        end = time.monotonic() + 60
        while not all((place.folder / f"here{rank}").exists() for rank in (0, 1)):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert err.count("--resume continues from there") == 1, err
    assert "stopped at once" not in err
    assert checkpoint.load(place.path() / "last.pt")["step"] >= 3


@pytest.mark.slow
def test_an_encoder_that_is_left_as_it_is_stays_so_in_all_processes(place: Any) -> None:
    """Begun with the weights of another run, which the main process alone has to read."""
    smp = ("model.name=smp", "model.encoder=tu-test_efficientnet", "train.epochs=2")
    place.run(*smp, to="donor")
    missing = "import segkit.engine.init_from as start\nif RANK: start.tensors_of = None\n"
    frozen = (*smp, "train.encoder_lr_mult=0", "train.seed=1")
    first, _ = place.run_together(2, *frozen, "train.init_from=donor", to="frozen", before=missing)
    assert "train.init_from = donor: all " in first.out
    given, found = (load_file(place.path(name) / "model.safetensors") for name in ("donor", "frozen"))
    moved = {key for key, value in given.items() if not torch.equal(value, found[key])}
    assert moved
    assert not [key for key in moved if key.startswith("network.encoder.")]
    place.run_together(2, *frozen, "train.epochs=1", "train.schedule=constant", "train.init_from=donor", to="two")
    place.run_together(2, *frozen, "train.schedule=constant", "train.init_from=donor", "--resume", to="two")
    place.run_together(2, *frozen, "train.schedule=constant", "train.init_from=donor", to="whole")
    whole, two = (load_file(place.path(name) / "model.safetensors") for name in ("whole", "two"))
    assert all(torch.equal(value, two[key]) for key, value in whole.items())
