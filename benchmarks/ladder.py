"""The measures for speed one at a time, each with the ratio to the one before it: what a measure is worth here.

    python benchmarks/ladder.py examples/quickstart.toml train.batch_size=16 --json ladder.jsonl

First the step alone, on a resident batch; then, on CUDA, the whole pipeline, by where its images are kept. What this
device or config cannot have says so. With --json a line a measurement, with all it was measured under.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from arithmetic import arithmetic, outcome, precision_of, row, unavailable
from trainers import introduced, opened, prepared

from segkit.config import read_config
from segkit.data.sample import Batch
from segkit.engine.inputs import TrainerInputs
from segkit.engine.step import TrainingLoop
from segkit_bench.clock import endless, throughput
from segkit_bench.measure import compile_seconds
from segkit_bench.text import gibibytes

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


def climb(inputs: TrainerInputs, batch: Batch, seconds: float, add: Callable[[Mapping[str, Any]], None]) -> None:
    """A row for each rung, reported as soon as it is there."""
    print(row(("rung", "images/s", "memory", "ratio"), WIDTHS), flush=True)
    before, best, speed, device = 0.0, Rung("", "fp32"), 0.0, inputs.precision.device
    for rung in rungs(device.type == "cuda"):
        if rung.cache:
            rung = Rung(rung.name, best.arithmetic, best.fused, rung.cache, best.settings)
        facts = outcome(partial(_measured, inputs, batch, rung, seconds))
        about = {"rung": rung.name, "arithmetic": rung.arithmetic, "fused": rung.fused, **rung.settings}
        about["precision"] = precision_of(rung.arithmetic, device).name
        about["cache"] = rung.cache or "resident batch"
        if "left_out" in facts:
            add(about | facts)
            print(f"{rung.name:{WIDTHS[0]}}  left out: {facts['left_out']}", flush=True)
            continue
        images = facts["images_per_second"]
        if not rung.cache and images > speed:
            best, speed = rung, images
        facts["ratio"] = images / before if before else None
        before = images
        add(about | facts)
        ratio = f"{facts['ratio']:.2f}" if facts["ratio"] else ""
        cells = (rung.name, f"{images:.1f}", gibibytes(facts["peak_memory_bytes"]), ratio)
        print(row(cells, WIDTHS), flush=True)
    print("\nratio to the row before; a measure that costs is kept all the same, but for compile and cuda_graph")


def _measured(inputs: TrainerInputs, batch: Batch, rung: Rung, seconds: float) -> dict[str, Any]:
    device = inputs.precision.device
    missing = unavailable(rung.arithmetic, device)
    if missing:
        return {"left_out": missing}
    settings = {"lr": 1e-6, "schedule": "constant", "precision": precision_of(rung.arithmetic, device).name}
    with (
        arithmetic(rung.arithmetic, inputs.train.deterministic),
        opened(inputs, rung.cache or "none", **settings, **rung.settings) as trainer,
    ):
        loop = trainer.loop
        if not rung.fused:
            loop.optimizer = unfused(loop)
        if rung.cache:
            return throughput(trainer, endless(trainer), seconds, rung.name)
        facts = throughput(trainer, repeat(batch), seconds, rung.name)
        if rung.settings["compile"] or rung.settings["cuda_graph"]:
            if loop.forward._call is loop.forward.model:
                return {"left_out": "it failed, see above"}
            facts["compile_seconds"] = compile_seconds(facts, batch)
        return facts


def unfused(loop: TrainingLoop) -> torch.optim.Optimizer:
    """The optimizer as torch has it by default; it knows no ``found_inf``, and would refuse the loop's."""
    kind = type(loop.optimizer)
    deaf = type(f"Unfused{kind.__name__}", (kind,), {"found_inf": property(lambda _: None, lambda _, value: None)})
    loop.optimizer.__class__ = deaf
    for group in loop.optimizer.param_groups:
        group["fused"] = None
    return loop.optimizer


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the config that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a TOML file, as for segkit run")
    parser.add_argument("overrides", nargs="*", metavar="table.key=value")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    given = parser.parse_intermixed_args(arguments)
    config = read_config(given.config, given.overrides)
    inputs, batch = prepared(config)
    with given.json.open("w", encoding="utf-8") if given.json else nullcontext() as file:
        climb(inputs, batch, given.seconds, introduced(config, inputs, batch, file, "rung"))


if __name__ == "__main__":
    main()
