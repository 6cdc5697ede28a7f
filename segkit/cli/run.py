"""The commands ``run`` and ``evaluate``: train and evaluate as a config describes; evaluate a finished run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.cli.output import add_output_options, print_json, rank
from segkit.config import read_config
from segkit.errors import ConfigError, SegkitError, TrainingError, cause
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
                with STOP.held():  # an interrupted import leaves half-initialised modules and obscure errors
                    try:
                        config = read_config(arguments.config, arguments.overrides)
                    except SegkitError as error:
                        if rank() == "0":  # all processes read the same config, and one reports the error
                            raise
                        return error.exit_status
                    from segkit.runs import run
                how = {"resume": arguments.resume, "overwrite": arguments.overwrite, "quiet": arguments.quiet}
                result = run(config, **how)
            except SystemExit as error:  # a component called sys.exit, perhaps with status 0
                raise TrainingError(f"a component ended the run: {cause(error)}") from error
            except KeyboardInterrupt:
                STOP.leave()
                raise
        if arguments.json and rank() == "0":
            print_json(vars(result))
        return 0


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
        from segkit.runs import evaluate_run

        words = [*arguments.run, *arguments.overrides]
        runs = [word for word in words if "=" not in word or Path(word).exists()]
        overrides = [word for word in words if word not in runs]
        for word in runs:
            if word in ("train", "val", "test") and not Path(word).exists():
                raise ConfigError(f"{word}: a split is given as --split {word}")
        scores = evaluate_run(runs, arguments.split or (), overrides)
        if arguments.json:
            print_json({"splits": scores.splits})
        else:
            print(final_table(scores.splits, scores.classes, scores.shares))
        return 0
