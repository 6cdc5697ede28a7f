"""Streets of a computer game and of true cities, in the same 19 classes: the datasets ``gta5`` and ``cityscapes``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer the datasets."""
    return {"gta5": "segkit_gta5.dataset:Gta5Dataset", "cityscapes": "segkit_gta5.cityscapes:CityscapesDataset"}
