"""The optimizer Muon, ``train.optimizer = "muon"``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_optimizers() -> dict[str, str]:
    """Offer Muon."""
    return {"muon": "segkit_muon.muon:Muon"}
