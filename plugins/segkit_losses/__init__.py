"""Losses on pixels: cross-entropy, focal and Dice."""

from __future__ import annotations

from collections.abc import Mapping

import segkit


@segkit.hookimpl
def segkit_losses() -> Mapping[str, str]:
    """Offer the losses by name."""
    return {
        "cross_entropy": "segkit_losses.cross_entropy:CrossEntropy",
        "focal": "segkit_losses.focal:Focal",
        "dice": "segkit_losses.dice:Dice",
    }
