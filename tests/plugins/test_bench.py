"""The command ``bench``: its figures fit together, and it leaves nothing."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from segkit.cli import main
from segkit.compose import build_inputs
from segkit.config import read_config
from segkit.engine.inputs import open_trainer
from segkit.errors import ConfigError, TrainingError
from segkit_bench import measure as measuring
from segkit_bench.clock import PARTS, endless, throughput
from segkit_bench.command import Bench
from segkit_bench.limits import least_work
from segkit_bench.measure import measure
from segkit_bench.text import text_of

CONFIG = """
[dataset]
name = "shapes"
size = 32
images = [6, 2, 2]

[model]
name = "unet"
width = 4
depth = 1

[[loss]]
name = "cross_entropy"

[train]
batch_size = 2
device = "{device}"
precision = "fp32"
workers = 0
"""
SHORT = ["--seconds", "0.2"]


def tables(**train: Any) -> dict[str, Any]:
    config = {
        "dataset": {"name": "shapes", "size": 32, "images": [6, 2, 2]},
        "model": {"name": "unet", "width": 4, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
    }
    return {**config, "train": {"batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0, **train}}


def bench(folder: Path, options: Sequence[str], device: str = "cpu") -> int:
    """The status of a call."""
    config = folder / "small.toml"
    config.write_text(CONFIG.format(device=device))
    return main(["bench", str(config), *options])


def test_the_figures_fit_together_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    of_processor = SimpleNamespace(perf_counter=time.process_time)  # what else the machine does is not compared
    monkeypatch.setattr("segkit_bench.clock.time", of_processor)
    assert bench(tmp_path, ["train.log_every=1", *SHORT, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [*document] == ["conditions", "resident", "pipeline", "split", "limits"]
    conditions, resident, pipeline, split, limits = document.values()
    about = {"config": "small", "precision": "fp32", "crop": [32, 32], "batch_size": 2, "torch": torch.__version__}
    assert {key: conditions[key] for key in about} == about
    assert conditions["threads"] == torch.get_num_threads()
    for facts in (resident, pipeline):
        assert facts["images_per_second"] == median(facts["images_per_second_of_repeats"])
        assert facts["peak_memory_bytes"] > 1 << 20
    assert pipeline["of_resident"] == pytest.approx(pipeline["images_per_second"] / resident["images_per_second"])
    parts = [split[f"{part}_milliseconds"] for part in PARTS]
    assert sum(parts) == pytest.approx(split["step_milliseconds"], rel=0.2)
    assert parts[0] > parts[1]  # to draw a view takes longer than to bring it nowhere
    assert min(parts[2:]) > 0
    assert 0 < limits["mfu"] < 1.5
    assert limits["mfu"] == pytest.approx(limits["flops_per_second"] / limits["matmul_flops_per_second"])
    assert 0 < limits["of_copy"] < 1
    assert 2 < limits["step_flops_per_image"] / limits["forward_flops_per_image"] <= 3
    printed = "\n".join(line for name in document for line in text_of(name, document))
    assert f"{resident['images_per_second']:.1f} images/s" in printed
    assert f"MFU                 {limits['mfu']:.2f}" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.toml"]


def test_each_figure_is_printed_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text="", **_: printed.append(text))

    def ended(*_: Any) -> None:
        raise TrainingError("enough")

    monkeypatch.setattr(measuring, "parts_of_step", ended)
    assert bench(tmp_path, SHORT) != 0
    names = [text.splitlines()[0].split(" ")[0] for text in printed]
    assert names[:3] == ["small:", "resident", "pipeline"]


@pytest.mark.parametrize("parts", [1, 2])
def test_flops_and_bytes_of_one_convolution_are_those_by_hand(parts: int) -> None:
    inputs = build_inputs(read_config(tables(accumulate=parts)))
    with open_trainer(replace(inputs, model=nn.Conv2d(3, 6, 3, padding=1, bias=False))) as trainer:
        counted = least_work(trainer, next(endless(trainer)))
    forward = 2 * 3 * 9 * 6 * 32 * 32
    assert counted["forward_flops_per_image"] == forward
    assert counted["step_flops_per_image"] == 2 * forward  # the image needs no gradient
    weights = 4 * 3 * 9 * 6
    image, logits = 4 * 2 * 3 * 32 * 32, 4 * 2 * 6 * 32 * 32
    kept = image + logits  # and what the loss keeps beside them: labels, at most two numbers of 8 bytes a pixel
    least = 2 * kept + 6 * weights + 4 * weights + 2 * 4
    assert least <= counted["least_bytes_per_step"] <= least + 2 * 2 * 16 * 2 * 32 * 32


def test_torchrun_and_counts_of_steps_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--warmup", "--steps", "--repeats"):  # of 0.1
        assert bench(tmp_path, [option, "5"]) == 2
        assert "for a time and not a number of steps: --seconds N" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        Bench.run(argparse.Namespace(config=str(tmp_path / "small.toml"), overrides=[], counts=None))


def test_where_memory_ends_the_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measuring, "throughput", full)
    with pytest.raises(TrainingError, match=r"out of memory on cpu: .* at train\.batch_size=2, .*accumulate=1; a"):
        list(measure(read_config(tables()), 0.2))


@pytest.mark.parametrize("augment", [{}, {"crop": [16, 24], "colour": 0.5}])
def test_batches_are_those_of_a_run(augment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    resident: list[Any] = []

    def kept(_: Any, batches: Any, *__: Any) -> None:
        resident.append(next(batches))
        raise TrainingError("enough")

    monkeypatch.setattr(measuring, "throughput", kept)
    config = read_config({**tables(), "augment": augment})
    with pytest.raises(TrainingError, match="enough"):
        list(measure(config, 0.2))
    with open_trainer(build_inputs(config)) as trainer:
        first, again = (list(islice(endless(trainer), 5)) for _ in range(2))  # three an epoch
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, again, strict=True))
    assert not all(torch.equal(one.image, other.image) for one, other in zip(first[:2], first[3:], strict=True))
    for ours, its in zip(resident[0][:2], first[0][:2], strict=True):
        assert torch.equal(ours, its)
        assert ours.stride() == its.stride()


def test_a_slow_step_tells_in_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of two images takes 50 ms, by a clock that nothing else moves."""
    now = 0.0
    monkeypatch.setattr("segkit.engine.step.time", SimpleNamespace(perf_counter=lambda: now))
    with open_trainer(build_inputs(read_config(tables()))) as trainer:
        step = trainer.loop.train_step

        def slow(batch: Any) -> Any:
            nonlocal now
            now += 0.05
            return step(batch)

        trainer.loop.train_step = slow  # type: ignore[method-assign]
        told = throughput(trainer, repeat(next(endless(trainer))), 2.0, "slow")
        assert trainer.loop.step == 2 + told["warmup_steps"] + 3 * told["steps"]
    assert told["images_per_second_of_repeats"] == pytest.approx([2 / 0.05] * 3)
    assert told["images_per_second"] == pytest.approx(2 / 0.05)


