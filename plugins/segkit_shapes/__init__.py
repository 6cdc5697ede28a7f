"""A generated, imbalanced dataset that needs no download."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer ``shapes``."""
    return {"shapes": "segkit_shapes.dataset:ShapesDataset"}
