"""The datasets ``gta5`` (rendered streets) and ``cityscapes`` (real ones), which share 19 classes."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer the datasets."""
    return {"gta5": "segkit_gta5.dataset:Gta5Dataset", "cityscapes": "segkit_gta5.cityscapes:CityscapesDataset"}
