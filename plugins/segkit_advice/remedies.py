"""What to change where a network learns next to nothing, by cause: learning rate, steps, data, class balance.

Each remedy is overrides of the config and a reason. Within class balance the order is that of the tables in
``docs/results.md``, which ``benchmarks/studies/imbalance.toml`` asks for. What has no effect on a run, as
``train.epochs`` where ``train.max_steps`` ends it, is not advised.
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

_OVERLAP = ("dice", "tversky", "lovasz", "dice_cross_entropy")  # losses that count each class alike
_MOVED = 0.02  # of the training loss; less, and the learning rate is too small for anything else to help
_FEW = 200  # steps of a run; even an easy data set takes hundreds
_IMBALANCED = 0.2  # the largest class's share of the pixels, beyond an even one
_WILD = 3.0  # times the loss of knowing nothing, log(classes); weights that begin at random stay below
_FAST = 10.0  # times the learning rate that serves most
_LITTLE = {"mean_iou": 0.03, "mean_accuracy": 0.1}  # of the way from the floor to 1, that a whole run should get
_WIDTH = 80  # characters of a line of advice
_UNSEEN = {  # issues of the scan behind which nothing can be learned
    "constant_image": "images without content",
    "turned_image": "images that are turned, with masks that are not",
}
Remedy = tuple[str, str]  # overrides, and why


def for_collapse(folder: Path) -> str:
    """What to change in a run that has collapsed, a line each; as arguments of ``segkit.fit`` where it was begun so."""
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
    """What to change in a finished run that knows its training images and no others; empty for another run."""
    run = segkit.read_run(folder)
    split, last = list(run.splits.items())[-1]
    train, model = run.splits["train"], run.config.get("model", {})
    if run.result.get("collapsed") or not stuck(last, _LITTLE):
        return ""
    encoder = " and an encoder that was trained before" + (": model.name=smp model.weights=imagenet" if model else "")
    return (
        f"what was learned of train (mean_iou {train['mean_iou']:.3f}) does not carry over: on {split} mean_iou is "
        f"{last['mean_iou']:.3f} (floor {last['floor']['mean_iou']:.3f}). More images help, stronger [augment]"
        f"{'' if model.get('weights') else ',' + encoder}"
    )


def write(folder: Path, text: str) -> str:
    """Keep the text in ``advice.txt``, which is removed where there is none."""
    path = folder / "advice.txt"
    if text:
        write_atomically(path, lambda file: file.write(f"{text}\n".encode()), durable=False)
    else:
        path.unlink(missing_ok=True)
    return text


def remedies(
    config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], side: int, issues: Collection[str] = ()
) -> list[Remedy]:
    """What the run has not tried yet.

    Args:
        config: as in ``run.json``; of a run of plain objects without the tables of components.
        lines: of ``metrics.jsonl``, one an epoch.
        side: of a training image, the shorter one, pixels.
        issues: the kinds of what the scan has warned of.
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
        (f"look at the data: {text}", "warned of at the start") for kind, text in _UNSEEN.items() if kind in issues
    ]
    floor = lines[-1]["val"]["floor"]
    if floor.get("pixel_accuracy", 1.0) - floor.get("mean_accuracy", 0.0) > _IMBALANCED:
        found += _balance(config, side)
    if not soon:
        found.append(more)
    if model and not model.get("weights"):
        name = "" if model["name"].rpartition("/")[2] == "smp" else "model.name=smp "
        found.append((f"{name}model.weights=imagenet", "an encoder that was trained before (is downloaded)"))
    return found


