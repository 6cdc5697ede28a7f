"""Remedies for a run that learns almost nothing, by cause: learning rate, steps, data, class balance.

A remedy is config overrides and a reason. Remedies for class imbalance are ordered by their gain in the tables of
``docs/results.md`` (study ``benchmarks/studies/imbalance.toml``). Overrides without effect are not advised, such as
``train.epochs`` for a run that ``train.max_steps`` ends.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import segkit
from segkit.data.resize import resized_size
from segkit.engine.history import stuck as stuck
from segkit.files import write_atomically
from segkit.registry import REGISTRIES

_OVERLAP = ("dice", "tversky", "lovasz", "dice_cross_entropy")  # losses that weight all classes equally
_MOVED = 0.02  # relative change of the training loss; below it the learning rate is too small for other remedies
_FEW = 200  # steps of a run; even an easy dataset needs hundreds
_IMBALANCED = 0.2  # the largest class's share of the pixels minus the share of a balanced class
_WILD = 3.0  # times log(classes), the loss of a uniform prediction; randomly initialised networks stay below
_FAST = 10.0  # times the optimizer's usual learning rate
_LITTLE = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # share of the range from floor to 1 that a full run should exceed
_WIDTH = 80  # characters of a line of advice
_UNSEEN = {  # kinds of scan issues that make learning impossible
    "constant_image": "images without content",
    "turned_image": "rotated images with masks that are not rotated",
}
Remedy = tuple[str, str]  # overrides, reason


def for_collapse(folder: Path) -> str:
    """Return advice for a collapsed run, one remedy per line; as ``segkit.fit`` arguments for a run begun with it."""
    run = segkit.read_run(folder)
    height, width = run.run["data"]["train"]["size"]
    side = min(resized_size(height, width, run.config.get("data", {}).get("resize")))
    found = remedies(run.config, run.epochs, side, {each["kind"] for each in run.run["warnings"]})
    python = "dataset" not in run.config
    where = "as arguments of segkit.fit" if python else "added to the command or set in the config"
    lines = [f"What helps{', in this order' if len(found) > 1 else ''}, {where}:"]
    for number, (what, why) in enumerate(found, 1):
        what = f"  {number}. {_as_arguments(what) if python else what}"
        line = f"{what}  # {why}"
        lines += [line] if len(line) <= _WIDTH else [what, f"     # {why}"]
    return "\n".join(lines)


def for_memorised(folder: Path) -> str:
    """Return advice for a finished run that has only memorised its training images; "" for other runs."""
    run = segkit.read_run(folder)
    split, last = list(run.splits.items())[-1]
    train, model = run.splits["train"], run.config.get("model", {})
    if run.result.get("collapsed") or not stuck(last, _LITTLE):
        return ""
    encoder = " and a pretrained encoder" + (": model.name=smp model.weights=imagenet" if model else "")
    return (
        f"the model does not generalise: mean_iou is {train['mean_iou']:.3f} on train and {last['mean_iou']:.3f} on "
        f"{split} (floor {last['floor']['mean_iou']:.3f}). More images help, stronger [augment]"
        f"{'' if model.get('weights') else ',' + encoder}"
    )


def write(folder: Path, text: str) -> str:
    """Write the text to ``advice.txt``, or remove the file if the text is empty; return the text."""
    path = folder / "advice.txt"
    if text:
        write_atomically(path, lambda file: file.write(f"{text}\n".encode()), durable=False)
    else:
        path.unlink(missing_ok=True)
    return text


def remedies(
    config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], side: int, issues: Collection[str] = ()
) -> list[Remedy]:
    """Return the remedies that the run has not tried yet, most promising first.

    Args:
        config: the config in ``run.json``; without component tables if the run was given objects.
        lines: the lines of ``metrics.jsonl``, one per epoch.
        side: the shorter side of the training images, in pixels.
        issues: the kinds of the scan's warnings.
    """
    if why := diverged(config, lines):
        return [(f"train.lr={lower_rate(config):g}", why)]
    train, model, steps = config.get("train", {}), config.get("model", {}), lines[-1]["step"]
    more = _more_steps(train, lines), f"{steps} step{'s' * (steps != 1)} so far"
    soon = _planned(train, lines) < _FEW or _still_learning(lines)
    found = [more] if soon else []
    first, last = lines[0]["train"]["loss"], lines[-1]["train"]["loss"]
    if len(lines) > 1 and abs(last - first) < _MOVED * abs(first):
        times = 2 if train.get("optimizer") == "muon" else 10
        found.append((f"train.lr={train.get('lr', 1e-3) * times:g}", "the training loss hardly moves"))
    found += [
        (f"look at the data: {text}", "the scan warned of them") for kind, text in _UNSEEN.items() if kind in issues
    ]
    floor = lines[-1]["val"]["floor"]
    if floor.get("pixel_accuracy", 1.0) - floor.get("mean_accuracy", 0.0) > _IMBALANCED:
        found += _balance(config, side)
    if not soon:
        found.append(more)
    if model and not model.get("weights"):
        name = "" if model["name"].rpartition("/")[2] == "smp" else "model.name=smp "
        found.append((f"{name}model.weights=imagenet", "a pretrained encoder (is downloaded)"))
    return found


def diverged(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return why the learning rate is too high (training diverged, or the rate is far above the usual one), or "".

    Args:
        config: the config in ``run.json``; without component tables if the run was given objects.
        lines: the lines of ``metrics.jsonl``.
    """
    train = config.get("train", {})
    losses = [float(line["train"]["loss"]) for line in lines]
    classes = len(lines[-1]["val"].get("class_iou", ())) if lines else 0
    scale = sum(float(loss.get("scale", 1.0)) for loss in config.get("loss", ()))  # 0: a custom loss of unknown scale
    unknowing = scale * math.log(max(2, classes))
    if losses and math.isnan(losses[0]):  # no step ever succeeded, so the rate has had no effect yet
        return ""
    if losses and math.isnan(losses[-1]):
        return "no step of the last epoch had a finite loss and gradient"
    if losses and scale and not losses[-1] <= _WILD * unknowing:
        return f"the training loss is {losses[-1]:.3g}; a uniform prediction has about {unknowing:.2g}"
    if losses and losses[-1] > _WILD * losses[0] > 0:
        return f"the training loss rose from {losses[0]:.3g} to {losses[-1]:.3g}"
    optimizer, rate = train.get("optimizer", "adamw"), train.get("lr", 0)
    usual = _usual_rate(optimizer, rate)
    return f"{rate:g} is far above {usual:g}, the usual rate of {optimizer}" if rate >= _FAST * usual > 0 else ""


