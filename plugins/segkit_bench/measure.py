"""Measures a config: throughput of the pipeline and of a resident batch, parts of a step, and hardware limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch

import segkit
from segkit.compose import build_inputs
from segkit.engine.inputs import open_trainer
from segkit_bench.clock import endless, parts_of_step, throughput
from segkit_bench.limits import arithmetic_of, ceilings, least_work

# a tiny learning rate does not change the time of a step, and keeps the loss finite
TIMED_ONLY: dict[str, Any] = {"lr": 1e-6, "schedule": "constant", "warmup": 0.0}


def measure(config: Any, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure a config as for a run; yield the name and the figures of each measurement as soon as it is there.

    These are ``conditions``, ``resident`` (steps on one batch that stays on the device), ``pipeline`` (steps with the
    run's loader), ``split`` (the parts of such a step) and ``limits`` (work, and what the device can do).

    Args:
        config: the config.
        seconds: the time of each measurement of a speed.

    Raises:
        SegkitError: for the same reasons as in a run.
    """
    inputs = build_inputs(config)
    with open_trainer(replace(inputs, train=inputs.train.model_copy(update=TIMED_ONLY))) as trainer:
        inputs, loop = trainer.inputs, trainer.loop
        batch = next(endless(trainer)).to(inputs.precision.device)  # the first batch of the run
        yield "conditions", {"config": config.name, **conditions(inputs, batch)}
        resident = throughput(trainer, repeat(batch), seconds, "resident batch")
        if inputs.train.compile or inputs.train.cuda_graph:
            wanted = inputs.train.compile or inputs.precision.device.type == "cuda"
            resident["fell_back"] = wanted and loop.forward._call is loop.forward.model
            resident["compile_seconds"] = compile_seconds(resident, batch)
        yield "resident", resident
        pipeline = throughput(trainer, endless(trainer), seconds, "pipeline")
        pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
        yield "pipeline", pipeline
        parts = parts_of_step(trainer, endless(trainer), pipeline["steps"])
        yield "split", {f"{part}_milliseconds": taken for part, taken in parts.items()}
        work = least_work(trainer, batch)
    speed, images = resident["images_per_second"], len(batch.names)
    del trainer, loop  # frees its memory
    limits = ceilings(inputs)
    flops, moved = work["step_flops_per_image"] * speed, work["least_bytes_per_step"] * speed / images
    reached = {"flops_per_second": flops, "mfu": flops / limits["matmul_flops_per_second"]}
    reached |= {"least_bytes_per_second": moved, "of_copy": moved / limits["copy_bytes_per_second"]}
    yield "limits", {**work, **limits, **reached}


def compile_seconds(facts: dict[str, Any], batch: Any) -> float:
    """Return what the first step took longer than the others, for compilation or capture."""
    seconds: float = facts["first_step_seconds"] - len(batch.names) / facts["images_per_second"]
    return seconds


def conditions(inputs: Any, batch: Any) -> dict[str, Any]:
    """Return the conditions that a measurement depends on."""
    train, device = inputs.train, inputs.precision.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "segkit": segkit.__version__,
        "model": type(inputs.model).__name__,
        "parameters": sum(parameter.numel() for parameter in inputs.model.parameters()),
        "crop": list(batch.mask.shape[1:]),
        "batch_size": len(batch.names),
        "accumulate": train.accumulate,
        "precision": inputs.precision.name,
        "arithmetic": arithmetic_of(inputs),
        "channels_last": train.channels_last,
        "compile": train.compile,
        "cuda_graph": train.cuda_graph,
        "optimizer": train.optimizer,
        "workers": train.workers,
        "cache": inputs.data.cache,
    }
