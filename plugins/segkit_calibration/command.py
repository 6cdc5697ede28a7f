"""The command ``calibrate``: fits the softmax temperature of a finished run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import segkit
from segkit.cli.output import add_output_options, print_json, table


class Calibrate:
    """Calibrate a run's probabilities: fit a softmax temperature on val.

    Logits are divided by the temperature, so predicted labels do not change. It is stored in the run's config.json and
    used by `predict --probabilities`, ensembles, and the probability scores of `evaluate`. The table shows the expected
    calibration error before and after on each split except train; on val, where it was fitted, it proves nothing.
    `report RUN` plots both. Resuming the run removes the temperature. Guo et al., arXiv 1706.04599.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the run folder, overrides and output options."""
        parser.add_argument("run", metavar="RUN", help="a run folder")
        parser.add_argument(
            "overrides", nargs="*", metavar="table.key=value", help="e.g. dataset.root=data train.device=cpu"
        )
        document = "temperature; for each split, before and after: calibration_error, loss and reliability by bin"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Fit and store the temperature, and score the run before and after."""
        from segkit.files import write_json

        folder = Path(arguments.run)
        record = segkit.read_run(folder)
        names = [name for name in record.splits if name != "train"]
        now = float(record.model.get("temperature") or 1.0)  # of an earlier calibration
        before, fitted = _scores(arguments, names, now)
        temperature = now * fitted
        after, _ = _scores(arguments, names, temperature)
        splits = {name: {"before": before[name], "after": after[name]} for name in names}
        content = {**record.model, "temperature": temperature, "calibration": splits}
        write_json(folder / "config.json", content)
        if arguments.json:
            print_json({"temperature": temperature, "splits": splits})
            return 0
        rows = [["", "calibration error", "loss"]]
        for name, each in splits.items():
            keys = ("calibration_error", "loss")
            rows.append([name, *(f"{each['before'][key]:.4f} -> {each['after'][key]:.4f}" for key in keys)])
        print(f"temperature {temperature:.3f}, fitted on val and kept in {folder / 'config.json'}")
        print(f"before -> after\n{table(rows, '<>>', indent=0)}")
        print(f"next:   segkit report {shlex.quote(str(folder))} plots accuracy against confidence")
        return 0


def _scores(
    arguments: argparse.Namespace, names: list[str], temperature: float
) -> tuple[dict[str, dict[str, Any]], float]:
    """Return calibration error, loss and reliability by split at a temperature, and the one that fits val."""
    from segkit_calibration.metric import TemperatureFit, fitted_temperature
    from segkit_predict.evaluate import evaluate_run

    found, fitted = {}, 1.0
    model = segkit.read_run(arguments.run).model
    for name in names:
        meter = TemperatureFit(model["num_classes"], model["ignore_index"])
        more = {"its calibration": meter}
        scores = evaluate_run(arguments.run, [name], arguments.overrides, more, temperature)[0][name]
        found[name] = {"calibration_error": meter.compute(), "loss": scores["loss"], "reliability": meter.reliability()}
        if name == "val":
            fitted = fitted_temperature(*meter.sample())
    return found, fitted
