"""The scripts that take the measures for speed one at a time, and train in several precisions."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from segkit.config import read_config

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

Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The JSON lines of a script."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))

    def run(script: str, options: Sequence[str] = (), device: str = "cpu") -> list[Any]:
        config, lines = tmp_path / "small.toml", tmp_path / "lines.jsonl"
        config.write_text(CONFIG.format(device=device))
        importlib.import_module(script).main([str(config), *options, "--json", str(lines), *SHORT])
        return [json.loads(line) for line in lines.read_text().splitlines()]

    return run


def test_precisions_are_compared_with_strict_fp32_from_the_same_weights(run: Run) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    rows = run("precisions", ["--precisions", "bf16,fp32,tf32,fp16", "--compare-steps", "3"])
    bf16, fp32, tf32, fp16 = rows
    assert [row["arithmetic"] for row in rows] == ["bf16", "fp32", "tf32", "fp16"]
    assert fp32["logits_max_difference"] == fp32["logits_mean_difference"] == fp32["argmax_differs"] == 0
    assert bf16["logits_max_difference"] > bf16["logits_mean_difference"] > 0
    assert bf16["argmax_differs"] < 0.5
    assert bf16["loss"] == pytest.approx(fp32["loss"], rel=0.05)
    assert bf16["loss"] != fp32["loss"]
    for row in (bf16, fp32):
        assert 0 <= row["mean_iou"] < 1
        assert 0 <= row["pixel_accuracy"] < 1
        assert (row["skipped"], row["compare_steps"]) == (0, 3)
    assert "CUDA cards" in tf32["left_out"]
    assert "needs CUDA" in fp16["left_out"]
    after = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    assert after == before


def test_a_cpu_climbs_three_rungs(run: Run) -> None:
    rungs = run("ladder")
    assert [rung["rung"] for rung in rungs] == ["fp32", "bf16", "+ channels_last"]
    assert [(rung["precision"], rung["channels_last"]) for rung in rungs] == [
        ("fp32", False),
        ("bf16", False),
        ("bf16", True),
    ]
    assert rungs[0]["ratio"] is None
    assert rungs[2]["ratio"] == pytest.approx(rungs[2]["images_per_second"] / rungs[1]["images_per_second"])


@pytest.mark.parametrize("names", ["fp31,fp32", "", "bf16 fp16"])
def test_an_unknown_precision_is_named_with_those_there_are(
    run: Run, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("precisions", ["--precisions", names])
    assert "allowed are fp32, tf32, bf16, fp16" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_an_unfused_optimizer_takes_the_loops_step(run: Run, optimizer: str, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(CONFIG.format(device="cpu"))
    config = read_config(str(tmp_path / "small.toml"), [f"train.optimizer={optimizer}"])
    unfused, trainers = importlib.import_module("ladder").unfused, importlib.import_module("trainers")
    inputs, batch = trainers.prepared(config)
    weights = []
    for fused in (True, False):
        with trainers.opened(inputs) as trainer:
            loop = trainer.loop
            if not fused:
                loop.optimizer = unfused(loop)
            for _ in range(2):
                loop.train_step(batch)
            weights.append([p.detach() for p in loop.model.parameters()])
    assert not torch.equal(weights[1][0], next(inputs.model.parameters()))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)


def test_tf32_is_allowed_where_it_is_asked_for_and_nowhere_else(run: Run) -> None:
    arithmetic = importlib.import_module("arithmetic").arithmetic
    cudnn = torch.backends.cudnn
    with arithmetic("fp32"):
        assert (cudnn.allow_tf32, torch.get_float32_matmul_precision(), cudnn.benchmark) == (False, "highest", True)
        with arithmetic("tf32", deterministic=True):
            assert (cudnn.allow_tf32, torch.get_float32_matmul_precision(), cudnn.benchmark) == (True, "high", False)
        assert not cudnn.allow_tf32
    assert cudnn.allow_tf32  # torch's default, which a run keeps


@pytest.mark.gpu
def test_a_card_climbs_every_rung(run: Run) -> None:
    rungs = run("ladder", device="cuda")
    measured = [rung["rung"] for rung in rungs if "left_out" not in rung]
    assert [name for name in measured if name != "+ compile"] == [  # not everywhere is there a compiler
        *("fp32", "tf32", "bf16", "+ channels_last", "+ fused", "or + cuda_graph"),
        *("images: none", "images: device"),  # these pictures are no files, and nothing is kept in one
    ]


@pytest.mark.gpu
def test_a_card_has_every_precision(run: Run) -> None:
    options = ["--precisions", "fp32,tf32,bf16,fp16", "--compare-steps", "5", "model.width=32"]
    fp32, tf32, bf16, fp16 = run("precisions", options, device="cuda")
    assert fp32["logits_max_difference"] < 1e-5
    for row in (tf32, fp16):
        assert fp32["logits_mean_difference"] < row["logits_mean_difference"] < bf16["logits_mean_difference"]
