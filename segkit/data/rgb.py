"""The pixels of a decoded image as RGB, upright, with no more memory than that takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.errors import DataError, Fault

_BAND = 1 << 24  # pixels that are converted at a time: beside the decoded image and the result there is no third copy
_AS_STORED = {  # what makes it upright -> the view of the upright pixels [H,W,3] that lies as they are stored
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels[:, ::-1],
    Image.Transpose.ROTATE_180: lambda pixels: pixels[::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels[::-1],
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.swapaxes(0, 1),
    Image.Transpose.ROTATE_270: lambda pixels: np.rot90(pixels),
    Image.Transpose.TRANSVERSE: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    Image.Transpose.ROTATE_90: lambda pixels: np.rot90(pixels, -1),
}
_ON_ITS_SIDE = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def as_rgb(image: Image.Image, name: str, turn: Image.Transpose | None = None) -> NDArray[np.uint8]:
    """The pixels ``[H,W,3]`` of an image in memory, turned, as :func:`segkit.data.read.read_image` gives them.

    Raises:
        DataError: they have 32 bits a channel, or are no whole numbers.
    """
    image.load()  # a TIFF is turned by this
    width, height = image.size
    on_its_side = turn in _ON_ITS_SIDE
    upright = np.empty((width, height, 3) if on_its_side else (height, width, 3), np.uint8)
    stored = upright if turn is None else _AS_STORED[turn](upright)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = image if rows >= height else image.crop((0, top, width, bottom))
        if band.mode.startswith("I"):  # convert("RGB") would clip 16 bits to white
            values = np.asarray(band)
            if values.min() < 0 or values.max() > 65535:
                raise DataError(_depth_fault(name, "32-bit values"))
            band = Image.fromarray((values >> 8).astype(np.uint8))
        elif band.mode == "F":
            raise DataError(_depth_fault(name, "floating-point values"))
        stored[top:bottom] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return upright


def _depth_fault(name: str, what: str) -> Fault:
    return Fault("depth", name, what, "save the image with 8 or 16 bits a channel")
