"""The history of a run: its best epoch, whether to stop, and whether it has collapsed.

A run has collapsed if the network predicts almost only one class, so that its scores stay at their floors. Most
networks first predict only the largest class even if they learn later, so collapse is only reported after four such
epochs in a row, and after 30 % of the run or 2000 steps. Among 23 runs that learned (CamVid, Carvana, shapes), the
slowest left its floor after three of ten epochs; cross-entropy on 97 % background, and VOC from scratch, never did.

The mean IoU alone is not enough: with a weighted loss, a network may at first predict too much of a rare class. Its
mean IoU may then be below the floor although it has learned a lot; but its mean accuracy is above 1 / classes, the
value of a constant prediction and of chance.
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
LEAST_AT_THE_END = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # the same share, after a whole run
EPOCHS = 4
START = 0.3  # share of a run
STEPS = 2000


class History:
    """The results of each epoch, as in ``metrics.jsonl``.

    Args:
        settings: ``best``, and when to stop.
        metrics: metrics by name, in addition to the usual scores.

    Attributes:
        lines: one mapping per epoch.
        stop: an observer's reason to stop; "" if there is none.
    """

    def __init__(self, settings: TrainSettings, metrics: Mapping[str, Any]) -> None:
        self.settings, self.less_is_better = settings, less_is_better(settings, metrics)
        self.lines: list[dict[str, Any]] = []
        self.stop = ""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def best_epoch(self) -> int:
        """The best epoch so far, from 1; 0 before the first."""
        return max((line["epoch"] for line in self.lines if line["best"]), default=0)

    def add(self, step: int, trained: Mapping[str, Any], scores: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        """Add the line of the next epoch, out of ``epochs``; ``collapsed`` marks the first one after a collapse.

        Raises:
            ConfigError: ``train.best`` is a metric that does not give a single number.
        """
        name, best = self.settings.best, self.best_epoch
        if not isinstance(scores.get(name), int | float):
            raise ConfigError(f'train.best = "{name}": this metric does not give a single number; choose another')
        before = self.lines[best - 1]["val"][name] if best else math.nan
        better = scores[name] < before if self.less_is_better else scores[name] > before
        line = {"epoch": len(self) + 1, "step": step, "train": dict(trained), "val": dict(scores)}
        self.lines.append(line | {"best": better or math.isnan(before)})
        if self.collapsed(epochs) and not any(each.get("collapsed") for each in self.lines):
            self.lines[-1]["collapsed"] = True
        return self.lines[-1]

    def collapsed(self, epochs: int) -> int:
        """The number of latest epochs at the floor if the run has collapsed, else 0."""
        if not self.lines or (len(self) < math.ceil(START * epochs) and self.lines[-1]["step"] < STEPS):
            return 0
        count = len(list(takewhile(lambda line: stuck(line["val"]), reversed(self.lines))))
        return count if count >= EPOCHS else 0

    def reason_to_stop(self, epochs: int) -> str:
        """The reason to stop before the planned ``epochs`` are done; "" if there is none."""
        if self.settings.stop_on_collapse and (count := self.collapsed(epochs)):
            return f"at the floor for {count} epochs"
        waited = len(self) - self.best_epoch if self.best_epoch else 0
        if self.settings.patience and waited >= self.settings.patience:
            return f"no better {self.settings.best} for {waited} epochs"
        return self.stop


def less_is_better(settings: TrainSettings, metrics: Mapping[str, Any]) -> bool:
    """Whether the best epoch is the one with the lowest value of ``train.best``.

    Raises:
        ConfigError: ``train.best`` is not a score of the run, it is unknown whether a larger value is better, or
            ``train.best_mode`` contradicts the metric.
    """
    name, mode = settings.best, settings.best_mode
    known: dict[str, Any] = {each: getattr(metric, "higher_is_better", None) for each, metric in metrics.items()}
    known |= {"loss": False, **dict.fromkeys(ALWAYS, True)}
    if name not in known:
        raise ConfigError(f'train.best = "{name}" is not a score of this run; there are {", ".join(known)}')
    larger = {"auto": known[name], "max": True, "min": False}[mode]
    if larger is None or known[name] not in (None, larger):
        raise ConfigError(
            f'train.best = "{name}", train.best_mode = "{mode}": the attribute higher_is_better of {name} is '
            f'{known[name]}; where it is None, set train.best_mode = "max" or "min", otherwise leave it out'
        )
    return not larger


def stuck(scores: Mapping[str, Any], least: Mapping[str, float] = LEAST) -> bool:
    """Whether a constant prediction would score about the same; false where a constant prediction is perfect."""
    lowest = scores["floor"]
    return all(lowest[name] < 1 and scores[name] - lowest[name] < least[name] * (1 - lowest[name]) for name in least)


def learned_nothing(train: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Whether a finished run has learned next to nothing, judged by its scores on train and on the last split.

    On train only the mean IoU counts, because predicting rare classes everywhere also raises the mean accuracy.
    """
    return stuck(last, LEAST_AT_THE_END) and stuck(train, {"mean_iou": LEAST_AT_THE_END["mean_iou"]})


def verdict(scores: Mapping[str, Any], split: str) -> str:
    """Explain the scores of a collapsed network in one sentence, without its full stop."""
    predicted, lowest = scores["predicted"], scores["floor"]
    return (
        f"the network has learned next to nothing: on {split} it predicts {predicted['classes']} of "
        f"{len(scores['class_iou'])} classes, '{predicted['class']}' on {predicted['share']:.1%} of the pixels, and "
        f"its mean_iou is {scores['mean_iou']:.3f} (floor {lowest['mean_iou']:.3f})"
    )
