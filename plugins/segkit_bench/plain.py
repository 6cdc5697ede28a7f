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
UNSTEADY = 1.5  # the fastest repeat over the slowest; on a machine of one's own they differ by a few per cent


def measure_plainly(subject: Subject, amount: Amount, report: Report) -> None:
    """Measure and tell."""
    name = as_in_a_run(subject.precision)
    with arithmetic("as in a run", subject.job.train.deterministic):
        counted = work(subject.loop(1, compile=False, cuda_graph=False, **HARDLY), next(subject.resident()))
        limits = ceilings(name, subject.device)
        resident, pipeline, parts = _timed(subject, amount)
    resident |= _beside(resident["images_per_second"], subject.images, counted, limits)
    report.add("resident", {**resident, **counted, **limits})
    pipeline["of_resident"] = pipeline["images_per_second"] / resident["images_per_second"]
    report.add("pipeline", pipeline)
    report.add("split", {f"{part}_milliseconds": taken for part, taken in parts.items()})
    for label, text in _lines(resident, pipeline, parts, counted, limits).items():
        report.fact(label, text)
    report.say(f"* {' '.join(COUNTS.split())}")


def _timed(subject: Subject, amount: Amount) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    loop = subject.loop(3 * amount.total, **HARDLY)
    resident = throughput(loop, subject.resident(), amount, "resident batch")
    if subject.job.train.compile or subject.job.train.cuda_graph:
        resident["compile_seconds"] = resident["first_step_seconds"] - subject.images / resident["images_per_second"]
        resident["fell_back"] = fell_back(loop)
    with subject.supply() as supply:
        pipeline = throughput(loop, supply.ahead(), amount, "pipeline")
        parts = split(loop, supply.endless(), amount)
    return resident, pipeline, parts


def _beside(speed: float, images: int, counted: dict[str, Any], limits: dict[str, Any]) -> dict[str, float]:
    """The step beside the ceilings."""
    flops, moved = counted["step_flops_per_image"] * speed, counted["least_bytes_per_step"] * speed / images
    return {
        "flops_per_second": flops,
        "mfu": flops / limits["matmul_flops_per_second"],
        "least_bytes_per_second": moved,
        "of_copy": moved / limits["copy_bytes_per_second"],
    }


def _lines(
    resident: dict[str, Any],
    pipeline: dict[str, Any],
    parts: dict[str, float],
    counted: dict[str, Any],
    limits: dict[str, Any],
) -> dict[str, str]:
    share, size = pipeline["of_resident"], limits["matmul_size"]
    verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
    if max(_spread(resident), _spread(pipeline)) > UNSTEADY:
        verdict = "too uneven to say more; does something else run here?"
    rows = {
        "resident batch": _speed(resident),
        "pipeline": f"{_speed(pipeline)}; {share:.2f} of it: {verdict}",
        "a step, waited for": ", ".join(f"{part} {parts[part]:.1f}" for part in PARTS) + f"; {parts['step']:.1f} ms",
        "FLOPs an image": f"{counted['forward_flops_per_image'] / 1e9:.3g} G forward, "
        f"{counted['step_flops_per_image'] / 1e9:.3g} G a step",
        "MFU": f"{resident['mfu']:.2f}: {resident['flops_per_second'] / 1e12:.3g} of "
        f"{limits['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s in a matmul of {size}",
        "memory traffic": f"at least {resident['least_bytes_per_second'] / 1e9:.3g} of "
        f"{limits['copy_bytes_per_second'] / 1e9:.3g} GB/s in a copy*",
    }
    if "compile_seconds" in resident:
        rows["compiled"] = "no, it failed" if resident["fell_back"] else f"in {resident['compile_seconds']:.1f} s"
    return rows


def _spread(facts: dict[str, Any]) -> float:
    speeds: list[float] = facts["images_per_second_of_repeats"]
    return max(speeds) / min(speeds)


def _speed(facts: dict[str, Any]) -> str:
    speeds = facts["images_per_second_of_repeats"]
    told = f"{facts['images_per_second']:.1f} images/s ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"{told}, peak memory {gibibytes(facts['peak_memory_bytes'])}"
