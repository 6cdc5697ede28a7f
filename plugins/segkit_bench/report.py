"""Reports measurements as text and as JSON lines that include the conditions of the measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

import torch

import segkit
from segkit.cli.output import hanging, print_json
from segkit.errors import ConfigError, reason
from segkit_bench.clock import Amount
from segkit_bench.limits import arithmetic_of


class Report:
    """Reports each measurement at once.

    Args:
        name: the name of the config.
        inputs: the trainer inputs built from the config.
        batch: the batch of a step.
        amount: the numbers of steps and repeats.
        file: a file for the JSON lines.
        table: whether to print text; otherwise the JSON lines are printed.
    """

    def __init__(self, name: str, inputs: Any, batch: Any, amount: Amount, file: TextIO | None, table: bool) -> None:
        self.file, self.table = file, table
        self.context = {"config": name, **context(inputs, batch), **vars(amount)}

    def say(self, text: str) -> None:
        """Print text, wrapped to the terminal."""
        if self.table:
            print("\n".join(hanging(line) for line in text.split("\n")), flush=True)

    def fact(self, name: str, text: str) -> None:
        """Print a name and its value."""
        if self.table:
            print(hanging(f"{name:20}{text}", 20), flush=True)

    def add(self, measurement: str, facts: Mapping[str, Any]) -> None:
        """Write a measurement as a JSON line; its facts override the context."""
        if self.file or not self.table:
            try:
                print_json({"measurement": measurement, **self.context, **facts}, indent=None, file=self.file)
            except OSError as error:
                if self.file is None:
                    raise
                with suppress(OSError):  # buffered data cannot be written either
                    self.file.close()
                raise ConfigError(f"--json {self.file.name} could not be written: {reason(error)}") from error

    def introduce(self) -> None:
        """Print what is measured, and on which device."""
        facts = self.context
        how = [facts["arithmetic"]] + [name for name in ("channels_last", "compile", "cuda_graph") if facts[name]]
        height, width = facts["crop"]
        limit = facts["seconds"]
        fewer = f"; fewer where that takes longer than {limit:.0f} s" if math.isfinite(limit) else ""
        self.say(
            f"{facts['config']}: {facts['model']}, {facts['parameters'] / 1e6:.2f} M parameters; {', '.join(how)}; "
            f"batches of {facts['batch_size']}, {height}x{width}\n"
            f"{facts['device']}, threads: {facts['threads']}; torch {facts['torch']}, CUDA {facts['cuda'] or 'none'}, "
            f"segkit {facts['segkit']}\nsteps: {facts['warmup']} of warm-up, then {facts['repeats']} times "
            f"{facts['steps']}, the median of them{fewer}\n"
        )


def context(inputs: Any, batch: Any) -> dict[str, Any]:
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
        "fused": True,
        "workers": train.workers,
        "cache": inputs.data.cache,
    }


def gibibytes(count: float) -> str:
    """Format a number of bytes in GiB."""
    return f"{count / (1 << 30):.2f} GiB"