def lower_rate(config: Mapping[str, Any]) -> float:
    """Return a replacement for a learning rate that is too high: the optimizer's default, or a tenth."""
    train = config.get("train", {})
    rate = train.get("lr", 1e-3)
    usual = _usual_rate(train.get("optimizer", "adamw"), rate)
    return float(usual if rate > usual else rate / 10)


def _usual_rate(optimizer: str, rate: float) -> float:
    """Return the default learning rate of an optimizer, or ``rate`` if the optimizer is no longer installed."""
    known = REGISTRIES["optimizer"]
    return float(getattr(known[optimizer], "default_lr", 1e-3)) if optimizer in known else rate


def _planned(train: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> float:
    """Return the number of steps of the whole run."""
    if train.get("minutes"):  # a time budget: only the steps taken so far are known
        return float(lines[-1]["step"])
    steps = (train.get("epochs", 50) or math.inf) * lines[-1]["step"] / len(lines)  # no epochs: max_steps ends the run
    return float(min(steps, train.get("max_steps") or math.inf))


def _still_learning(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the training loss still falls and the last val score is the best so far."""
    losses, scores = [line["train"]["loss"] for line in lines], [line["val"]["mean_iou"] for line in lines]
    before = losses[len(losses) * 2 // 3 - 1] if len(losses) > 2 else -math.inf
    return bool(losses[-1] < (1 - _MOVED) * before and scores[-1] > scores[0] and scores[-1] == max(scores))


def _more_steps(train: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return an override that makes the run longer, for the limit that ends it."""
    epochs, most, patience = train.get("epochs", 50) or math.inf, train.get("max_steps"), train.get("patience", 0)
    if patience and len(lines) < epochs and not any(line.get("best") for line in lines[-patience:]):
        return f"train.patience={2 * patience}"
    factor = max(2, math.ceil(_FEW / max(1.0, _planned(train, lines))))
    if train.get("minutes") and not (most and lines[-1]["step"] >= most):
        return f"train.minutes={factor * train['minutes']:g}"
    per_epoch = lines[-1]["step"] / len(lines)
    if most and most <= epochs * per_epoch:
        needed = math.ceil(most * factor / per_epoch)
        return f"train.max_steps={most * factor}" + (f" train.epochs={needed}" if needed > epochs else "")
    return f"train.epochs={factor * epochs}"


def _balance(config: Mapping[str, Any], side: int) -> list[Remedy]:
    """Return remedies that give rare classes more weight."""
    losses = [loss["name"].rpartition("/")[2] for loss in config.get("loss", ())]
    augment, found = config.get("augment", {}), []
    crop = augment.get("crop") or max(32, side // 2 // 32 * 32)
    smaller = min(crop) if isinstance(crop, (list, tuple)) else crop
    if not augment.get("class_balanced") and smaller < side:  # a crop as large as the image has no centre to choose
        crop_too = "" if augment.get("crop") else f" augment.crop={crop}"
        found.append((f"augment.class_balanced=0.5{crop_too}", "half the crops show a rare class"))
    instead = "instead of the balanced crops, not in addition to them" if found else "a rare class's pixels count more"
    if losses and not any(name in _OVERLAP for name in losses):
        at = f"loss.{len(losses)}"
        found.append((f"{at}.name=dice {at}.include_background=false", "weights all classes equally"))
    weighted = any(loss.get("class_weights") for loss in config.get("loss", ()))
    if "cross_entropy" in losses and not weighted and augment.get("class_balanced", 0) < 0.3:
        found.append((f"loss.{losses.index('cross_entropy')}.class_weights=median_frequency", instead))
    return found


def _as_arguments(overrides: str) -> str:
    """Convert ``train.lr=0.1 augment.crop=64`` to ``lr=0.1, augment={"crop": 64}``; return other text unchanged."""
    tables: dict[str, list[str]] = {}
    for override in overrides.split():
        path, equals, value = override.partition("=")
        if not equals:
            return overrides
        table, _, key = path.partition(".")
        tables.setdefault(table, []).append(f"{key}={value}" if table == "train" else f'"{key}": {value}')
    plain = tables.pop("train", [])
    return ", ".join([*plain, *(f"{table}={{{', '.join(rows)}}}" for table, rows in tables.items())])
