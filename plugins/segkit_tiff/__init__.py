"""Readers of pictures that Pillow does not read whole: TIFF of many bands or other numbers, and NumPy arrays."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_readers() -> dict[str, str]:
    """Offer the readers, by suffix; ``tiff`` is asked for whatever begins as a TIFF does."""
    return {"tiff": "segkit_tiff.tiff:read", "npy": "segkit_tiff.npy:read"}
