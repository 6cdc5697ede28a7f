"""Cars and their outlines (Kaggle, 2017): the dataset plugin ``carvana``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer the dataset ``carvana``."""
    return {"carvana": "segkit_carvana.dataset:CarvanaDataset"}
