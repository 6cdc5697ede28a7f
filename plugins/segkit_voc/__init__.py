"""Pascal VOC 2007 and 2012: the dataset plugin ``voc``."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer the dataset ``voc``."""
    return {"voc": "segkit_voc.dataset:VocDataset"}
