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

_OVERLAP = ("dice", "tversky", "lovasz", "dice_cross_entropy")  # losses that weight all classes equally
_MOVED = 0.02  # relative change of the training loss; below it the learning rate is too small for other remedies
_FEW = 200  # steps of a run; even an easy dataset needs hundreds
_IMBALANCED = 0.2  # the largest class's share of the pixels minus the share of a balanced class
_WILD = 3.0  # times log(classes), the loss of a uniform prediction; randomly initialised networks stay below
_USUAL = 0.01  # the largest of the optimizers' default learning rates
_LITTLE = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # share of the range from floor to 1 that a full run should exceed
_WIDTH = 80  # characters of a line of advice
_UNSEEN = {  # kinds of scan issues that make learning impossible
    "constant_image": "images without content",
    "turned_image": "rotated images with masks that are not rotated",
}
Remedy = tuple[str, str]  # overrides, reason


def for_collapse(folder: Path) -> str:
    """Return advice for a collapsed run, one remedy per line."""
    run = segkit.read_run(folder)
    height, width = run.run["data"]["train"]["size"]
    side = min(resized_size(height, width, run.config.get("data", {}).get("resize")))
    found = remedies(run.config, run.epochs, side, {each["kind"] for each in run.run["warnings"]})
    where = "added to the command or set in the config"
    if "dataset" not in run.config:  # begun by segkit.fit
        where = 'for segkit.fit as lr=1, augment={"crop": 64}'
    lines = [f"What helps{', in this order' if len(found) > 1 else ''}, {where}:"]
    for number, (what, why) in enumerate(found, 1):
        line = f"  {number}. {what}  # {why}"
        lines.append(line if len(line) <= _WIDTH else line.replace("  # ", "\n     # "))
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
    train, model, steps = config.get("train", {}), config.get("model", {}), lines[-1]["step"]
    rate = train.get("lr", 1e-3)
    # JSON has no NaN and no infinity
    losses = [math.nan if line["train"]["loss"] is None else line["train"]["loss"] for line in lines]
    if why := _diverged(config, losses, len(lines[-1]["val"]["class_iou"])):
        return [(f"train.lr={min(rate / 10, _USUAL):g}", why)]
    longer, planned = _longer(train, lines)
    more = longer, f"{steps} step{'s' * (steps != 1)} so far"
    scores = [line["val"]["mean_iou"] for line in lines]
    falls = losses[-1] < (1 - _MOVED) * losses[len(losses) * 2 // 3 - 1]
    soon = planned < _FEW or (falls and scores[-1] == max(scores) > scores[0])
    found = [more] if soon else []
    if len(lines) > 1 and abs(losses[-1] - losses[0]) < _MOVED * abs(losses[0]):
        times = 2 if train.get("optimizer") == "muon" else 10
        found.append((f"train.lr={rate * times:g}", "the training loss hardly moves"))
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


def _diverged(config: Mapping[str, Any], losses: Sequence[float], classes: int) -> str:
    """Return how the training loss of each epoch shows that the learning rate is too high, or ""."""
    first, last = losses[0], losses[-1]
    scale = sum(loss.get("scale", 1.0) for loss in config.get("loss", ()))  # 0: a custom loss of unknown scale
    uniform = scale * math.log(max(2, classes))
    if math.isnan(first):  # no step ever succeeded, so the rate has had no effect yet
        return ""
    if scale and not last <= _WILD * uniform:
        return f"the training loss is {last:.3g}; a uniform prediction has about {uniform:.2g}"
    return "" if last <= _WILD * abs(first) else f"the training loss rose from {first:.3g} to {last:.3g}"


def _longer(train: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """Return overrides that make the run longer, and how many steps it has; a time limit tells only those so far."""
    step, patience = lines[-1]["step"], train.get("patience")
    units = {"max_steps": 1.0, "epochs": step / len(lines)}  # in steps
    limits = {name: train[name] * unit for name, unit in units.items() if train.get(name)}
    if train.get("minutes") and step < min(limits.values(), default=math.inf):
        units, limits = {"minutes": step / train["minutes"]}, {"minutes": step}
    planned = min(limits.values(), default=step)
    if patience and not any(line.get("best") for line in lines[-patience:]):
        return f"train.patience={2 * patience}", planned
    wanted = planned * max(2, math.ceil(_FEW / planned))
    ends = [name for name, limit in limits.items() if limit < wanted]
    return " ".join(f"train.{name}={math.ceil(wanted / units[name])}" for name in ends), planned


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
