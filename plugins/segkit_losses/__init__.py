"""Segmentation losses: cross-entropy, focal, OHEM, Dice, Tversky and Lovász-softmax."""

from __future__ import annotations

from collections.abc import Mapping

import segkit


@segkit.hookimpl
def segkit_losses() -> Mapping[str, str]:
    """Offer the losses by name."""
    return {
        "cross_entropy": "segkit_losses.cross_entropy:CrossEntropy",
        "focal": "segkit_losses.cross_entropy:Focal",
        "dice_cross_entropy": "segkit_losses.region:DiceCrossEntropy",
        "dice": "segkit_losses.region:Dice",
        "tversky": "segkit_losses.region:Tversky",
        "lovasz": "segkit_losses.lovasz:Lovasz",
        "ohem": "segkit_losses.cross_entropy:Ohem",
    }
