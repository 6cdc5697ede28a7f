"""The commands ``report`` and ``compare``."""

from __future__ import annotations

import argparse
import sys

from segkit.cli.output import add_output_options, print_json


class Compare:
    """Compare runs: scores with their floors by split, time, memory, and differences of their configs.

    To compare mixed with full precision, run one config twice: `run CONFIG train.precision=fp32 output.dir=runs/fp32`,
    the same with bf16, then `compare runs/fp32 runs/bf16`. An unfinished run shows its best epoch so far. For runs that
    differ only in seed or fold, the mean and standard deviation of the scores are shown; over the folds of a dataset,
    val's mean is the cross-validated score.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the runs and output options."""
        parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, or a folder of runs: all of them")
        parser.add_argument("--html", metavar="FILE", help="write a page for a browser too, with curves and classes")
        parser.add_argument(
            "--ensemble",
            action="store_true",
            help="score the mean of the runs' probabilities on the last split, and show the gain over each run",
        )
        document = "runs, each with settings, splits and costs; differences; spread and ensemble by split"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Read the folders, print the tables and write the page."""
        from pathlib import Path

        from segkit.errors import RunFolderError
        from segkit_report.compare import Splits, differences, spread, tables
        from segkit_report.story import Story

        found: dict[Path, Story] = {}
        for place in map(Path, arguments.runs):
            inside = [] if (place / "run.json").exists() else sorted(path.parent for path in place.glob("*/run.json"))
            for each in inside or [place]:
                try:
                    found[each.resolve()] = Story(str(each))
                except RunFolderError as error:
                    if not inside:
                        raise
                    print(f"left out: {error}", file=sys.stderr)  # a run without a finished epoch
        runs = list(found.values())
        if not runs:
            raise RunFolderError(f"{', '.join(arguments.runs)}: no run there has ended an epoch")
        ensemble: Splits = {}
        if arguments.ensemble:
            from segkit_predict.evaluate import evaluate_run

            ensemble, _ = evaluate_run([run.folder for run in runs], [runs[0].last_split])
        if arguments.html:
            from segkit_report.page import write_comparison

            write_comparison(runs, Path(arguments.html), ensemble)
        if arguments.json:
            changed, means = differences([run.settings for run in runs]), spread(runs)
            more = {"differences": changed, "spread": means, "ensemble": ensemble}
            facts = ("name", "finished", "settings", "splits", "costs")
            print_json({"runs": [{fact: getattr(run, fact) for fact in facts} for run in runs], **more})
        else:
            print(tables(runs, ensemble))
            if arguments.html and not arguments.quiet:
                print(f"\n{arguments.html}")
        return 0


class Report:
    """Write the report of a run, one file for a browser: verdict, curves, classes, confusions, images, data, config.

    Every run writes report.html into its folder and updates it while training, unless SEGKIT_REPORT=0 is set. This
    command writes it again, for example for a run of an older version.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the run folder and output file."""
        parser.add_argument("run", metavar="RUN", help="a run folder")
        parser.add_argument("--output", metavar="FILE", help="default: report.html in the run folder")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Read the folder and write the page."""
        from pathlib import Path

        from segkit_report.page import write_report
        from segkit_report.story import Story

        path = Path(arguments.output or Path(arguments.run) / "report.html")
        write_report(Story(arguments.run), path)
        print(path)
        return 0