def test_a_step_that_takes_the_whole_time_is_timed_once() -> None:
    with open_trainer(build_inputs(read_config(tables()))) as trainer:
        told = throughput(trainer, repeat(next(endless(trainer))), 1e-9, "short")
        assert trainer.loop.step == 3
    assert (told["steps"], len(told["images_per_second_of_repeats"])) == (1, 1)


def test_a_compiler_that_failed_is_not_measured_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> Any:
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    assert bench(tmp_path, ["train.compile=true", *SHORT]) == 0
    captured = capsys.readouterr()
    assert "compiled            no, it failed" in captured.out
    assert "train.compile failed; continuing without it: RuntimeError: no compiler" in captured.err


def test_auto_is_the_precision_that_a_run_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segkit.engine.precision.cpu_has_bf16", lambda: True)
    _, conditions = next(measure(read_config(tables(precision="auto")), 0.2))
    assert (conditions["precision"], conditions["arithmetic"]) == ("bf16", "bf16")


@pytest.mark.gpu
def test_a_card_is_measured_beside_its_ceilings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["model.width=32", "train.precision=bf16", "train.cuda_graph=true", "--seconds", "1", "--json"]
    assert bench(tmp_path, options, device="cuda") == 0
    _, resident, _, split, limits = json.loads(capsys.readouterr().out).values()
    assert limits["matmul_size"] == 8192
    assert 0 < limits["mfu"] < 1.5
    assert not resident["fell_back"]
    assert resident["peak_memory_bytes"] < 1 << 32
    assert sum(split[f"{part}_milliseconds"] for part in PARTS) == pytest.approx(split["step_milliseconds"], rel=0.3)
