"""Variants of one config, each with several seeds: train what is not finished, then print a table.

    python benchmarks/study.py benchmarks/studies/imbalance.toml

A study is a TOML file: ``config``, a file beside it; ``overrides`` for all; ``seeds``; ``split``, the one that is
scored (left out: test, or val where there is none); and a table ``variants``, a list of overrides each. A run that is
finished with this very config is not run again, and one that was stopped goes on, so the same command serves after an
interruption. Each run that is scored is a line of ``results.jsonl`` beside the runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import segkit
from segkit.config import read_config

COLUMNS = ("variant", "mIoU", "floor", "pixel accuracy", "floor", "classes predicted", "seconds")


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        variant: its name.
        seed: of it.
        config: a TOML file.
        overrides: of it, all of them.
        folder: where it writes.
    """

    variant: str
    seed: int
    config: Path
    overrides: tuple[str, ...]
    folder: Path

    @property
    def command(self) -> str:
        """What makes this very run."""
        return shlex.join(["python", "-m", "segkit", "run", str(self.config), *self.overrides])

    def done(self) -> dict[str, Any] | None:
        """Its result, if the run in the folder is complete and of this config."""
        if not (self.folder / "result.json").exists() or not self._is_of_this_config():
            return None
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found

    def run(self) -> None:
        """Train; on from where it was stopped, if it was."""
        stopped = (self.folder / "last.pt").exists() and self._is_of_this_config()
        segkit.run(self.config, self.overrides, resume=stopped, overwrite=not stopped)

    def _is_of_this_config(self) -> bool:
        try:
            recorded = json.loads((self.folder / "run.json").read_text())["config"]
        except (OSError, ValueError, KeyError):
            return False
        return bool(recorded == json.loads(json.dumps(read_config(self.config, self.overrides).record())))

    def line(self, split: str | None) -> dict[str, Any]:
        """For ``results.jsonl``: scores beside their floors, what they cost, and what they were made with."""
        result, record = self.done() or {}, json.loads((self.folder / "run.json").read_text())
        chosen = split or list(result["splits"])[-1]
        costs = {key: result[key] for key in ("best_epoch", "seconds", "peak_memory_bytes", "precision", "device")}
        made = {"segkit": record["segkit"], "commit": record.get("commit"), **record["packages"]}
        about = {"variant": self.variant, "seed": self.seed, "command": self.command, "split": chosen}
        return {**about, "scores": result["splits"], **costs, "versions": made}


def trials(
    study: Path, folder: Path, more: Sequence[str], seeds: Sequence[int] | None
) -> tuple[list[Trial], str | None]:
    """The runs of a study, variant by variant, and the split that is scored."""
    asked = tomllib.loads(study.read_text("utf-8"))
    config = study.parent / asked["config"]
    found = []
    for name, own in asked["variants"].items():
        slug = "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
        for seed in asked.get("seeds", [0]) if seeds is None else seeds:
            place = folder / f"{slug}-{seed}"
            overrides = (*asked.get("overrides", ()), *own, *more, f"train.seed={seed}", f"output.dir={place}")
            found.append(Trial(name, seed, config, overrides, place))
    return found, asked.get("split")


def row(lines: Sequence[dict[str, Any]]) -> str:
    """The runs of one variant in Markdown: mean and standard deviation over the seeds."""
    scores = [line["scores"][line["split"]] for line in lines]
    floor = scores[0]["floor"]
    classes = ", ".join(str(each["predicted"]["classes"]) for each in scores)  # one number a seed
    cells = [
        lines[0]["variant"],
        *(spread([each["mean_iou"] for each in scores]), f"{floor['mean_iou']:.3f}"),
        *(spread([each["pixel_accuracy"] for each in scores]), f"{floor['pixel_accuracy']:.3f}"),
        f"{classes} of {len(scores[0]['class_iou'])}",
        f"{mean([line['seconds'] for line in lines]):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """``0.412 ± 0.010``."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is not finished, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="for all runs: dataset.root=data")
    parser.add_argument("--folder", type=Path, help="left out: runs/NAME of the study")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of the study's")
    parser.add_argument("--variants", nargs="+", help="these alone, by a part of their name")
    arguments = parser.parse_intermixed_args()
    folder = arguments.folder or Path("runs") / arguments.study.stem
    found, split = trials(arguments.study, folder, arguments.overrides, arguments.seeds)
    chosen = [each for each in found if any(part in each.variant for part in arguments.variants or [""])]
    lines: dict[str, list[dict[str, Any]]] = {}
    for number, trial in enumerate(chosen, 1):
        print(f"\n{number} of {len(chosen)}: {trial.variant}, seed {trial.seed}", flush=True)
        if trial.done() is None:
            trial.run()
        lines.setdefault(trial.variant, []).append(trial.line(split))
        written = "".join(json.dumps(line) + "\n" for those in lines.values() for line in those)
        (folder / "results.jsonl").write_text(written)
    print("\n".join(["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(row, lines.values())]))


if __name__ == "__main__":
    main()
