"""The pixels of an image as three channels, upright, with the values that are stored, in little memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from segkit.data.tiff import Contents, described
from segkit.errors import DataError, Issue

Pixels = NDArray[np.uint8 | np.float32]

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
# Of two bytes a value Pillow keeps the high one. Told that they lie the other way round, it keeps the low one.
_LOW = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_SHOWN = {"RGBX": "RGBA", "LX": "LA", "PX": "PA", "RGBa": "RGBA", "La": "LA"}  # Pillow drops or divides by the fourth
_MOST = 1e30  # beyond, a float is a mark for "no data", as -3.4e38 is GDAL's


def as_rgb(image: Image.Image, name: str, turn: Image.Transpose | None = None) -> Pixels:
    """The pixels ``[H,W,3]`` of an image, turned, as :func:`segkit.data.read.read_image` gives them.

    Args:
        image: as Pillow opened it. Of RGB of 16 bits that was decoded before, Pillow has kept 8.
        name: what an error calls it.
        turn: what makes it upright.

    Returns:
        uint8 where it has up to 8 bits a channel, else float32 with the values as they are stored.

    Raises:
        DataError: it has bands that would be lost, or values that are no numbers.
    """
    held = refuse_lost_bands(image, name)
    grey = rawmode_of(image).startswith("LA;")
    low = _low_bytes(image, held)
    image.load()  # a TIFF is turned by this
    width, height = image.size
    on_its_side = turn in _ON_ITS_SIDE
    wide = low is not None or image.mode[0] in "IF" or (held is not None and held.dtype == "int8")
    upright: Pixels = np.empty(
        (width, height, 3) if on_its_side else (height, width, 3), np.float32 if wide else np.uint8
    )
    stored = upright if turn is None else _AS_STORED[turn](upright)
    fourth: list[int] = []  # its least and its largest value in each part
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        place = (0, top, width, min(top + rows, height))
        band = image if rows >= height else image.crop(place)
        of_low = low if low is None or rows >= height else low.crop(place)
        colours, alpha = _parts(band, of_low, held, wide, grey)
        stored[top : place[3]] = colours  # [h,w,3], or [h,w,1] three times
        fourth += [] if alpha is None else [int(alpha.min()), int(alpha.max())]
    if fourth and min(fourth) < max(fourth):
        raise DataError(_fourth_fault(image, name, f"{min(fourth)} to {max(fourth)}", wide))
    if image.mode == "F" and (wrong_pixels := int((~(np.abs(upright[..., 0]) < _MOST)).sum())):
        what, advice = "pixels that are no numbers", "fill them with numbers, or leave the picture out"
        detail = f"{wrong_pixels:,} of {width * height:,} are NaN, infinite or a mark for no data"
        raise DataError(Issue("no_numbers", name, what, advice, detail))
    return upright


def refuse_lost_bands(image: Image.Image, name: str) -> Contents | None:
    """What a TIFF that is not decoded yet holds; a fourth band that Pillow would drop is decoded too.

    Raises:
        DataError: it has further bands, or values, that would be lost.
    """
    held = described(image.tag_v2) if isinstance(image, TiffImageFile) else None
    _show_fourth(image, held)
    if held and _is_cut(image, held):
        raise DataError(bands_fault(held, name))
    return held


def for_the_eye(image: Pixels) -> NDArray[np.uint8]:
    """An image ``[H,W,3]`` to look at: of more than 8 bits stretched, from the 1st to the 99th percentile of it."""
    if image.dtype == np.uint8:
        return image  # type: ignore[return-value]
    step = max(1, int((image.size / 1e6) ** 0.5))  # a part of a large image says as much
    low, high = np.percentile(image[::step, ::step], (1, 99))
    shown: NDArray[np.uint8] = (np.clip((image - low) / max(high - low, 1e-30), 0, 1) * 255).astype(np.uint8)
    return shown


def _parts(
    band: Image.Image, low: Image.Image | None, held: Contents | None, wide: bool, grey: bool
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colours ``[h,w,3]`` or grey ``[h,w,1]``, and the fourth channel ``[h,w]`` where there is one."""
    alpha = None
    if low is not None:
        colours, alpha = _of_16_bits(np.asarray(band), np.asarray(low), grey)
    elif wide:
        colours = _numbers(np.asarray(band), held)
    elif band.has_transparency_data:
        values = np.asarray(band if band.mode == "RGBA" else band.convert("RGBA"))
        colours, alpha = values[..., :3], values[..., 3]
    else:
        colours = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    if wide and "transparency" in band.info:  # one value or colour that stands for it
        alpha = (colours != band.info["transparency"]).any(2)
    return colours, alpha


