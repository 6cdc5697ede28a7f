"""What to try when a network learns next to nothing, as overrides of a config, by cause: steps, rate, data, balance.

Within balance the order is that of the tables in ``examples/README.md``, which ``benchmarks/studies/imbalance.toml``
asks for. What has no effect on a run, as ``train.epochs`` where ``train.max_steps`` ends it, is not advised.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from segkit.settings import RATES

_OVERLAP = ("dice", "tversky", "lovasz")  # losses that count each class alike, however few its pixels are
_MOVED = 0.02  # of the training loss; less, and the learning rate is too small for anything else to help
_FEW = 200  # steps of a run; even an easy data set takes hundreds
_WILD = 3.0  # times the loss of knowing nothing, log(classes); weights that begin at random stay below
_FAST = 10.0  # times the rate that serves most
_IMBALANCED = 0.2  # the largest class's share of the pixels, beyond an even one
_UNSEEN = {  # findings of the scan behind which nothing can be learned
    "constant_image": "images without content",
    "turned_image": "images that are turned, with masks that are not",
}


def remedies(
    config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], side: int, findings: Collection[str] = ()
) -> list[tuple[str, str]]:
    """What the run has not tried yet: an override, and why.

    Args:
        config: as it stands in ``run.json``; of a run of plain objects without the tables of components.
        history: the epochs so far.
        side: of a training image, the shorter one, pixels.
        findings: the kinds of what the scan has warned of.
    """
    if fast := too_fast(config, history):
        return [_slower(config, fast)]
    steps = history[-1]["step"] if history else 0
    more = _more_steps(config, history), f"{steps} step{'s' * (steps != 1)} so far" if steps else "more steps"
    soon = _planned(config, history) < _FEW or _still_learning(history)
    found = [more] if soon else []
    train, model = config.get("train", {}), config.get("model", {})
    trained = [line["train"]["loss"] for line in history if "train" in line]
    if len(trained) > 1 and abs(trained[-1] - trained[0]) < _MOVED * abs(trained[0]):
        times = 2 if train.get("optimizer") == "muon" else 10
        found.append((f"train.lr={train.get('lr', 1e-3) * times:g}", "the training loss hardly moves"))
    found += [
        (f"look at the data: {text}", "warned of at the start") for kind, text in _UNSEEN.items() if kind in findings
    ]
    if _share_of_the_largest(history) > _IMBALANCED:
        found += _balance(config, side)
    if not soon:
        found.append(more)
    if model and not model.get("weights"):
        name = "" if model["name"].rpartition("/")[2] == "smp" else "model.name=smp "
        found.append((f"{name}model.weights=imagenet", "an encoder that was trained before (is downloaded)"))
    return found


def too_fast(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Why the learning rate is too high for this run: its training diverged, or it is far beyond the usual."""
    train = config.get("train", {})
    lines = [line["train"] for line in history if "train" in line]
    losses = [float(line["loss"]) for line in lines]
    classes = len(history[-1]["val"].get("class_iou", ())) if history and "val" in history[-1] else 0
    scale = sum(float(loss.get("scale", 1.0)) for loss in config.get("loss", ()))  # 0: a loss that nobody knows
    unknowing = scale * math.log(max(2, classes))
    if losses and math.isnan(losses[0]):  # no step has ever worked: the rate has changed nothing yet
        return ""
    if losses and math.isnan(losses[-1]):
        return "no step of the last epoch had a loss and a gradient that are numbers"
    if losses and scale and not losses[-1] <= _WILD * unknowing:
        return f"the training loss is {losses[-1]:.3g}; a network that knows nothing has about {unknowing:.2g}"
    if losses and losses[-1] > _WILD * losses[0] > 0:
        return f"the training loss rose from {losses[0]:.3g} to {losses[-1]:.3g}"
    optimizer, rate = train.get("optimizer", "adamw"), train.get("lr", 0)
    usual = RATES.get(optimizer, rate)
    return f"{rate:g} is far above {usual:g}, which is usual with {optimizer}" if rate >= _FAST * usual > 0 else ""


