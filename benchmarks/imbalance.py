"""What helps against a network that learns only its background: the same steps and seeds for every remedy.

    python benchmarks/imbalance.py shapes
    python benchmarks/imbalance.py voc --root data

trains every remedy with three seeds, with and without class-balanced crops, and prints a table. A run that is finished
already, with this config, is not run again. One learning rate serves all losses; VOC is scored on the split that the
best epoch is chosen by, as its test labels were never published.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import segkit
from segkit.config import read_config

LOSSES: dict[str, list[dict[str, Any]]] = {
    "cross-entropy": [{"name": "cross_entropy"}],
    "weighted cross-entropy": [{"name": "cross_entropy", "class_weights": "median_frequency"}],
    "focal": [{"name": "focal"}],
    "Dice + cross-entropy": [{"name": "cross_entropy"}, {"name": "dice", "include_background": False}],
}
DATA: dict[str, dict[str, Any]] = {
    "shapes": {  # 97 % background, the rest in many classes
        "dataset": {"name": "shapes", "variety": "many", "size": 128, "images": [480, 120, 120]},
        "model": {"name": "unet", "width": 16, "depth": 3},
        "augment": {"crop": 64},
        "train": {"epochs": 10, "repeat": 3, "batch_size": 16, "lr": 3e-3, "schedule": "one_cycle"},
    },
    "voc": {
        "dataset": {"name": "voc", "root": "data"},
        "model": {"name": "unet", "width": 16},
        "data": {"resize": 0.5},
        "augment": {"crop": 160, "scale": [0.7, 1.5]},
        "train": {"epochs": 6, "repeat": 6, "batch_size": 8, "lr": 2e-3, "schedule": "one_cycle"},
    },
}
SCORED = {"shapes": "test", "voc": "val"}  # VOC's test labels were never published


class Trial(NamedTuple):
    """One run; only these differ between the runs of one table."""

    data: str
    loss: str
    balanced: bool
    seed: int
    longer: int = 1

    @property
    def folder(self) -> Path:
        """Where it writes."""
        name = self.loss.replace(" ", "").replace("+", "-") + ("-balanced" if self.balanced else "")
        longer = f"-{self.longer}-times" if self.longer > 1 else ""
        return Path("runs/imbalance") / self.data / f"{name}-{self.seed}{longer}"

    def config(self, root: str | None) -> dict[str, Any]:
        """Its config."""
        base = DATA[self.data]
        share = {"class_balanced": 0.5} if self.balanced else {}
        place = {"root": root} if root else {}
        repeat = base["train"]["repeat"] * self.longer
        return {
            **base,
            "dataset": {**base["dataset"], **place},
            "loss": LOSSES[self.loss],
            "augment": {**base["augment"], **share},
            "train": {**base["train"], "repeat": repeat, "seed": self.seed},
            "output": {"dir": str(self.folder), "samples": 4},
        }

    def scores(self, root: str | None) -> dict[str, Any] | None:
        """What that very run reached, if it is complete and of this config."""
        if not (self.folder / "result.json").exists():
            return None
        wanted = read_config(self.config(root)).record()
        if json.loads((self.folder / "run.json").read_text())["config"] != json.loads(json.dumps(wanted)):
            return None
        scores: dict[str, Any] = json.loads((self.folder / "result.json").read_text())["splits"][SCORED[self.data]]
        return scores


def row(loss: str, balanced: bool, found: Sequence[dict[str, Any]]) -> str:
    """The runs of one remedy in Markdown: mean and standard deviation over the seeds."""
    classes = ", ".join(str(scores["predicted"]["classes"]) for scores in found)  # one number a seed
    floor = found[0]["floor"]
    cells = [
        *(loss, "half of them" if balanced else "no"),
        *(spread([scores["mean_iou"] for scores in found]), f"{floor['mean_iou']:.3f}"),
        *(spread([scores["pixel_accuracy"] for scores in found]), f"{floor['pixel_accuracy']:.3f}"),
        f"{classes} of {len(found[0]['class_iou'])}",
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """``0.412 ± 0.010``."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is not finished, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", choices=list(DATA))
    parser.add_argument("--root", help="where the data lies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--longer", type=int, default=1, help="so many times the steps")
    arguments = parser.parse_args()
    lines = [
        "| loss | class-balanced crops | mIoU | floor | pixel accuracy | floor | classes predicted |",
        "|---" * 7 + "|",
    ]
    for loss, balanced in product(arguments.losses, (False, True)):
        found = []
        for seed in arguments.seeds:
            trial = Trial(arguments.data, loss, balanced, seed, arguments.longer)
            if trial.scores(arguments.root) is None:
                segkit.run(trial.config(arguments.root), overwrite=True)
            found.append(trial.scores(arguments.root) or {})
        lines.append(row(loss, balanced, found))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
