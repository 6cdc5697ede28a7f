"""The commands ``report`` and ``compare``."""

from __future__ import annotations

import argparse
import sys

from segkit.cli.output import add_output_options, print_json


class Compare:
    """Set runs side by side: scores beside their floors by split, time, memory, and what differs in their configs.

    "Mixed against full precision" is two runs of one config: `run CONFIG train.precision=fp32 output.dir=runs/fp32`,
    the same with bf16, and `compare runs/fp32 runs/bf16`. A run that is not finished shows the best epoch so far.
    Of runs that differ in their seed or their fold alone the mean is told, with its standard deviation: over the
    folds of a data set val's is the cross-validated score.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The runs, and how to print."""
        parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, or a folder of runs: all of them")
        parser.add_argument("--html", metavar="FILE", help="write a page for a browser too, with curves and classes")
        parser.add_argument(
            "--ensemble",
            action="store_true",
            help="score the mean of the runs' probabilities on the last split, and tell what it gains beside each",
        )
        document = "runs, each with settings, splits and costs; differences; spread and ensemble by split"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Read the folders, print, write."""
        from pathlib import Path

        from segkit.errors import RunFolderError, SegkitError
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
                    print(f"left out: {error}", file=sys.stderr)  # one that has just begun
        runs = list(found.values())
        if not runs:
            raise RunFolderError(f"{', '.join(arguments.runs)}: no run there has ended an epoch")
        ensemble: Splits = {}
        no_ensemble: SegkitError | None = None
        if arguments.ensemble:
            from segkit.runs import evaluate_run

            try:
                ensemble = evaluate_run([run.folder for run in runs], [runs[0].last_split]).splits
            except SegkitError as error:  # told after what can be compared all the same
                no_ensemble = error
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
        if no_ensemble:
            raise no_ensemble
        return 0


class Report:
    """Write the report of a run, one file for a browser: verdict, curves, classes, confusions, images, data, config.

    Every run writes it as report.html in its folder, anew as it goes on (SEGKIT_REPORT=0 leaves it out); this does
    it again, as for a run of an older version.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The run, and where to write."""
        parser.add_argument("run", metavar="RUN", help="a run folder")
        parser.add_argument("--output", metavar="FILE", help="left out: report.html in the run folder")

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
