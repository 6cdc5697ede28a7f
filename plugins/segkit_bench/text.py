"""Describes measurements as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segkit_bench.clock import PARTS
from segkit_bench.limits import COUNTS

LIMIT = 0.95  # of the resident batch's speed; if the pipeline is slower, the data path is a bottleneck


def text_of(name: str, document: Mapping[str, Any]) -> list[str]:
    """Return the lines of the measurement called ``name``, given all measurements so far."""
    facts = document[name]
    if name == "conditions":
        how = [facts["arithmetic"]] + [each for each in ("channels_last", "compile", "cuda_graph") if facts[each]]
        height, width = facts["crop"]
        return [
            f"{facts['config']}: {facts['model']}, {facts['parameters'] / 1e6:.2f} M parameters; {', '.join(how)}; "
            f"batches of {facts['batch_size']}, {height}x{width}",
            f"{facts['device']}, threads: {facts['threads']}; torch {facts['torch']}, CUDA {facts['cuda'] or 'none'}, "
            f"segkit {facts['segkit']}",
            "",
        ]
    if name == "resident":
        lines = [("resident batch", _speed(facts))]
        if "compile_seconds" in facts:
            taken = f"in {facts['compile_seconds']:.1f} s"
            lines += [("compiled", "no, it failed" if facts["fell_back"] else taken)]
    elif name == "pipeline":
        share = facts["of_resident"]
        verdict = "the network is the limit" if share >= LIMIT else "the data path costs the rest"
        lines = [("pipeline", f"{_speed(facts)}; {share:.2f} of it: {verdict}")]
    elif name == "split":
        told = ", ".join(f"{part} {facts[f'{part}_milliseconds']:.1f}" for part in PARTS)
        lines = [("a step, waited for", f"{told}; {facts['step_milliseconds']:.1f} ms")]
    else:
        forward, step = (facts[f"{part}_flops_per_image"] / 1e9 for part in ("forward", "step"))
        reached, most = facts["flops_per_second"] / 1e12, facts["matmul_flops_per_second"] / 1e12
        moved, copied = facts["least_bytes_per_second"] / 1e9, facts["copy_bytes_per_second"] / 1e9
        of = f"{reached:.3g} of {most:.3g} TFLOP/s in a matmul of {facts['matmul_size']}"
        lines = [
            ("FLOPs an image", f"{forward:.3g} G forward, {step:.3g} G a step"),
            ("MFU", f"{facts['mfu']:.2f}: {of}"),
            ("memory traffic", f"at least {moved:.3g} of {copied:.3g} GB/s in a copy: {COUNTS}"),
        ]
    return [f"{title:20}{text}" for title, text in lines]


def _speed(facts: Mapping[str, Any]) -> str:
    speeds = facts["images_per_second_of_repeats"]
    told = f"{facts['images_per_second']:.1f} images/s ({min(speeds):.1f} to {max(speeds):.1f})"
    return f"{told}, peak memory {gibibytes(facts['peak_memory_bytes'])}"


def gibibytes(count: float) -> str:
    """Format a number of bytes in GiB."""
    return f"{count / (1 << 30):.2f} GiB"
