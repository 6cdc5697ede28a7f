"""What to try when a network learns only its background, in a config's own words and in the order of what works.

The order is that of the table in ``examples/README.md``, which ``benchmarks/imbalance.py`` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OVERLAP = ("dice", "tversky", "lovasz")  # losses that count each class alike, however few its pixels are


def remedies(config: Mapping[str, Any]) -> list[str]:
    """What the run has not tried yet.

    Args:
        config: as it stands in ``run.json``; of a run of plain objects without the tables of components.
    """
    losses = {loss["name"].rpartition("/")[2]: loss for loss in config.get("loss", ())}
    augment, model, train = (config.get(table, {}) for table in ("augment", "model", "train"))
    found = []
    if not any(name in losses for name in _OVERLAP):
        found.append('a second loss: [[loss]] name = "dice", include_background = false')
    if not any(loss.get("class_weights") for loss in losses.values()):
        found.append('class_weights = "median_frequency" in the loss cross_entropy')
    if not augment.get("class_balanced"):
        size = "" if augment.get("crop") else " and augment.crop = half an image's side, in pixels"
        found.append(f"augment.class_balanced = 0.5{size}")
    if not model.get("weights"):
        found.append('an encoder that was trained before: [model] name = "smp", weights = "imagenet"')
    return [*found, f"more steps, or another learning rate: train.epochs, train.lr = {train.get('lr', 0.001) / 3:.1g}"]
