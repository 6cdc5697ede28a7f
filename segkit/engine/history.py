"""The epochs of a run so far: which was the best, whether more of them are worth it, and whether anything is learned.

A network that predicts one class or stands at its floor is told, with what to try. A run that learns passes through
this too: nearly every network predicts the largest class first. So it takes four epochs in a row, and 30 % of the run
or 2000 steps. Of 23 runs that learned (CamVid, Carvana, shapes) the slowest left its floor after three of ten epochs;
cross-entropy on a background of 97 % and VOC from scratch never did.

A network that predicts too much of a rare class, as weighted losses make it do at first, may lie below the floor of the
mean IoU and have learned a lot. Its mean accuracy tells: of a constant, or of chance, it is 1 / classes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from segkit.engine.remedies import remedies
from segkit.errors import ConfigError
from segkit.settings import TrainSettings


class History:
    """What each epoch came to, as in ``metrics.jsonl``.

    Attributes:
        lines: one an epoch.
        best_epoch: from 1; 0 before any.
        waited: epochs since the best one.

    Args:
        settings: ``best``, and when to stop.
        epochs: of the whole run.
        less_is_better: whether the best epoch has the least of it.
    """

    def __init__(self, settings: TrainSettings, epochs: int, less_is_better: bool) -> None:
        self.settings, self.epochs, self.less_is_better = settings, epochs, less_is_better
        self.lines: list[dict[str, Any]] = []
        self.best_epoch, self.waited = 0, 0

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, step: int, trained: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
        """The line of one more epoch."""
        epoch, best = len(self.lines) + 1, self._is_best(scores)
        if best:
            self.best_epoch, self.waited = epoch, 0
        else:
            self.waited += 1
        self.lines.append({"epoch": epoch, "step": step, "train": dict(trained), "val": dict(scores), "best": best})
        return self.lines[-1]

    def _is_best(self, scores: Mapping[str, Any]) -> bool:
        """Whether these scores are the best so far.

        Raises:
            ConfigError: ``train.best`` is a metric that gives no single number.
        """
        name = self.settings.best
        if not isinstance(scores.get(name), int | float):
            raise ConfigError(f'train.best = "{name}": this metric gives no single number; choose another')
        if not self.best_epoch:
            return True
        before = self.lines[self.best_epoch - 1]["val"][name]
        if not math.isfinite(before):
            return True
        return bool(scores[name] < before if self.less_is_better else scores[name] > before)

    def reason_to_stop(self) -> str:
        """Why no further epoch is worth it; nothing where one is."""
        if self.settings.stop_on_collapse and collapsed(self.lines, self.epochs):
            return f"at the floor for {stuck_epochs(self.lines)} epochs"
        if self.settings.patience and self.waited >= self.settings.patience:
            return f"no better {self.settings.best} for {self.waited} epochs"
        return ""

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {"lines": self.lines, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.lines, self.best_epoch, self.waited = state["lines"], state["best_epoch"], state["waited"]


LEAST = {"mean_iou": 0.01, "mean_accuracy": 0.05}  # of the way from the floor to a perfect score
_WIDTH = 80  # characters of a line of advice
LEAST_AT_THE_END = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # what a whole run should have brought
EPOCHS = 4
START = 0.3  # share of a run
STEPS = 2000


def stuck(scores: Mapping[str, Any], least: Mapping[str, float] = LEAST) -> bool:
    """Whether a constant prediction would have scored about the same; never where it would be perfect."""
    lowest = scores["floor"]
    known = [name for name in least if name in scores and name in lowest]  # an older version kept no mean accuracy
    return all(lowest[name] < 1 and scores[name] - lowest[name] < least[name] * (1 - lowest[name]) for name in known)


def stuck_epochs(history: Sequence[Mapping[str, Any]]) -> int:
    """How many of the latest epochs, in a row, were stuck."""
    count = 0
    for line in reversed(history):
        if not stuck(line["val"]):
            break
        count += 1
    return count


def collapsed(history: Sequence[Mapping[str, Any]], epochs: int) -> bool:
    """Whether the run stands where more epochs of the same promise nothing."""
    if stuck_epochs(history) < EPOCHS:
        return False
    return len(history) >= math.ceil(START * epochs) or int(history[-1]["step"]) >= STEPS


def at_the_end(train: Mapping[str, Any], last: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a finished run has learned nothing, and whether it has learned its training images alone.

    The latter takes a mean IoU above the floor: a mean accuracy alone is had by predicting rare classes everywhere.
    """
    low, floor = stuck(last, LEAST_AT_THE_END), train["floor"]["mean_iou"]
    learned = train["mean_iou"] - floor >= LEAST_AT_THE_END["mean_iou"] * (1 - floor)
    return low and not learned, low and learned


