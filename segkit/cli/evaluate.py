"""The command ``evaluate``: score a finished run again."""

from __future__ import annotations

import argparse

from segkit.cli.output import add_output_options, messages, print_json
from segkit.errors import ConfigError, printable


class Evaluate:
    """Score a run's best weights on its splits again, and print the table that the run printed.

    Nothing is written; the data is read from where the run read it, unless an override says otherwise.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Run folder, splits, overrides."""
        parser.add_argument("run", help="a run folder")
        parser.add_argument("--split", action="append", help="train, val or test; may be repeated; left out: all")
        add_output_options(parser, document="the scores under splits, as in result.json")
        parser.add_argument(
            "overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data train.device=cpu"
        )

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Evaluate and print."""
        from segkit.engine.console import final_table
        from segkit.evaluation import evaluate_run

        for word in arguments.overrides:
            if word in ("train", "val", "test"):
                raise ConfigError(f"{word}: a split is given as --split {word}")
        with messages(aside=arguments.json, quiet=arguments.quiet):
            scores = evaluate_run(arguments.run, arguments.split or (), arguments.overrides)
        if arguments.json:
            print_json({"splits": scores.splits})
        else:
            print(printable(final_table(scores.splits, scores.classes, scores.shares)))
        return 0
