"""Measures a config: throughput of the pipeline and of a resident batch, parts of a step, and hardware limits."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from itertools import repeat
from typing import Any, TextIO

from segkit.compose import build_inputs
from segkit.engine.launch import open_trainer
from segkit_bench.clock import PARTS, Amount, endless, parts_of_step, throughput
from segkit_bench.limits import COUNTS, ceilings, least_work
from segkit_bench.report import Report, gibibytes

# a tiny learning rate does not change the time of a step, and keeps the loss finite
TIMED_ONLY: dict[str, Any] = {"train.lr": 1e-6, "train.schedule": "constant", "train.warmup": 0.0}
PLAIN: dict[str, Any] = {"train.compile": False, "train.cuda_graph": False, "data.cache": "none"}
SECONDS = 20.0  # limit of a measurement without --warmup and --steps
LIMIT = 0.95  # of the resident batch's speed; if the pipeline is slower, the data path is a bottleneck
UNSTEADY = 1.5  # fastest repeat over slowest; on an otherwise idle machine they differ by a few per cent


def measure(
    config: Any,
    warmup: int | None = None,
    steps: int | None = None,
    repeats: int = 3,
    *,
    file: TextIO | None = None,
    table: bool = True,
) -> None:
    """Measure a config and report the results.

    Args:
        config: a config as for a run.
        warmup: untimed steps; default: 10 on a GPU, 2 on a CPU.
        steps: steps timed together; default: 50 on a GPU, 5 on a CPU. If both are left out, time is limited.
        repeats: how often the steps are timed.
        file: a file for the JSON lines.
        table: whether to print text; otherwise the JSON lines are printed.

    Raises:
        SegkitError: for the same reasons as in a run.
    """
    inputs = build_inputs(config).with_settings(TIMED_ONLY)
    own = config.train
    asked = {"train.compile": own.compile, "train.cuda_graph": own.cuda_graph, "data.cache": config.data.cache}
    with open_trainer(replace(inputs.with_settings(PLAIN), model=deepcopy(inputs.model))) as trainer:
        inputs = replace(trainer.inputs.with_settings(asked), model=inputs.model)
        usual = (10, 50) if inputs.precision.device.type == "cuda" else (2, 5)
        amount = Amount(warmup or usual[0], steps or usual[1], repeats, math.inf if warmup or steps else SECONDS)
        batch = next(endless(trainer)).to(inputs.precision.device)  # the first batch of the run
        report = Report(config.name, inputs, batch, amount, file, table)
        report.introduce()
        work = least_work(trainer, batch)
    del trainer  # frees its memory
    limits = ceilings(inputs)
    with open_trainer(inputs) as trainer:
        resident = _resident(trainer, batch, amount, report)
        resident["flops_per_second"] = work["step_flops_per_image"] * resident["images_per_second"]
        resident["mfu"] = resident["flops_per_second"] / limits["matmul_flops_per_second"]
        moved = work["least_bytes_per_step"] * resident["images_per_second"] / len(batch.names)
        resident |= {"least_bytes_per_second": moved, "of_copy": moved / limits["copy_bytes_per_second"]}
        report.add("resident", {**resident, **work, **limits})
        _pipeline(trainer, amount, report, resident)
    forward, step = (work[f"{part}_flops_per_image"] / 1e9 for part in ("forward", "step"))
    report.fact("FLOPs an image", f"{forward:.3g} G forward, {step:.3g} G a step")
    reached, most = resident["flops_per_second"] / 1e12, limits["matmul_flops_per_second"] / 1e12
    of = f"{reached:.3g} of {most:.3g} TFLOP/s in a matmul of {limits['matmul_size']}"
    report.fact("MFU", f"{resident['mfu']:.2f}: {of}")
    most = limits["copy_bytes_per_second"] / 1e9
    report.fact("memory traffic", f"at least {moved / 1e9:.3g} of {most:.3g} GB/s in a copy*")
    report.say(f"* {COUNTS}")


def _resident(trainer: Any, batch: Any, amount: Amount, report: Report) -> dict[str, Any]:
    """Measure the speed of steps on one batch that stays on the device."""
    loop, train = trainer.loop, trainer.inputs.train
    resident = throughput(trainer, repeat(batch), amount, "resident batch")
    report.fact("resident batch", _speed(resident))
    if train.compile or train.cuda_graph:
        seconds = resident["first_step_seconds"] - len(batch.names) / resident["images_per_second"]
        wanted = train.compile or trainer.inputs.precision.device.type == "cuda"
        resident |= {"compile_seconds": seconds, "fell_back": wanted and loop.forward._call is loop.forward.model}
        report.fact("compiled", "no, it failed" if resident["fell_back"] else f"in {seconds:.1f} s")
    return resident


def _pipeline(trainer: Any, amount: Amount, report: Report, resident: dict[str, Any]) -> None:
    """Measure the whole pipeline and the parts of its steps, and report each result at once."""
    pipeline = throughput(trainer, endless(trainer), amount, "pipeline")
    share = pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
    report.add("pipeline", pipeline)
    verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
    repeats = [each["images_per_second_of_repeats"] for each in (resident, pipeline)]
    if any(max(speeds) > UNSTEADY * min(speeds) for speeds in repeats):
        verdict = "repeats differ too much to say more; is another program running?"
    report.fact("pipeline", f"{_speed(pipeline)}; {share:.2f} of it: {verdict}")
    parts = parts_of_step(trainer, endless(trainer), pipeline["warmup"], pipeline["steps"])
    report.add("split", {f"{part}_milliseconds": taken for part, taken in parts.items()})
    told = ", ".join(f"{part} {parts[part]:.1f}" for part in PARTS)
    report.fact("a step, waited for", f"{told}; {parts['step']:.1f} ms")


def _speed(facts: dict[str, Any]) -> str:
    speeds = facts["images_per_second_of_repeats"]
    told = f"{facts['images_per_second']:.1f} images/s ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"{told}, peak memory {gibibytes(facts['peak_memory_bytes'])}"