def memorised(train: Mapping[str, Any], last: Mapping[str, Any], split: str, config: Mapping[str, Any]) -> str:
    """What to say of a network that knows its training images and no others."""
    model = config.get("model", {})
    encoder = " and an encoder that was trained before" + (": model.name=smp model.weights=imagenet" if model else "")
    return (
        f"what was learned of train (mean_iou {train['mean_iou']:.3f}) does not carry over: on {split} mean_iou is "
        f"{last['mean_iou']:.3f} (floor {last['floor']['mean_iou']:.3f}). More images help, stronger [augment]"
        f"{'' if model.get('weights') else ',' + encoder}"
    )


def warning(
    history: Sequence[Mapping[str, Any]],
    epochs: int,
    config: Mapping[str, Any],
    side: int,
    findings: Collection[str] = (),
) -> str:
    """What to tell after an epoch: nothing, but for the one at which the run first counts as collapsed."""
    if not collapsed(history, epochs) or any(line.get("collapsed") for line in history):
        return ""
    told = f"{verdict(history[-1]['val'], 'val')}, for {stuck_epochs(history)} epochs"
    return f"{told}\n{advice(config, history, side, findings)}"


def verdict(scores: Mapping[str, Any], split: str) -> str:
    """What the scores of a stuck network amount to, in one sentence without its end."""
    predicted, lowest = scores["predicted"], scores["floor"]
    return (
        f"the network has learned next to nothing: on {split} it predicts {predicted['classes']} of "
        f"{len(scores['class_iou'])} classes, '{predicted['class']}' on {predicted['share']:.1%} of the pixels, and "
        f"its mean_iou is {scores['mean_iou']:.3f} (floor {lowest['mean_iou']:.3f})"
    )


def advised(
    config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], side: int, findings: Collection[str] = ()
) -> tuple[str, list[tuple[str, str]]]:
    """A heading, and what to try with its reasons; as arguments where a run was begun by ``segkit.fit``."""
    found, python = remedies(config, history, side, findings), "dataset" not in config
    where = "as arguments of segkit.fit" if python else "added to the command or set in the config"
    order = ", in this order" if len(found) > 1 else ""
    return f"What helps{order}, {where}:", [(_as_arguments(what) if python else what, why) for what, why in found]


def advice(
    config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], side: int, findings: Collection[str] = ()
) -> str:
    """What to try, a line each."""
    heading, found = advised(config, history, side, findings)
    lines = [heading]
    for number, (what, why) in enumerate(found, 1):
        line = f"  {number}. {what}  # {why}"
        lines += [line] if len(line) <= _WIDTH else [f"  {number}. {what}", f"     # {why}"]
    return "\n".join(lines)


def _as_arguments(overrides: str) -> str:
    """``train.lr=0.1 augment.crop=64`` as ``lr=0.1, augment={"crop": 64}``; what are no overrides stays as it is."""
    tables: dict[str, list[tuple[str, str]]] = {}
    for override in overrides.split():
        path, equals, value = override.partition("=")
        if not equals:
            return overrides
        table, _, key = path.partition(".")
        tables.setdefault(table, []).append((key, value))
    plain = [f"{key}={value}" for key, value in tables.pop("train", [])]
    inside = {table: ", ".join(f'"{key}": {value}' for key, value in rows) for table, rows in tables.items()}
    return ", ".join([*plain, *(f"{table}={{{rows}}}" for table, rows in inside.items())])
