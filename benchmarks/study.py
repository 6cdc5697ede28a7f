"""Variants of one config, each with several seeds: train what is not finished, then print a table.

    python benchmarks/study.py benchmarks/studies/imbalance.toml benchmarks/studies/shapes.toml

A study is a TOML file: ``seeds``, and a table ``variants``, a list of overrides each, which stand above those of the
command; the config is any. A run that is finished with this very config is not run again, and one that was stopped goes
on, so the same command serves after an interruption; a run of another config is left alone. Scored is test, or val
where there is none. Each run is a line of ``results.jsonl`` beside them. ``--jobs 3`` trains three at a time, which on
one card share it; what each has to say is in a file ``.log`` beside its folder then.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import segkit
from segkit.config import read_config
from segkit.errors import ConfigError, SegkitError, did_you_mean

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
        """Train; on from where it was stopped, if it was.

        Raises:
            ConfigError: the folder holds a run of another config.
        """
        self._refuse_another()
        segkit.run(self.config, self.overrides, resume=self._stopped, overwrite=not self._stopped)

    def run_beside(self) -> None:
        """As :meth:`run`, in a process of its own.

        Raises:
            ConfigError: the folder holds a run of another config.
            SegkitError: the run broke off.
        """
        self._refuse_another()
        how = "--resume" if self._stopped else "--overwrite"
        command = [sys.executable, "-m", "segkit", "run", "--quiet", how, str(self.config), *self.overrides]
        log = self.folder.parent / f"{self.folder.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            if subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode:
                raise SegkitError(f"{self.variant}, seed {self.seed} broke off; {log} says why")

    @property
    def _stopped(self) -> bool:
        return (self.folder / "last.pt").exists()

    def _refuse_another(self) -> None:
        if (self.folder / "run.json").exists() and not self._is_of_this_config():
            raise ConfigError(f"{self.folder} holds a run of another config; give another --folder, or remove it")

    def _is_of_this_config(self) -> bool:
        try:
            recorded = json.loads((self.folder / "run.json").read_text())["config"]
        except (OSError, ValueError, KeyError):
            return False
        return bool(recorded == json.loads(json.dumps(read_config(self.config, self.overrides).record())))

    def line(self) -> dict[str, Any]:
        """For ``results.jsonl``: scores beside their floors, what they cost, and what they were made with."""
        result, record = self.done() or {}, json.loads((self.folder / "run.json").read_text())
        costs = {key: result[key] for key in ("best_epoch", "seconds", "peak_memory_bytes", "precision", "device")}
        made = {"segkit": record["segkit"], "commit": record.get("commit"), **record["packages"]}
        about = {
            "variant": self.variant,
            "seed": self.seed,
            "command": self.command,
            "split": list(result["splits"])[-1],
        }
        return {**about, "scores": result["splits"], **costs, "versions": made}


def trials(
    study: Path,
    config: Path,
    folder: Path,
    more: Sequence[str] = (),
    seeds: Sequence[int] = (),
    chosen: Sequence[str] = (),
) -> list[Trial]:
    """The runs of a study, variant by variant.

    Raises:
        ConfigError: the study cannot be read, a variant that is chosen is none of its, or the config is not valid.
    """
    try:
        asked = tomllib.loads(study.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the study {study} cannot be read: {error}") from error
    if not {"seeds", "variants"} <= asked.keys():
        raise ConfigError(f"{study} is no study, which has seeds and [variants]; the order is STUDY CONFIG")
    for name in chosen:
        if name not in asked["variants"]:
            close = did_you_mean(name, asked["variants"]) or "; there are " + ", ".join(map(repr, asked["variants"]))
            raise ConfigError(f"{study} has no variant '{name}'{close}")
    found = []
    for name in chosen or asked["variants"]:
        slug = "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
        for seed in seeds or asked["seeds"]:
            place = folder / f"{slug}-{seed}"
            overrides = (*more, *asked["variants"][name], f"train.seed={seed}", f"output.dir={place}")
            read_config(config, overrides)  # a mistake is told before anything is trained
            found.append(Trial(name, seed, config, overrides, place))
    return found


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


def finished(found: Sequence[Trial], jobs: int, broken: list[str]) -> Iterator[Trial]:
    """The runs as they end, those first that were finished before; why the others broke off is added to a list."""
    ready = [trial for trial in found if trial.done() is not None]
    missing = [trial for trial in found if trial not in ready]
    yield from ready
    if jobs == 1:
        for trial in missing:
            print(f"\n{found.index(trial) + 1} of {len(found)}: {trial.variant}, seed {trial.seed}", flush=True)
            try:
                trial.run()
            except SegkitError as error:
                print(error, flush=True)
                broken.append(f"{trial.variant}, seed {trial.seed}: {error}")
            else:
                yield trial
        return
    with ThreadPoolExecutor(jobs) as pool:
        began = {pool.submit(trial.run_beside): trial for trial in missing}
        try:
            for number, future in enumerate(as_completed(began), 1):
                trial, error = began[future], future.exception()
                print(f"{number} of {len(missing)}: {trial.variant}, seed {trial.seed}: {error or 'done'}", flush=True)
                if error is None:
                    yield trial
                else:
                    broken.append(str(error))
        finally:  # after Ctrl-C none of those that wait is to begin
            pool.shutdown(cancel_futures=True)


def earlier(file: Path, found: Sequence[Trial]) -> list[dict[str, Any]]:
    """The lines of a file that are of other runs than these."""
    these = {(trial.variant, trial.seed) for trial in found}
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if (line["variant"], line["seed"]) not in these]


def main() -> None:
    """Run what is not finished, then print the table.

    Raises:
        SegkitError: some runs broke off; the others are finished.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="table.key=value", help="for all runs: dataset.root=data")
    parser.add_argument("--folder", type=Path, help="left out: runs/STUDY/CONFIG, by their names")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="in place of the study's")
    parser.add_argument("--variants", nargs="+", default=[], help="these alone")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time: 1")
    given = parser.parse_intermixed_args()
    folder = given.folder or Path("runs") / given.study.stem / given.config.stem
    found = trials(given.study, given.config, folder, given.overrides, given.seeds, given.variants)
    results = folder / "results.jsonl"
    others, broken = earlier(results, found), []
    done: list[Trial] = []
    lines: list[dict[str, Any]] = []
    for trial in finished(found, given.jobs, broken):
        done.append(trial)
        lines = [each.line() for each in found if each in done]  # in the study's order, whichever ended first
        results.write_text("".join(json.dumps(line) + "\n" for line in [*others, *lines]))
    rows = [row(list(those)) for _, those in groupby(lines, lambda line: line["variant"])]
    print("\n".join(["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows]))
    if broken:
        raise SegkitError(f"{len(broken)} of {len(found)} runs broke off: {broken[0]}")


if __name__ == "__main__":
    try:
        main()
    except SegkitError as error:
        sys.exit(f"study.py: {error}")
    except KeyboardInterrupt:
        print("study.py: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
