"""Plugin with the dataset ``folder``: the user's own folders of images and masks."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_datasets() -> dict[str, str]:
    """Offer ``folder``."""
    return {"folder": "segkit_folder.dataset:FolderDataset"}
