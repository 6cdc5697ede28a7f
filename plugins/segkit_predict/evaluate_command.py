"""The command ``evaluate``: evaluate a finished run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.cli.output import add_output_options, print_json
from segkit.errors import ConfigError


class Evaluate:
    """Evaluate a run's best weights on its splits again, and print the table that the run printed.

    For several runs, such as seeds or folds, the probabilities are averaged, and only splits that are the same in all
    runs are evaluated. Nothing is written; the data is read from where the run read it, unless overridden.
    """

    synonyms = ("test", "val", "validate", "eval", "score")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add run folders, splits and overrides."""
        parser.add_argument("run", nargs="+", metavar="RUN", help="a run folder; several are averaged")
        parser.add_argument("--split", action="append", help="train, val or test; may be repeated; default: all")
        add_output_options(parser, document="the scores under splits, as in result.json")
        parser.add_argument(
            "overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data train.device=cpu"
        )

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Evaluate and print."""
        from segkit.engine.console import final_table
        from segkit_predict.evaluate import evaluate_run

        words = [*arguments.run, *arguments.overrides]
        runs = [word for word in words if "=" not in word or Path(word).exists()]
        overrides = [word for word in words if word not in runs]
        for word in runs:
            if word in ("train", "val", "test") and not Path(word).exists():
                raise ConfigError(f"{word}: a split is given as --split {word}")
        scores, scan = evaluate_run(runs, arguments.split or (), overrides)
        if arguments.json:
            print_json({"splits": scores})
        else:
            shares = {split: scan.counts(split).shares for split in scores}
            print(final_table(scores, scan.splits[next(iter(scores))].classes, shares))
        return 0
