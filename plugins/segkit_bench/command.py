"""The command line of ``bench``; arguments are checked before torch is imported."""

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

    Measures images per second of the whole pipeline and of one batch kept on the device, the parts of a step, and FLOPs
    and bytes relative to a matmul and a copy on the same device. No run folder is read or written. All times are
    measured in one process: on a CPU shared with other programs, compare the ratios only.
    """

    synonyms = ("benchmark",)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Config, overrides, and how long to measure."""
        parser.add_argument("config", help="a TOML file, as for run")
        parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="e.g. train.batch_size=16")
        told = "write one JSON object per measurement to FILE; without FILE, print them instead of the table"
        parser.add_argument("--json", metavar="FILE", nargs="?", const=True, help=told)
        parser.set_defaults(_document=True)
        add_output_options(parser)
        parser.add_argument("--warmup", type=_count, metavar="N", help="untimed steps; default 10, on a CPU 2")
        parser.add_argument("--steps", type=_count, metavar="N", help="steps timed together; default 50, on a CPU 5")
        parser.add_argument("--repeats", type=_count, default=3, metavar="N", help="the median is reported; default 3")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Measure the config and report the results."""
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
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)
