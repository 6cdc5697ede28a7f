"""What helps against a network that learns only its background: the same steps and seeds for every remedy.

    python benchmarks/imbalance.py shapes
    python benchmarks/imbalance.py voc --root data

trains every remedy with three seeds, with and without class-balanced crops, and prints a table. A run that is finished
already is not run again, so that the table can be had while it grows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import segkit

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


def config(data: str, loss: str, balanced: bool, seed: int) -> dict[str, Any]:
    """The config of one run; only loss, crops and seed differ between the runs of one table."""
    base = DATA[data]
    share = {"class_balanced": 0.5} if balanced else {}
    return {
        **base,
        "loss": LOSSES[loss],
        "augment": {**base["augment"], **share},
        "train": {**base["train"], "seed": seed},
        "output": {"dir": str(folder(data, loss, balanced, seed)), "samples": 4},
    }


def folder(data: str, loss: str, balanced: bool, seed: int) -> Path:
    """Where that run writes."""
    name = loss.replace(" ", "").replace("+", "-") + ("-balanced" if balanced else "")
    return Path("runs/imbalance") / data / f"{name}-{seed}"


def table(data: str, seeds: list[int]) -> str:
    """The finished runs in Markdown: mean and standard deviation over the seeds."""
    lines = ["| loss | class-balanced crops | mIoU | floor | pixel accuracy | floor | classes predicted |"]
    lines.append("|---" * 7 + "|")
    for loss in LOSSES:
        for balanced in (False, True):
            files = [folder(data, loss, balanced, seed) / "result.json" for seed in seeds]
            found = [json.loads(file.read_text())["splits"][SCORED[data]] for file in files if file.exists()]
            if found:
                classes = [scores["predicted"]["classes"] for scores in found]
                cells = [
                    *(loss, "half of them" if balanced else "no"),
                    *(spread([scores["mean_iou"] for scores in found]), f"{found[0]['floor']['mean_iou']:.3f}"),
                    spread([scores["pixel_accuracy"] for scores in found]),
                    f"{found[0]['floor']['pixel_accuracy']:.3f}",
                    f"{', '.join(map(str, classes))} of {len(found[0]['class_iou'])}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """``0.412 ± 0.010``."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is not finished, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", choices=list(DATA))
    parser.add_argument("--root", help="where the data lies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    overrides = {"dataset.root": arguments.root} if arguments.root else {}
    for seed in arguments.seeds:
        for loss in LOSSES:
            for balanced in (False, True):
                if not (folder(arguments.data, loss, balanced, seed) / "result.json").exists():
                    segkit.run(config(arguments.data, loss, balanced, seed), overrides, overwrite=True)
    print(table(arguments.data, arguments.seeds))


if __name__ == "__main__":
    main()
