"""The measurement of a config as it stands: its two throughputs, the parts of a step, and the ceilings above it."""

from __future__ import annotations

from typing import Any

from segkit_bench.arithmetic import arithmetic, as_in_a_run
from segkit_bench.ceilings import ceilings
from segkit_bench.clock import Amount, throughput
from segkit_bench.outcome import fell_back
from segkit_bench.parts import PARTS, split
from segkit_bench.report import Report, gibibytes
from segkit_bench.subject import HARDLY, Subject
from segkit_bench.work import COUNTS, work

LIMIT = 0.95  # of the resident batch's speed; below, the data path costs
SLOW = 5.0  # seconds of a step, from which on it is a first figure by itself
UNSTEADY = 1.5  # the fastest repeat over the slowest; on a machine of one's own they differ by a few per cent


def measure_plainly(subject: Subject, amount: Amount, report: Report) -> None:
    """Measure and tell."""
    name = as_in_a_run(subject.precision)
    with arithmetic("as in a run", subject.job.train.deterministic):
        resident = _resident(subject, amount, report)
        report.fact("resident batch", _speed(resident))
        if "compile_seconds" in resident:
            told = "no, it failed" if resident["fell_back"] else f"in {resident['compile_seconds']:.1f} s"
            report.fact("compiled", told)
        counted = work(subject.loop(1, compile=False, cuda_graph=False, **HARDLY), next(subject.resident()))
        limits = ceilings(name, subject.device)
        resident |= _beside(resident["images_per_second"], subject.images, counted, limits)
        report.add("resident", {**resident, **counted, **limits})
        _supplied(subject, amount, report, resident)
    for label, text in _lines(resident, counted, limits).items():
        report.fact(label, text)
    report.say(f"* {' '.join(COUNTS.split())}")


def _resident(subject: Subject, amount: Amount, report: Report) -> dict[str, Any]:
    def begun(seconds: float, images: int) -> None:
        if seconds > SLOW:
            report.add("first_step", {"first_step_seconds": seconds, "images_per_second": images / seconds})
            report.fact("first step", f"{images / seconds:.2g} images/s; the rest as it comes")

    loop = subject.loop(3 * amount.total, **HARDLY)
    resident = throughput(loop, subject.resident(), amount, "resident batch", begun)
    if subject.job.train.compile or subject.job.train.cuda_graph:
        resident["compile_seconds"] = resident["first_step_seconds"] - subject.images / resident["images_per_second"]
        resident["fell_back"] = fell_back(loop)
    return resident


def _supplied(subject: Subject, amount: Amount, report: Report, resident: dict[str, Any]) -> None:
    """The pipeline and the parts of its steps, each told as soon as it is there."""
    loop = subject.loop(3 * amount.total, **HARDLY)
    with subject.supply() as supply:
        pipeline = throughput(loop, supply.ahead(), amount, "pipeline")
        share = pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
        report.add("pipeline", pipeline)
        verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
        if max(_spread(resident), _spread(pipeline)) > UNSTEADY:
            verdict = "too uneven to say more; does something else run here?"
        report.fact("pipeline", f"{_speed(pipeline)}; {share:.2f} of it: {verdict}")
        parts = split(loop, supply.endless(), Amount(*(pipeline[key] for key in ("warmup", "steps", "repeats"))))
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
    size = limits["matmul_size"]
    return {
        "FLOPs an image": f"{counted['forward_flops_per_image'] / 1e9:.3g} G forward, "
        f"{counted['step_flops_per_image'] / 1e9:.3g} G a step",
        "MFU": f"{resident['mfu']:.2f}: {resident['flops_per_second'] / 1e12:.3g} of "
        f"{limits['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s in a matmul of {size}",
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
