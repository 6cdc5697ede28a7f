"""The command ``calibrate``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import segkit
from segkit.cli.output import add_output_options, print_json, table


class Calibrate:
    """Make a run's probabilities as often right as they say: fit its temperature on val.

    Logits are divided by it, so that labels stay what they are. It is kept in the run's config.json, and from then on
    `predict --probabilities`, ensembles, and what `evaluate` says of probabilities use it. The table is of the
    expected calibration error before and after on each split but train; of val, which it was fitted on, it is no
    proof. `report RUN` draws both. A run that is resumed forgets it. Guo et al., arXiv 1706.04599.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Run folder, overrides, how to print."""
        parser.add_argument("run", metavar="RUN", help="a run folder")
        parser.add_argument(
            "overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data train.device=cpu"
        )
        document = "temperature; of each split before and after the calibration_error, loss and reliability by bin"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Fit, write, score again."""
        from segkit.files import write_json

        folder = Path(arguments.run)
        record = segkit.read_run(folder)
        names = [name for name in record.splits if name != "train"]
        before, fitted = _scores(arguments, names)
        temperature = float(record.model.get("temperature") or 1.0) * fitted  # of one that was calibrated before
        write_json(folder / "config.json", {**record.model, "temperature": temperature})
        after, _ = _scores(arguments, names)
        splits = {name: {"before": before[name], "after": after[name]} for name in names}
        content = {**record.model, "temperature": temperature, "calibration": splits}
        write_json(folder / "config.json", content)
        if arguments.json:
            print_json({"temperature": temperature, "splits": splits})
            return 0
        rows = [["", "calibration error", "loss"]]
        for name, each in splits.items():
            before_after = [each[when] for when in ("before", "after")]
            rows.append([name, *(_arrow(before_after, key) for key in ("calibration_error", "loss"))])
        print(f"temperature {temperature:.3f}, fitted on val and kept in {folder / 'config.json'}")
        print(f"before -> after\n{table(rows, '<>>', indent=0)}")
        print(f"next:   segkit report {shlex.quote(str(folder))} draws how sure it is beside how often it is right")
        return 0


def _arrow(before_after: list[dict[str, Any]], key: str) -> str:
    return " -> ".join(f"{each[key]:.4f}" for each in before_after)


def _scores(arguments: argparse.Namespace, names: list[str]) -> tuple[dict[str, dict[str, Any]], float]:
    """By split the calibration error, loss and reliability of the run as it is, and the temperature val asks for."""
    from segkit.runs import evaluate_run
    from segkit_calibration.temperature import TemperatureFit, fitted_temperature

    found, fitted = {}, 1.0
    for name in names:
        classes, void = (segkit.read_run(arguments.run).model[key] for key in ("num_classes", "ignore_index"))
        meter = TemperatureFit(classes, void)
        scores = evaluate_run(arguments.run, [name], arguments.overrides, {"its calibration": meter}).splits[name]
        found[name] = {"calibration_error": meter.compute(), "loss": scores["loss"], "reliability": meter.reliability()}
        if name == "val":
            fitted = fitted_temperature(*meter.sample())
    return found, fitted
