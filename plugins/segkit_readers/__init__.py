"""Readers of picture files: Pillow's formats, JPEG 2000, TIFF, arrays of NumPy, MATLAB and HDF5, NIfTI, DICOM."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_readers() -> dict[str, str]:
    """Offer the readers by suffix; ``any`` is tried last, for every file."""
    return {
        "tiff": "segkit_readers.tiff:read",
        "npy": "segkit_readers.several:npy",
        "npz": "segkit_readers.several:npz",
        "mat": "segkit_readers.several:mat",
        **dict.fromkeys(("h5", "hdf5"), "segkit_readers.several:h5"),
        **dict.fromkeys(("nii", "gz"), "segkit_readers.several:nifti"),
        "dcm": "segkit_readers.several:dicom",
        **dict.fromkeys(("jp2", "j2k", "jpx", "jpf", "j2c"), "segkit_readers.jpeg2000:read"),
        **dict.fromkeys(("ppm", "pgm", "pbm", "jfif", "jpe"), "segkit_readers.pillow:read"),
        "joined": "segkit_readers.joined:read",
        "any": "segkit_readers.pillow:read",
    }
