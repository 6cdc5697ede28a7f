"""Readers of picture files: Pillow's formats, TIFF of many bands or other numbers, and NumPy arrays."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_readers() -> dict[str, str]:
    """Offer the readers, by suffix; ``any`` is asked last, of every file."""
    return {
        "tiff": "segkit_readers.tiff:read",
        "npy": "segkit_readers.npy:read",
        "npz": "segkit_readers.several:npz",
        "mat": "segkit_readers.several:mat",
        "ppm": "segkit_readers.pillow:read",
        "pgm": "segkit_readers.pillow:read",
        "any": "segkit_readers.pillow:read",
    }
