"""The command line of ``bench``; arguments are checked before torch is imported."""

from __future__ import annotations

import argparse
import os
from typing import Any

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ConfigError


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
        told = "of each measurement: resident batch, pipeline; default 20"
        parser.add_argument("--seconds", type=float, default=20.0, metavar="N", help=told)
        parser.add_argument("--warmup", "--steps", "--repeats", dest="counts", help=argparse.SUPPRESS)  # of 0.1
        add_output_options(parser, document="conditions, resident, pipeline, split and limits")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Measure the config; print each measurement as soon as it is there, or all as one JSON document."""
        from segkit.config import read_config

        config = read_config(arguments.config, arguments.overrides)
        if arguments.counts is not None:
            raise ConfigError("bench measures for a time and not a number of steps: --seconds N")
        if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
            raise ConfigError("bench measures one process, and torchrun has started several: run it without torchrun")
        from segkit_bench.measure import measure
        from segkit_bench.text import text_of

        document: dict[str, Any] = {}
        for name, facts in measure(config, arguments.seconds):
            document[name] = facts
            if not arguments.json:
                print("\n".join(hanging(line, 20) for line in text_of(name, document)), flush=True)
        if arguments.json:
            print_json(document)
        return 0
