"""Streets rendered by a computer game: the dataset plugin ``gta5``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer the dataset ``gta5``."""
    return {"gta5": "segkit_gta5.dataset:Gta5Dataset"}
