"""The command ``run``: train and evaluate as a config describes."""

from __future__ import annotations

import argparse

from segkit.cli.output import add_output_options, print_json, rank
from segkit.signals import STOP


class Run:
    """Train a model as a config describes, and evaluate it on every split.

    All results are written to the run folder: checkpoints, metrics.jsonl, pictures in samples/, result.json.
    """

    first = 1
    synonyms = ("train", "fit", "resume")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add config, overrides, and what to do with a folder that holds a run."""
        parser.add_argument("config", help="a TOML file")
        parser.add_argument(
            "overrides",
            nargs="*",
            metavar="table.key=value",
            help="e.g. train.epochs=3 dataset.root=data loss.0.scale=2",
        )
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--resume", action="store_true", help="continue the run in the folder")
        group.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
        document = "the content of result.json, and the folder; progress is printed to the standard error"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Train; 0 when the run is complete, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        with STOP:
            try:
                from segkit.config import read_config  # slow to import; --help imports every command

                with STOP.held():  # an interrupted import leaves half-initialised modules and obscure errors
                    read_config(arguments.config, arguments.overrides)  # reports mistakes before the slow import
                    from segkit.runs import run
                how = {"resume": arguments.resume, "overwrite": arguments.overwrite, "quiet": arguments.quiet}
                result = run(arguments.config, arguments.overrides, **how)
            except KeyboardInterrupt:
                STOP.leave()
                raise
        if arguments.json and rank() == "0":
            print_json(vars(result))
        return 0
