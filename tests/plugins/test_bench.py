"""The command ``bench``: its figures fit together, and it leaves nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segkit.compose import build_inputs
from segkit.config import read_config
from segkit.engine.launch import open_trainer
from segkit.errors import ConfigError, TrainingError
from segkit_bench import measure as measuring
from segkit_bench.clock import PARTS, Amount, endless, throughput
from segkit_bench.command import Bench
from segkit_bench.limits import least_work
from segkit_bench.measure import measure
from segkit_bench.report import Report

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
SHORT = ["--warmup", "1", "--steps", "2"]


def tables(**train: Any) -> dict[str, Any]:
    config = {
        "dataset": {"name": "shapes", "size": 32, "images": [6, 2, 2]},
        "model": {"name": "unet", "width": 4, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
    }
    return {**config, "train": {"batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0, **train}}


def bench(folder: Path, options: Sequence[str], device: str = "cpu") -> list[Any]:
    """The JSON lines of a call."""
    config, lines = folder / "small.toml", folder / "lines.jsonl"
    config.write_text(CONFIG.format(device=device))
    parser = argparse.ArgumentParser()
    Bench.add_arguments(parser)
    arguments = parser.parse_intermixed_args([str(config), *options, "--json", str(lines)])
    assert Bench.run(arguments) == 0
    return [json.loads(line) for line in lines.read_text().splitlines()]


def test_the_figures_fit_together_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resident, pipeline, split = bench(tmp_path, ["train.log_every=1", *SHORT])
    assert [line["measurement"] for line in (resident, pipeline, split)] == ["resident", "pipeline", "split"]
    for line in (resident, pipeline, split):
        about = {"config": "small", "precision": "fp32", "crop": [32, 32], "batch_size": 2, "steps": 2, "repeats": 3}
        assert {key: line[key] for key in about} == about
        assert line["torch"] == torch.__version__
        assert line["threads"] == torch.get_num_threads()
    for line in (resident, pipeline):
        assert line["images_per_second"] == sorted(line["images_per_second_of_repeats"])[1]
        assert line["peak_memory_bytes"] > 1 << 20
    assert pipeline["of_resident"] == pytest.approx(pipeline["images_per_second"] / resident["images_per_second"])
    parts = [split[f"{part}_milliseconds"] for part in PARTS]
    assert sum(parts) == pytest.approx(split["step_milliseconds"], rel=0.2)
    assert parts[0] > parts[1]  # to draw a view takes longer than to bring it nowhere
    assert min(parts[2:]) > 0
    assert 0 < resident["mfu"] < 1.5
    assert 0 < resident["of_copy"] < 1
    assert 2 < resident["step_flops_per_image"] / resident["forward_flops_per_image"] <= 3
    printed = capsys.readouterr().out
    assert f"{resident['images_per_second']:.1f} images/s" in printed
    assert f"MFU                 {resident['mfu']:.2f}" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.jsonl", "small.toml"]


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


def test_torchrun_and_a_file_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lines.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"--json .*lines\.jsonl cannot be written"):
        bench(tmp_path, [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        bench(tmp_path, [])


def test_a_line_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    report = object.__new__(Report)
    report.table, report.context = True, {}
    with (tmp_path / "lines.jsonl").open("w") as report.file:
        os.close(report.file.fileno())
        with pytest.raises(ConfigError, match=r"--json .*lines\.jsonl could not be written: Bad file descriptor"):
            report.add("resident", {})


def test_where_memory_ends_the_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measuring, "throughput", full)
    with pytest.raises(TrainingError, match=r"out of memory on cpu: .* at train\.batch_size=2, .*train\.accumulate=2,"):
        measure(read_config(tables()))


@pytest.mark.parametrize("augment", [{}, {"crop": [16, 24], "colour": 0.5}])
def test_batches_are_those_of_a_run(augment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    resident: list[Any] = []

    def kept(trainer: Any, batch: Any, *_: Any) -> None:
        resident.append(batch)
        raise TrainingError("enough")

    monkeypatch.setattr(measuring, "_resident", kept)
    config = read_config({**tables(), "augment": augment})
    with pytest.raises(TrainingError, match="enough"):
        measure(config)
    with open_trainer(build_inputs(config)) as trainer:
        first, again = (list(islice(endless(trainer), 5)) for _ in range(2))  # three an epoch
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, again, strict=True))
    assert not all(torch.equal(one.image, other.image) for one, other in zip(first[:2], first[3:], strict=True))
    for ours, its in zip(resident[0].tensors, first[0].tensors, strict=True):
        assert torch.equal(ours, its)
        assert ours.stride() == its.stride()


def test_a_slow_step_tells_in_the_speed() -> None:
    """A step waits 50 ms, so that two images take as much at least."""
    with open_trainer(build_inputs(read_config(tables()))) as trainer:
        step = trainer.loop.train_step

        def slow(batch: Any) -> Any:
            time.sleep(0.05)
            return step(batch)

        trainer.loop.train_step = slow  # type: ignore[method-assign]
        told = throughput(trainer, repeat(next(endless(trainer))), Amount(1, 2, 3), "slow")
        assert trainer.loop.step == 1 + 2 * 3
    assert 4 < told["images_per_second"] < 2 / 0.05
    assert len(told["images_per_second_of_repeats"]) == 3


def test_a_compiler_that_failed_is_not_measured_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        def call(*_: Any) -> Any:
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    resident, *_ = bench(tmp_path, ["train.compile=true", *SHORT])
    assert resident["fell_back"]
    captured = capsys.readouterr()
    assert "compiled            no, it failed" in captured.out
    assert "train.compile failed; continuing without it: RuntimeError: no compiler" in captured.err


def test_auto_is_the_precision_that_a_run_would_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segkit.engine.precision.cpu_has_bf16", lambda: True)
    measure(read_config(tables(precision="auto")), 1, 1, 1)
    assert capsys.readouterr().out.startswith("config: UNet, 0.00 M parameters; bf16")


@pytest.mark.gpu
def test_a_card_is_measured_beside_its_ceilings(tmp_path: Path) -> None:
    options = ["model.width=32", "train.precision=bf16", "train.cuda_graph=true", *SHORT]
    resident, _, split = bench(tmp_path, options, device="cuda")
    assert resident["matmul_size"] == 8192
    assert 0 < resident["mfu"] < 1.5
    assert not resident["fell_back"]
    assert resident["peak_memory_bytes"] < 1 << 32
    assert sum(split[f"{part}_milliseconds"] for part in PARTS) == pytest.approx(split["step_milliseconds"], rel=0.3)


@pytest.mark.parametrize(
    ("step", "taken"),
    [(0.01, (2, 5, 3)), (1.0, (2, 5, 3)), (1.5, (2, 3, 3)), (4.0, (2, 1, 3)), (9.0, (1, 1, 1)), (60.0, (1, 1, 1))],
)
def test_a_slow_step_is_measured_less_often(step: float, taken: tuple[int, int, int]) -> None:
    amount = Amount(2, 5, 3, seconds=20.0).within(step)
    assert (amount.warmup, amount.steps, amount.repeats) == taken
    assert amount.total * step <= max(20.0, 2 * step)
    assert Amount(2, 5, 3).within(step) == Amount(2, 5, 3)  # as many as were asked for


def test_a_step_that_takes_the_whole_time_is_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit_bench.measure.SECONDS", 1e-9)
    lines = bench(tmp_path, [])
    assert [line["measurement"] for line in lines] == ["resident", "pipeline", "split"]
    assert [(line["warmup"], line["steps"], line["repeats"]) for line in lines[:2]] == [(1, 1, 1)] * 2


def test_json_alone_is_printed_without_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    measure(read_config(tables()), 1, 1, 1, file=sys.stdout, table=False)
    names = [json.loads(line)["measurement"] for line in capsys.readouterr().out.splitlines()]
    assert names == ["resident", "pipeline", "split"]
