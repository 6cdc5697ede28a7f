"""The command ``run``: train and evaluate what a config describes."""

from __future__ import annotations

import argparse
import sys

from segkit.cli import INTERRUPTED
from segkit.config import read_config


class Run:
    """Train a model as a config says, and score it on every split.

    Everything goes to the run folder: checkpoints, metrics.jsonl, pictures in samples/, result.json.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Config, overrides, and what to do with a folder that holds a run."""
        parser.add_argument("config", help="a TOML file")
        parser.add_argument(
            "overrides",
            nargs="*",
            metavar="table.key=value",
            help="e.g. train.epochs=3 dataset.root=data loss.0.scale=2",
        )
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--resume", action="store_true", help="go on with the run in the folder")
        group.add_argument("--overwrite", action="store_true", help="replace the run in the folder")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Train; 0 when the run is complete."""
        config = read_config(arguments.config, arguments.overrides)  # wrong ones answer before torch is imported
        try:
            from segkit.compose import run_config

            run_config(config, resume=arguments.resume, overwrite=arguments.overwrite)
        except KeyboardInterrupt:
            kept = (config.folder / "last.pt").exists()
            what = (
                f"{config.folder} holds the last whole epoch; --resume goes on from there"
                if kept
                else "nothing to keep"
            )
            print(f"segkit: interrupted; {what}", file=sys.stderr)
            return INTERRUPTED
        return 0