def diverged(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Why the learning rate is too high for this run: training diverged, or the rate is far above the usual one.

    Args:
        config: as in ``run.json``; of a run of plain objects without the tables of components.
        lines: of ``metrics.jsonl``.
    """
    train = config.get("train", {})
    losses = [float(line["train"]["loss"]) for line in lines]
    classes = len(lines[-1]["val"].get("class_iou", ())) if lines else 0
    scale = sum(float(loss.get("scale", 1.0)) for loss in config.get("loss", ()))  # 0: a loss that nobody knows
    unknowing = scale * math.log(max(2, classes))
    if losses and math.isnan(losses[0]):  # no step has ever worked: the rate has changed nothing yet
        return ""
    if losses and math.isnan(losses[-1]):
        return "no step of the last epoch had a finite loss and gradient"
    if losses and scale and not losses[-1] <= _WILD * unknowing:
        return f"the training loss is {losses[-1]:.3g}; a network that knows nothing has about {unknowing:.2g}"
    if losses and losses[-1] > _WILD * losses[0] > 0:
        return f"the training loss rose from {losses[0]:.3g} to {losses[-1]:.3g}"
    optimizer, rate = train.get("optimizer", "adamw"), train.get("lr", 0)
    usual = _usual_rate(optimizer, rate)
    return f"{rate:g} is far above {usual:g}, which is usual with {optimizer}" if rate >= _FAST * usual > 0 else ""


def lower_rate(config: Mapping[str, Any]) -> float:
    """What to set in place of a learning rate that is too high: the optimizer's usual one, or a tenth."""
    train = config.get("train", {})
    rate = train.get("lr", 1e-3)
    usual = _usual_rate(train.get("optimizer", "adamw"), rate)
    return float(usual if rate > usual else rate / 10)


def _usual_rate(optimizer: str, rate: float) -> float:
    """The learning rate that an optimizer asks for; the given one where it is not installed any more."""
    known = REGISTRIES["optimizer"]
    return float(getattr(known[optimizer], "default_lr", 1e-3)) if optimizer in known else rate


def _planned(train: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> float:
    """Steps of the whole run."""
    if train.get("minutes"):  # what fits: no more is known than what was done
        return float(lines[-1]["step"])
    steps = (train.get("epochs", 50) or math.inf) * lines[-1]["step"] / len(lines)  # none: max_steps ends it
    return float(min(steps, train.get("max_steps") or math.inf))


def _still_learning(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the training loss still falls and val is better than ever before."""
    losses, scores = [line["train"]["loss"] for line in lines], [line["val"]["mean_iou"] for line in lines]
    before = losses[len(losses) * 2 // 3 - 1] if len(losses) > 2 else -math.inf
    return bool(losses[-1] < (1 - _MOVED) * before and scores[-1] > scores[0] and scores[-1] == max(scores))


def _more_steps(train: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """What lets the run go on for longer: the one of three limits that ends it."""
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
    """What makes rare classes count more."""
    losses = [loss["name"].rpartition("/")[2] for loss in config.get("loss", ())]
    augment, found = config.get("augment", {}), []
    crop = augment.get("crop") or max(32, side // 2 // 32 * 32)
    smaller = min(crop) if isinstance(crop, (list, tuple)) else crop
    if not augment.get("class_balanced") and smaller < side:  # a crop of the whole image has no centre to choose
        crop_too = "" if augment.get("crop") else f" augment.crop={crop}"
        found.append((f"augment.class_balanced=0.5{crop_too}", "half the crops show a rare class"))
    instead = "in place of the balanced crops, not beside them" if found else "a rare class's pixels count more"
    if losses and not any(name in _OVERLAP for name in losses):
        at = f"loss.{len(losses)}"
        found.append((f"{at}.name=dice {at}.include_background=false", "counts every class alike"))
    weighted = any(loss.get("class_weights") for loss in config.get("loss", ()))
    if "cross_entropy" in losses and not weighted and augment.get("class_balanced", 0) < 0.3:
        found.append((f"loss.{losses.index('cross_entropy')}.class_weights=median_frequency", instead))
    return found


def _as_arguments(overrides: str) -> str:
    """``train.lr=0.1 augment.crop=64`` as ``lr=0.1, augment={"crop": 64}``; what are no overrides stays as it is."""
    tables: dict[str, list[str]] = {}
    for override in overrides.split():
        path, equals, value = override.partition("=")
        if not equals:
            return overrides
        table, _, key = path.partition(".")
        tables.setdefault(table, []).append(f"{key}={value}" if table == "train" else f'"{key}": {value}')
    plain = tables.pop("train", [])
    return ", ".join([*plain, *(f"{table}={{{', '.join(rows)}}}" for table, rows in tables.items())])
