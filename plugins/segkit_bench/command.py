"""The command line of ``bench``: what is asked for, checked before torch is imported."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path

from segkit.cli.output import add_output_options
from segkit.config import read_config
from segkit.errors import ConfigError, reason


class Bench:
    """Measure how fast a config trains on this machine, and what limits it.

    Images per second of the whole pipeline and of one batch that stays on the device; the parts of a step; FLOPs and
    bytes beside what the device reaches in a matmul and a copy. No run folder is read or written. Times of one process
    are compared with each other: on a CPU that others use too, look at the ratios.
    """

    synonyms = ("benchmark",)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Config, overrides, and how long to measure."""
        parser.add_argument("config", help="a TOML file, as for run")
        parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="e.g. train.batch_size=16")
        told = "a JSON object a measurement, to a file; without FILE it is printed, and no table"
        parser.add_argument("--json", metavar="FILE", nargs="?", const=True, help=told)
        parser.set_defaults(_document=True)
        add_output_options(parser)
        parser.add_argument("--warmup", type=_count, metavar="N", help="steps that are not timed: 10; on a CPU 2")
        parser.add_argument("--steps", type=_count, metavar="N", help="steps that are timed together: 50; on a CPU 5")
        parser.add_argument("--repeats", type=_count, default=3, metavar="N", help="whose median is told: 3")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Measure and print."""
        config = read_config(arguments.config, arguments.overrides)
        if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
            raise ConfigError("bench measures one process, and torchrun has started several: run it without torchrun")
        printed = arguments.json in (True, "-")
        with ExitStack() as stack:
            file = None
            if arguments.json and not printed:
                try:
                    file = stack.enter_context(Path(arguments.json).open("w", encoding="utf-8"))
                except OSError as error:
                    raise ConfigError(f"--json {arguments.json} cannot be written: {reason(error)}") from error
            from segkit_bench.measure import measure

            counts = arguments.warmup, arguments.steps, arguments.repeats
            measure(config, *counts, file=file, table=not printed)
        return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on is needed")
    return int(text)
