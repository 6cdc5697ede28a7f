"""The measurement of a config as it stands: its two throughputs, the parts of a step, and the ceilings above it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import repeat
from typing import Any, TextIO

from segkit.compose import build_inputs
from segkit.config import Config
from segkit.engine.launch import open_trainer
from segkit.engine.trainer import Trainer
from segkit_bench.clock import PARTS, Amount, endless, parts_of_step, throughput
from segkit_bench.limits import COUNTS, ceilings, least_work
from segkit_bench.report import Report, gibibytes

# a step takes as long at a tiny rate, and the loss stays finite
TIMED_ONLY: dict[str, Any] = {"train.lr": 1e-6, "train.schedule": "constant", "train.warmup": 0.0}
PLAIN: dict[str, Any] = {"train.compile": False, "train.cuda_graph": False, "data.cache": "none"}
SECONDS = 20.0  # of a measurement, where nobody says how many steps it is to take
LIMIT = 0.95  # of the resident batch's speed; below, the data path costs
SLOW = 5.0  # seconds of a step, from which on it is a first figure by itself
UNSTEADY = 1.5  # the fastest repeat over the slowest; on a machine of one's own they differ by a few per cent


def measure(
    config: Config,
    warmup: int | None = None,
    steps: int | None = None,
    repeats: int = 3,
    *,
    file: TextIO | None = None,
    table: bool = True,
) -> None:
    """Measure a config and report it.

    Args:
        config: as for a run.
        warmup: steps that are not timed; left out: what suits the device, in a limited time.
        steps: steps that are timed together; likewise.
        repeats: how often.
        file: for JSON lines.
        table: print for people; else the JSON lines are printed.

    Raises:
        SegkitError: as a run would.
    """
    inputs = build_inputs(config).with_settings(TIMED_ONLY)
    own = config.train
    asked = {"train.compile": own.compile, "train.cuda_graph": own.cuda_graph, "data.cache": config.data.cache}
    with open_trainer(replace(inputs.with_settings(PLAIN), model=deepcopy(inputs.model))) as trainer:
        inputs = replace(trainer.inputs.with_settings(asked), model=inputs.model)
        device = inputs.precision.device
        usual = (10, 50) if device.type == "cuda" else (2, 5)
        amount = Amount(warmup or usual[0], steps or usual[1], repeats, math.inf if warmup or steps else SECONDS)
        batch = next(endless(trainer)).to(device)  # the first of the run
        report = Report(config.name, inputs, batch, amount, file, table)
        report.introduce()
        counted = least_work(trainer, batch)
    del trainer  # its memory is free again
    limits = ceilings(inputs)
    with open_trainer(inputs) as trainer:
        resident = _resident(trainer, batch, amount, report)
        resident |= _beside(resident["images_per_second"], len(batch.names), counted, limits)
        report.add("resident", {**resident, **counted, **limits})
        _pipeline(trainer, amount, report, resident)
    for label, text in _lines(resident, counted, limits).items():
        report.fact(label, text)
    report.say(f"* {COUNTS}")


def _resident(trainer: Trainer, batch: Any, amount: Amount, report: Report) -> dict[str, Any]:
    """The speed of steps on one batch that lies on the device."""
    loop, train, images = trainer.loop, trainer.inputs.train, len(batch.names)

    def begun(seconds: float) -> None:
        if seconds > SLOW:
            report.add("first_step", {"first_step_seconds": seconds, "images_per_second": images / seconds})
            report.fact("first step", f"{images / seconds:.2g} images/s; the rest as it comes")

    resident = throughput(trainer, repeat(batch), amount, "resident batch", begun)
    report.fact("resident batch", _speed(resident))
    if train.compile or train.cuda_graph:
        seconds = resident["first_step_seconds"] - images / resident["images_per_second"]
        wanted = train.compile or trainer.inputs.precision.device.type == "cuda"
        resident |= {"compile_seconds": seconds, "fell_back": wanted and loop.forward._call is loop.forward.model}
        report.fact("compiled", "no, it failed" if resident["fell_back"] else f"in {seconds:.1f} s")
    return resident


def _pipeline(trainer: Trainer, amount: Amount, report: Report, resident: Mapping[str, Any]) -> None:
    """The whole pipeline and the parts of its steps, each reported as soon as it is there."""
    pipeline = throughput(trainer, endless(trainer), amount, "pipeline")
    share = pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
    report.add("pipeline", pipeline)
    verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
    if max(_spread(resident), _spread(pipeline)) > UNSTEADY:
        verdict = "too uneven to say more; does something else run here?"
    report.fact("pipeline", f"{_speed(pipeline)}; {share:.2f} of it: {verdict}")
    parts = parts_of_step(trainer, endless(trainer), pipeline["warmup"], pipeline["steps"])
    report.add("split", {f"{part}_milliseconds": taken for part, taken in parts.items()})
    told = ", ".join(f"{part} {parts[part]:.1f}" for part in PARTS)
    report.fact("a step, waited for", f"{told}; {parts['step']:.1f} ms")


def _beside(speed: float, images: int, counted: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, float]:
    """The step beside the ceilings."""
    flops, moved = counted["step_flops_per_image"] * speed, counted["least_bytes_per_step"] * speed / images
    return {
        "flops_per_second": flops,
        "mfu": flops / limits["matmul_flops_per_second"],
        "least_bytes_per_second": moved,
        "of_copy": moved / limits["copy_bytes_per_second"],
    }


def _lines(resident: Mapping[str, Any], counted: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, str]:
    return {
        "FLOPs an image": f"{counted['forward_flops_per_image'] / 1e9:.3g} G forward, "
        f"{counted['step_flops_per_image'] / 1e9:.3g} G a step",
        "MFU": f"{resident['mfu']:.2f}: {resident['flops_per_second'] / 1e12:.3g} of "
        f"{limits['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s in a matmul of {limits['matmul_size']}",
        "memory traffic": f"at least {resident['least_bytes_per_second'] / 1e9:.3g} of "
        f"{limits['copy_bytes_per_second'] / 1e9:.3g} GB/s in a copy*",
    }


def _spread(facts: Mapping[str, Any]) -> float:
    speeds: list[float] = facts["images_per_second_of_repeats"]
    return max(speeds) / min(speeds)


def _speed(facts: Mapping[str, Any]) -> str:
    speeds = facts["images_per_second_of_repeats"]
    told = f"{facts['images_per_second']:.1f} images/s ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"{told}, peak memory {gibibytes(facts['peak_memory_bytes'])}"