def slower(config: Mapping[str, Any]) -> str:
    """What to set in place of a learning rate that is too high, in words."""
    train = config.get("train", {})
    rate, usual = train.get("lr", 1e-3), RATES.get(train.get("optimizer", "adamw"), 1e-3)
    return f"lower train.lr, from {rate:g} to {usual if rate > usual else rate / 10:g}"


def _slower(config: Mapping[str, Any], why: str) -> tuple[str, str]:
    return f"train.lr={slower(config).rpartition(' ')[2]}", why


def _per_epoch(history: Sequence[Mapping[str, Any]]) -> float:
    return int(history[-1]["step"]) / len(history) if history else math.inf


def _planned(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> float:
    """Steps of the whole run."""
    train = config.get("train", {})
    return min(float(train.get("epochs", 50)) * _per_epoch(history), float(train.get("max_steps") or math.inf))


def _still_learning(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the training loss still falls and val is as good as never before."""
    losses = [line["train"]["loss"] for line in history if "train" in line]
    before = losses[len(losses) * 2 // 3 - 1] if len(losses) > 2 else -math.inf
    scores = [line["val"]["mean_iou"] for line in history]
    return bool(losses) and losses[-1] < (1 - _MOVED) * before and scores[-1] > scores[0] and scores[-1] == max(scores)


def _more_steps(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """What lets the run go on for longer; the one of three limits that ends it."""
    train = config.get("train", {})
    epochs, most, patience = train.get("epochs", 50), train.get("max_steps"), train.get("patience", 0)
    if patience and len(history) < epochs and not any(line.get("best") for line in history[-patience:]):
        return f"train.patience={2 * patience}"
    factor = max(2, math.ceil(_FEW / max(1.0, _planned(config, history)))) if history else 2
    if most and most <= epochs * _per_epoch(history):
        wanted = most * factor
        epochs_too = f" train.epochs={math.ceil(wanted / _per_epoch(history))}" if history else ""
        return f"train.max_steps={wanted}{epochs_too if wanted > epochs * _per_epoch(history) else ''}"
    return f"train.epochs={factor * epochs}"


def _share_of_the_largest(history: Sequence[Mapping[str, Any]]) -> float:
    """Of val's pixels, beyond what each class would have of an even split."""
    floor = history[-1]["val"]["floor"] if history else {}
    accuracy = floor.get("pixel_accuracy", 1.0)
    return float(accuracy) - float(floor.get("mean_accuracy", 0.0))


def _balance(config: Mapping[str, Any], side: int) -> list[tuple[str, str]]:
    """What has a network see more of rare classes."""
    losses = [loss["name"].rpartition("/")[2] for loss in config.get("loss", ())]
    augment = config.get("augment", {})
    found = []
    crop = augment.get("crop") or max(32, side // 2 // 32 * 32)
    smaller = min(crop) if isinstance(crop, (list, tuple)) else crop
    if not augment.get("class_balanced") and smaller < side:  # a crop of the whole image has no centre to choose
        found.append(
            (
                f"augment.class_balanced=0.5{'' if augment.get('crop') else f' augment.crop={crop}'}",
                "half the crops show a rare class",
            )
        )
    if losses and not any(name in _OVERLAP or name == "dice_cross_entropy" for name in losses):
        at = f"loss.{len(losses)}"
        found.append((f"{at}.name=dice {at}.include_background=false", "counts every class alike"))
    weighted = any(loss.get("class_weights") for loss in config.get("loss", ()))
    if "cross_entropy" in losses and not weighted and augment.get("class_balanced", 0) < 0.3:
        at = f"loss.{losses.index('cross_entropy')}"
        instead = "in place of the balanced crops, not beside them" if found[:1] and "balanced" in found[0][0] else ""
        found.append((f"{at}.class_weights=median_frequency", instead or "a rare class's pixels count more"))
    return found
