"""Notice a network that predicts one class or stands at its floor, and say what to try.

A run that learns passes through this too: nearly every network predicts the largest class first. So it takes four epochs
in a row, and 30 % of the run or 2000 steps. Of 23 runs that learned (CamVid, Carvana, shapes) the slowest left its floor
after three of ten epochs; cross-entropy on a background of 97 % and VOC from scratch never did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from segkit.engine.remedies import remedies

LEAST_LIFT = 0.01  # of the way from the floor to a perfect score: 0.045 at a floor of 0.035, as VOC has
LEAST_AT_THE_END = 0.03  # what the whole run should have brought
EPOCHS = 4
START = 0.3  # share of a run
STEPS = 2000


def stuck(scores: Mapping[str, Any], least: float = LEAST_LIFT) -> bool:
    """Whether a constant prediction would have scored about the same."""
    return bool(scores["lift"] < least)


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


def warning(history: Sequence[Mapping[str, Any]], epochs: int, config: Mapping[str, Any]) -> str:
    """What to tell after an epoch: nothing, but for the one epoch at which the run first counts as collapsed."""
    if not collapsed(history, epochs) or any(collapsed(history[:end], epochs) for end in range(len(history))):
        return ""
    since = f"it has stood at its floor for {stuck_epochs(history)} epochs"
    return f"{verdict(history[-1]['val'], 'val')}; {since}. {advice(config)}"


def verdict(scores: Mapping[str, Any], split: str) -> str:
    """What the scores of a stuck network amount to, in one sentence without its end."""
    predicted, lowest = scores["predicted"], scores["floor"]
    return (
        f"the network has learned next to nothing: on {split} it predicts {predicted['classes']} of "
        f"{len(scores['class_iou'])} classes, '{predicted['class']}' on {predicted['share']:.1%} of the pixels, and "
        f"its mean_iou is {scores['mean_iou']:.3f} (floor {lowest['mean_iou']:.3f})"
    )


def advice(config: Mapping[str, Any]) -> str:
    """What to try, a line each."""
    return "\n".join(["What helps, in this order:", *(f"  {n}. {text}" for n, text in enumerate(remedies(config), 1))])
