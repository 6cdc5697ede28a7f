"""The measures for speed one at a time, each with the ratio to the one before it: what a measure is worth here.

First the step alone, on a resident batch; then, on CUDA, the whole pipeline, by where its images are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from segkit.engine.step import TrainingLoop
from segkit_bench.arithmetic import arithmetic, precision_of, unavailable
from segkit_bench.clock import Amount, throughput
from segkit_bench.outcome import fell_back, outcome
from segkit_bench.report import Report, gibibytes, row
from segkit_bench.subject import HARDLY, Subject

WIDTHS = (20, 9, 9, 8)


@dataclass(frozen=True)
class Rung:
    """A measure, with those below it; ``cache`` is the pipeline's, none is a resident batch."""

    name: str
    arithmetic: str
    fused: bool = False
    cache: str | None = None
    settings: Mapping[str, bool] = field(default_factory=dict)


def rungs(cuda: bool) -> list[Rung]:
    """From the lowest one on; of the pipeline those that say only where the images are kept."""
    plain = {"channels_last": False, "compile": False, "cuda_graph": False}
    last = {**plain, "channels_last": True}
    if not cuda:  # the rest is CUDA's, or for long runs
        return [
            Rung("fp32", "fp32", True, None, plain),
            Rung("bf16", "bf16", True, None, plain),
            Rung("+ channels_last", "bf16", True, None, last),
        ]
    return [
        *(Rung(name, name, False, None, plain) for name in ("fp32", "tf32", "bf16")),
        Rung("+ channels_last", "bf16", False, None, last),
        Rung("+ fused", "bf16", True, None, last),
        Rung("+ compile", "bf16", True, None, {**last, "compile": True}),
        Rung("or + cuda_graph", "bf16", True, None, {**last, "cuda_graph": True}),
        *(Rung(f"images: {cache}", "", True, cache) for cache in ("none", "ram", "device")),
    ]


def climb(subject: Subject, amount: Amount, report: Report) -> None:
    """A row for each rung, told as soon as it is there; one that this device or config cannot have says so."""
    report.say(row(("rung", "images/s", "memory", "ratio"), WIDTHS))
    before, best, speed = 0.0, Rung("", "fp32"), 0.0
    for rung in rungs(subject.device.type == "cuda"):
        if rung.cache:
            rung = Rung(rung.name, best.arithmetic, best.fused, rung.cache, best.settings)
        facts = outcome(partial(_measured, subject, rung, amount))
        about = {"rung": rung.name, "arithmetic": rung.arithmetic, "fused": rung.fused, **rung.settings}
        about["precision"] = precision_of(rung.arithmetic, subject.device).name
        about["cache"] = rung.cache or "resident batch"
        if "left_out" in facts:
            report.add("rung", about | facts)
            report.say(f"{rung.name:{WIDTHS[0]}}  left out: {facts['left_out']}")
            continue
        images = facts["images_per_second"]
        if not rung.cache and images > speed:
            best, speed = rung, images
        facts["ratio"] = images / before if before else None
        before = images
        report.add("rung", about | facts)
        ratio = f"{facts['ratio']:.2f}" if facts["ratio"] else ""
        report.say(row((rung.name, f"{images:.1f}", gibibytes(facts["peak_memory_bytes"]), ratio), WIDTHS))
    report.say("\nratio to the row before; a measure that costs is kept all the same, but for compile and cuda_graph")


def _measured(subject: Subject, rung: Rung, amount: Amount) -> dict[str, Any]:
    missing = unavailable(rung.arithmetic, subject.device)
    if missing:
        return {"left_out": missing}
    with arithmetic(rung.arithmetic, subject.job.train.deterministic):
        loop = subject.loop(amount.total, precision_of(rung.arithmetic, subject.device), **rung.settings, **HARDLY)
        if not rung.fused:
            loop.optimizer = unfused(loop)
        if rung.cache:
            with subject.supply(rung.cache) as supply:
                return throughput(loop, supply.ahead(), amount, rung.name)
        facts = throughput(loop, subject.resident(), amount, rung.name)
        if fell_back(loop):
            return {"left_out": "it failed, see above"}
        if rung.settings["compile"] or rung.settings["cuda_graph"]:
            facts["compile_seconds"] = facts["first_step_seconds"] - subject.images / facts["images_per_second"]
        return facts


def unfused(loop: TrainingLoop) -> torch.optim.Optimizer:
    """The optimizer as torch has it by default; it knows no ``found_inf``, and would refuse the loop's."""
    kind = type(loop.optimizer)
    deaf = type(f"Unfused{kind.__name__}", (kind,), {"found_inf": property(lambda _: None, lambda _, value: None)})
    loop.optimizer.__class__ = deaf
    for group in loop.optimizer.param_groups:
        group["fused"] = None
    return loop.optimizer