def bands_fault(held: Contents, name: str) -> Issue:
    """What a TIFF holds that is not read, and how to make one of it that is."""
    advice = "read are grey of 8 or 16 bits or float32, and RGB of 8 or 16 bits a channel; save it as one of these"
    if held.bands > 1:
        advice += ". With GDAL, gdal_translate -b 1 IN OUT takes the first band"
    if held.bands > 2:
        advice += (
            ", gdal_translate -b 1 -b 2 -b 3 -ot UInt16 -scale LOW HIGH 0 65535 -co PHOTOMETRIC=RGB -co "
            "INTERLEAVE=PIXEL IN OUT three of them, with the lowest and the highest value in all the files"
        )
    return Issue("bands", name, "a kind of TIFF that is not read", advice, str(held))


def _fourth_fault(image: Image.Image, name: str, values: str, wide: bool) -> Issue:
    what = "a fourth channel that varies" if image.mode == "RGBA" else "transparency that varies"
    advice = "read are grey and RGB, so it would be lost; if it means nothing, save the picture without it"
    if not wide:
        advice += ', in Python: Image.open(FILE).convert("RGBA").convert("RGB").save(FILE'
        advice += ", lossless=True)" if image.format == "WEBP" else ")"
    return Issue("fourth_channel", name, what, f"{advice}; if the objects are in it, make it the picture", values)


def _is_cut(image: Image.Image, held: Contents) -> bool:
    """Whether Pillow would leave out bands of a TIFF, or a part of their values."""
    extra, wide = held.bands - held.colours, held.bits > 8
    if extra and (extra > 1 or held.planar or not image.has_transparency_data):
        return True
    return wide and held.bands > 1 and (held.planar or held.colours != 3)


def rawmode_of(image: Image.Image) -> str:
    """How the file stores a pixel, in Pillow's words, as ``RGB;16B``; empty once it is decoded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _decode_as(image: Any, rawmode: str) -> None:
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]


def _show_fourth(image: Any, held: Contents | None) -> None:
    """Have Pillow decode a fourth band that it would drop, and leave colours alone that were multiplied by it."""
    kind, _, bits = rawmode_of(image).partition(";")
    if held and held.bands == held.colours + 1 and kind in _SHOWN:
        image._mode = _SHOWN[kind]
        _decode_as(image, f"{_SHOWN[kind]};{bits}" if bits else _SHOWN[kind])


def _low_bytes(image: Any, held: Contents | None) -> Image.Image | None:
    """The same file again, decoded to the low bytes of 16 bits a channel; None where nothing is cut to 8 bits."""
    kind, _, bits = rawmode_of(image).partition(";")
    if kind not in ("LA", "RGB", "RGBA") or bits not in _LOW:
        return None
    low: Any = Image.open(image.fp, formats=[image.format])
    _show_fourth(low, held)
    if kind == "LA":  # as if it were of four channels of 8 bits: both bytes of each
        _decode_as(low, "RGBA")
    else:
        _decode_as(low, f"{kind};{_LOW[bits]}")
    low.load()
    return low  # type: ignore[no-any-return]


def _of_16_bits(
    high: NDArray[np.uint8], low: NDArray[np.uint8], grey: bool
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    """Colours ``[h,w,3]`` or grey ``[h,w,1]``, and the fourth channel ``[h,w]``, of what :func:`_low_bytes` decodes."""
    if grey:
        high, low = low[..., ::2], low[..., 1::2]
    values = high * np.uint16(256) + low
    colours = values.shape[2] - (grey or values.shape[2] == 4)
    return values[..., :colours], values[..., -1] if colours < values.shape[2] else None


def _numbers(values: NDArray[Any], held: Contents | None) -> NDArray[Any]:
    """``[h,w]`` as Pillow decoded it -> ``[h,w,1]`` as it is stored; of a grey whose zero is white, as it is seen."""
    if held and held.dtype in ("int8", "uint32"):  # Pillow knows them as uint8 and int32
        values = values.view(held.dtype)
    if held and held.white_is_zero and held.dtype == "uint16":  # of 8 bits Pillow does it
        values = 65535 - values
    return values[..., None]
