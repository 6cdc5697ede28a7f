"""What to try when a network learns only its background, as overrides of a config, in the order of what works.

The order is that of the tables in ``examples/README.md``, which ``benchmarks/studies/imbalance.toml`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_OVERLAP = ("dice", "tversky", "lovasz")  # losses that count each class alike, however few its pixels are
_MOVED = 0.02  # of the training loss; less, and the learning rate is too small for anything else to help


def remedies(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]], side: int) -> list[tuple[str, str]]:
    """What the run has not tried yet: an override, and why.

    Args:
        config: as it stands in ``run.json``; of a run of plain objects without the tables of components.
        history: the epochs so far.
        side: of a training image, the shorter one, pixels.
    """
    losses = [loss["name"].rpartition("/")[2] for loss in config.get("loss", ())]
    augment, model, train = (config.get(table, {}) for table in ("augment", "model", "train"))
    rate, epochs = train.get("lr", 1e-3), train.get("epochs", 50)
    found = []
    trained = [line["train"]["loss"] for line in history if "train" in line]
    if len(trained) > 1 and abs(trained[-1] - trained[0]) < _MOVED * abs(trained[0]):
        more = 2 if train.get("optimizer") == "muon" else 10
        found.append((f"train.lr={rate * more:g}", "the training loss hardly moves"))
    if not augment.get("class_balanced"):
        crop = "" if augment.get("crop") else f" augment.crop={max(32, side // 2 // 32 * 32)}"
        found.append((f"augment.class_balanced=0.5{crop}", "half the crops show a rare class"))
    if losses and not any(name in _OVERLAP for name in losses):
        at = f"loss.{len(losses)}"
        found.append((f"{at}.name=dice {at}.include_background=false", "counts every class alike"))
    weighted = any(loss.get("class_weights") for loss in config.get("loss", ()))
    if "cross_entropy" in losses and not weighted and augment.get("class_balanced", 0) < 0.3:
        at = f"loss.{losses.index('cross_entropy')}"
        found.append((f"{at}.class_weights=median_frequency", "in place of the balanced crops, not beside them"))
    steps = history[-1]["step"] if history else 0
    found.append((f"train.epochs={2 * epochs}", f"{steps} step{'s' * (steps != 1)} so far" if steps else "more steps"))
    if model and not model.get("weights"):
        found.append(("model.name=smp model.weights=imagenet", "an encoder that was trained before (is downloaded)"))
    return found
