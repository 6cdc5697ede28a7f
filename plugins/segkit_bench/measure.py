"""The measurement of a config as it stands: its two throughputs, the parts of a step, and the ceilings above it."""

from __future__ import annotations

import math
from typing import Any, TextIO

import torch

from segkit.config import Config
from segkit.engine.inputs import explained
from segkit_bench.clock import PARTS, Amount, parts_of_step, throughput
from segkit_bench.limits import COUNTS, ceilings, least_work
from segkit_bench.report import Report, gibibytes
from segkit_bench.subject import TIMED_ONLY, Subject

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
    subject = Subject(config)
    usual = (10, 50) if subject.device.type == "cuda" else (2, 5)
    amount = Amount(warmup or usual[0], steps or usual[1], repeats, math.inf if warmup or steps else SECONDS)
    report = Report(subject, amount, file, table)
    searched = torch.backends.cudnn.benchmark
    with explained(subject.inputs, lambda: "bench ends here"):
        report.introduce()
        torch.backends.cudnn.benchmark = not subject.inputs.train.deterministic  # as in a run
        try:
            resident = _resident(subject, amount, report)
            counted = least_work(
                subject.loop(1, compile=False, cuda_graph=False, **TIMED_ONLY), next(subject.resident())
            )
            limits = ceilings(subject.precision)
            resident |= _beside(resident["images_per_second"], subject.images, counted, limits)
            report.add("resident", {**resident, **counted, **limits})
            _pipeline(subject, amount, report, resident)
        finally:
            torch.backends.cudnn.benchmark = searched
    for label, text in _lines(resident, counted, limits).items():
        report.fact(label, text)
    report.say(f"* {COUNTS}")


def _resident(subject: Subject, amount: Amount, report: Report) -> dict[str, Any]:
    """The speed of steps on one batch that lies on the device."""

    def begun(seconds: float, images: int) -> None:
        if seconds > SLOW:
            report.add("first_step", {"first_step_seconds": seconds, "images_per_second": images / seconds})
            report.fact("first step", f"{images / seconds:.2g} images/s; the rest as it comes")

    train = subject.inputs.train
    loop = subject.loop(3 * amount.total, **TIMED_ONLY)
    resident = throughput(loop, subject.resident(), amount, "resident batch", begun)
    report.fact("resident batch", _speed(resident))
    if train.compile or train.cuda_graph:
        seconds = resident["first_step_seconds"] - subject.images / resident["images_per_second"]
        resident |= {"compile_seconds": seconds, "fell_back": subject.fell_back(loop)}
        report.fact("compiled", "no, it failed" if resident["fell_back"] else f"in {seconds:.1f} s")
    return resident


def _pipeline(subject: Subject, amount: Amount, report: Report, resident: dict[str, Any]) -> None:
    """The whole pipeline and the parts of its steps, each reported as soon as it is there."""
    loop = subject.loop(3 * amount.total, **TIMED_ONLY)
    with subject.batches() as batches:
        pipeline = throughput(loop, subject.ahead(batches()), amount, "pipeline")
        share = pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
        report.add("pipeline", pipeline)
        verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
        if max(_spread(resident), _spread(pipeline)) > UNSTEADY:
            verdict = "too uneven to say more; does something else run here?"
        report.fact("pipeline", f"{_speed(pipeline)}; {share:.2f} of it: {verdict}")
        parts = parts_of_step(loop, batches(), pipeline["warmup"], pipeline["steps"])
        report.add("split", {f"{part}_milliseconds": taken for part, taken in parts.items()})
        told = ", ".join(f"{part} {parts[part]:.1f}" for part in PARTS)
        report.fact("a step, waited for", f"{told}; {parts['step']:.1f} ms")


def _beside(speed: float, images: int, counted: dict[str, Any], limits: dict[str, Any]) -> dict[str, float]:
    """The step beside the ceilings."""
    flops, moved = counted["step_flops_per_image"] * speed, counted["least_bytes_per_step"] * speed / images
    return {
        "flops_per_second": flops,
        "mfu": flops / limits["matmul_flops_per_second"],
        "least_bytes_per_second": moved,
        "of_copy": moved / limits["copy_bytes_per_second"],
    }


def _lines(resident: dict[str, Any], counted: dict[str, Any], limits: dict[str, Any]) -> dict[str, str]:
    return {
        "FLOPs an image": f"{counted['forward_flops_per_image'] / 1e9:.3g} G forward, "
        f"{counted['step_flops_per_image'] / 1e9:.3g} G a step",
        "MFU": f"{resident['mfu']:.2f}: {resident['flops_per_second'] / 1e12:.3g} of "
        f"{limits['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s in a matmul of {limits['matmul_size']}",
        "memory traffic": f"at least {resident['least_bytes_per_second'] / 1e9:.3g} of "
        f"{limits['copy_bytes_per_second'] / 1e9:.3g} GB/s in a copy*",
    }


def _spread(facts: dict[str, Any]) -> float:
    speeds: list[float] = facts["images_per_second_of_repeats"]
    return max(speeds) / min(speeds)


def _speed(facts: dict[str, Any]) -> str:
    speeds = facts["images_per_second_of_repeats"]
    told = f"{facts['images_per_second']:.1f} images/s ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"{told}, peak memory {gibibytes(facts['peak_memory_bytes'])}"
