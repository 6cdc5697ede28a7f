"""The epochs of a run so far: which was the best, whether to stop, and whether anything is learned.

A run has collapsed where the network predicts little else than one class, so that its scores stand at their floors. A
run that learns passes through this too: nearly every network predicts the largest class first. So it takes four epochs
in a row, and 30 % of the run or 2000 steps. Of 23 runs that learned (CamVid, Carvana, shapes) the slowest left its
floor after three of ten epochs; cross-entropy on a background of 97 % and VOC from scratch never did.

The mean IoU alone does not tell: a network that predicts too much of a rare class, as weighted losses make it do at
first, may lie below the floor of the mean IoU and have learned a lot. Its mean accuracy is then above 1 / classes,
which is that of a constant prediction and of chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from segkit.errors import ConfigError
from segkit.metric.scores import ALWAYS
from segkit.settings import TrainSettings

LEAST = {"mean_iou": 0.01, "mean_accuracy": 0.05}  # share of the way from the floor to a perfect score
LEAST_AT_THE_END = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # likewise, after a whole run
EPOCHS = 4
START = 0.3  # share of a run
STEPS = 2000


class History:
    """What each epoch came to, as in ``metrics.jsonl``.

    Args:
        settings: ``best``, and when to stop.
        metrics: by name, beside the usual scores.

    Attributes:
        lines: one an epoch.
        stop: why an observer has asked to stop; empty where none has.
    """

    def __init__(self, settings: TrainSettings, metrics: Mapping[str, Any]) -> None:
        self.settings, self.less_is_better = settings, less_is_better(settings, metrics)
        self.lines: list[dict[str, Any]] = []
        self.stop = ""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def best_epoch(self) -> int:
        """From 1; 0 before any."""
        return max((line["epoch"] for line in self.lines if line["best"]), default=0)

    def add(self, step: int, trained: Mapping[str, Any], scores: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        """Add the line of one more of so many epochs; the first at which the run has collapsed says so.

        Raises:
            ConfigError: ``train.best`` is a metric that gives no single number.
        """
        name, best = self.settings.best, self.best_epoch
        if not isinstance(scores.get(name), int | float):
            raise ConfigError(f'train.best = "{name}": this metric gives no single number; choose another')
        before = self.lines[best - 1]["val"][name] if best else math.nan
        better = scores[name] < before if self.less_is_better else scores[name] > before
        line = {"epoch": len(self) + 1, "step": step, "train": dict(trained), "val": dict(scores)}
        self.lines.append(line | {"best": better or math.isnan(before)})
        if self.collapsed(epochs) and not any(each.get("collapsed") for each in self.lines):
            self.lines[-1]["collapsed"] = True
        return self.lines[-1]

    def collapsed(self, epochs: int) -> int:
        """How many of the latest epochs stood at the floor, where more of the same promise nothing; else 0."""
        if not self.lines or (len(self) < math.ceil(START * epochs) and self.lines[-1]["step"] < STEPS):
            return 0
        count = len(list(takewhile(lambda line: stuck(line["val"]), reversed(self.lines))))
        return count if count >= EPOCHS else 0

    def reason_to_stop(self, epochs: int) -> str:
        """Why to train no further one of so many epochs; empty where there is no reason."""
        if self.settings.stop_on_collapse and (count := self.collapsed(epochs)):
            return f"at the floor for {count} epochs"
        waited = len(self) - self.best_epoch if self.best_epoch else 0
        if self.settings.patience and waited >= self.settings.patience:
            return f"no better {self.settings.best} for {waited} epochs"
        return self.stop


def less_is_better(settings: TrainSettings, metrics: Mapping[str, Any]) -> bool:
    """Whether the best epoch is the one with the lowest value of ``train.best``.

    Raises:
        ConfigError: it is no single score of the run, nothing says whether more of it is better, or
            ``train.best_mode`` contradicts the metric.
    """
    name, mode = settings.best, settings.best_mode
    own: dict[str, Any] = {each: getattr(metric, "higher_is_better", None) for each, metric in metrics.items()}
    known = own | {"loss": False, **dict.fromkeys(ALWAYS, True)}
    if name not in known:
        raise ConfigError(f'train.best = "{name}" is no score of this run; there are {", ".join(known)}')
    more, wanted = known[name], {"auto": known[name], "max": True, "min": False}[mode]
    if wanted is None:
        raise ConfigError(
            f'train.best = "{name}": this metric does not say whether more or less of it is better (its attribute '
            'higher_is_better); set train.best_mode = "max" or "min"'
        )
    if more is not None and bool(more) != wanted:
        raise ConfigError(f'train.best_mode = "{mode}": of {name} {"more" if more else "less"} is better; leave it out')
    return not wanted


def stuck(scores: Mapping[str, Any], least: Mapping[str, float] = LEAST) -> bool:
    """Whether a constant prediction would have scored about the same; never where it would be perfect."""
    lowest = scores["floor"]
    known = [name for name in least if name in scores and name in lowest]  # an older version kept no mean accuracy
    return all(lowest[name] < 1 and scores[name] - lowest[name] < least[name] * (1 - lowest[name]) for name in known)


def learned_nothing(train: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Whether a finished run has learned next to nothing, by its scores on train and on the last split.

    On train the mean IoU alone counts, as predicting rare classes everywhere gives a mean accuracy too.
    """
    return stuck(last, LEAST_AT_THE_END) and stuck(train, {"mean_iou": LEAST_AT_THE_END["mean_iou"]})


def verdict(scores: Mapping[str, Any], split: str) -> str:
    """What the scores of a collapsed network mean, in one sentence without its end."""
    predicted, lowest = scores["predicted"], scores["floor"]
    return (
        f"the network has learned next to nothing: on {split} it predicts {predicted['classes']} of "
        f"{len(scores['class_iou'])} classes, '{predicted['class']}' on {predicted['share']:.1%} of the pixels, and "
        f"its mean_iou is {scores['mean_iou']:.3f} (floor {lowest['mean_iou']:.3f})"
    )
