"""Read masks: return the labels exactly as they are stored, or raise an error that names the file.

A mask holds labels, not colours: nothing here may blend, scale or re-quantise it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import LABELS, MAX_PIXELS, opened
from segkit.data.sample import Colour
from segkit.errors import Issue, LabelError, first_few

MOST_COUNTED = 64
"""The most colours, or labels not allowed, that are listed for a mask; more mean a photograph or blended edges."""
AT_ENDS = 0.85
"""The least share of pixels of a mask with soft edges that are black or white, or nearly so."""
_GREY = 16  # the most by which the greys of an object cut out in one colour may differ


def read_mask(
    path: str | Path,
    colours: Mapping[Colour, int] | None = None,
    most_pixels: int = MAX_PIXELS,
    threshold: float | None = None,
) -> NDArray[Any]:
    """Return the labels of a mask as stored, upright, ``[H,W]``: uint8, uint16 or (if one is negative) int32.

    Palette indices stay indices, 1-bit masks become 0 and 1, 2-bit and 4-bit grey is not stretched to 0..255, and a
    TIFF whose zero is white is not inverted. Where red, green and blue are the same in every pixel, that value is
    the label. Floating-point masks are accepted if all their values are whole.

    Args:
        path: PNG, GIF, BMP, TIFF or lossless WebP, or a format that a plugin reads.
        colours: RGB -> label. If given, the mask is read by its colours, however it stores them.
        most_pixels: the largest size that is decoded, as in :func:`segkit.data.read.read_picture`.
        threshold: smaller values become 0, all others 255. Values are those a viewer shows, the mean of its colours, or
            alpha for an object cut out of a photograph. JPEG is accepted; not with ``colours``.

    Raises:
        LabelError: the mask is lossily compressed, has colours without ``colours`` or colours that it lacks, has an
            alpha channel that differs where the colour is the same (no ``threshold``), or holds values other than whole
            numbers of -32768..65535.
        DataError: missing, empty, damaged, of another format or too large, or of several pages or bands.
    """
    path = Path(path)
    with opened(path, most_pixels) as raster:
        if threshold is None and (lossy := getattr(raster, "is_lossy", "")):
            raise LabelError(_lossy_issue(path, lossy if isinstance(lossy, str) else "compressed with losses"))
        stored = np.asarray(raster.labels() if hasattr(raster, "labels") and threshold is None else raster[...])
        if threshold is not None and getattr(raster, "white_is_zero", False) and stored.dtype.kind == "u":
            stored = np.invert(stored)  # undoes the inversion on reading
        palette = getattr(raster, "palette", None) if colours is not None else None
    values = stored[..., 0] if stored.ndim == 3 and stored.shape[2] == 1 else stored
    if values.ndim == 3 and not (values.dtype == np.uint8 and values.shape[2] <= 4):
        what, advice = "a mask of several bands", "save one label a pixel, as a PNG: the band that holds it, or "
        advice += "mask.argmax(2) where each band is a class, mask.any(2) where each is an object"
        raise LabelError(Issue("bands", str(path), what, advice, f"{values.shape[2]} of {values.dtype}"))
    if values.ndim == 3 and values.shape[2] in (2, 4):
        if threshold is None:
            _refuse_alpha(path, values)
        values = without_alpha(values, threshold is not None)
    if palette is not None:
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette)] = palette
        values = table[values]  # [H,W,3]
    if values.dtype == bool and (colours is not None or threshold is not None):
        values = values * np.uint8(255)  # black and white
    if threshold is not None:
        grey = values.mean(2) if values.ndim == 3 else values
        _refuse_no_numbers(path, grey)
        return np.where(grey < threshold, np.uint8(0), np.uint8(255))
    if colours is not None or values.ndim == 3:
        return _labels_of_colours(path, values, colours)
    return values.astype(np.uint8) if values.dtype in (bool, np.uint8) else _whole_numbers(path, values)


def without_alpha(values: NDArray[Any], is_matte: bool) -> NDArray[Any]:
    """Return the colours of ``[H,W,2]`` or ``[H,W,4]``, or the alpha if it varies and the colours are not black/white.

    Args:
        values: grey or RGB, and alpha as the last channel.
        is_matte: whether the mask is read with a threshold; only then may the alpha be the mask.
    """
    alpha, colours = values[..., -1], values[..., 0] if values.shape[2] == 2 else values[..., :3]
    grey = colours.reshape(*alpha.shape, -1).mean(2)
    seen = grey[alpha > 0]
    at_ends = ((seen < 255 / 16) | (seen > 255 * 15 / 16)).mean()
    of_one = is_matte and alpha.min() < alpha.max() and (np.ptp(seen) <= _GREY or at_ends < AT_ENDS)
    return alpha if of_one else colours


def check_checksums(path: Path, most_pixels: int = MAX_PIXELS) -> None:
    """Check the checksums of a PNG, which Pillow ignores when it decodes: a changed pixel is a wrong label.

    Raises:
        DataError: a checksum is wrong, or the file cannot be opened.
    """
    with opened(path, most_pixels) as raster:
        getattr(raster, "verify", lambda: None)()


def _lossy_issue(path: Path, container: str) -> Issue:
    what = f"the mask is {container}, and that changes labels"
    disguised = container == "a JPEG" and path.suffix.lower() not in (".jpg", ".jpeg")
    detail = f"although its name ends in {path.suffix}" if disguised else ""
    advice = (
        "export the masks again from their source as PNG; if that is lost and their labels lie far apart, give each "
    )
    advice += "pixel the nearest of these, np.abs(mask[..., None] - LABELS).argmin(-1), and save that as PNG"
    return Issue("lossy_mask", str(path), what, advice, detail)


def _refuse_no_numbers(path: Path, values: NDArray[Any]) -> None:
    if not np.isfinite((values.min(), values.max())).all():
        what = "the mask holds NaN or infinity"
        advice = "give the pixels without a value a separate label, such as with np.nan_to_num(mask, nan=255)"
        raise LabelError(Issue("not_integers", str(path), what, advice))


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    _refuse_no_numbers(path, values)
    low, high = float(values.min()), float(values.max())  # float16 cannot hold the limits
    between = values.dtype.kind == "f" and (values != np.rint(values)).any()
    if low < LABELS[0] or high > LABELS[-1] or between:
        what = f"labels are whole numbers of {LABELS[0]} to {LABELS[-1]}"
        advice = "save the mask as a PNG of 8 or 16 bits"
        if between and high <= 1:
            advice += ": labels of 8 bits that were divided by 255 are np.rint(mask * 255)"
        if not between:
            advice += "; numbers beyond are mostly ids of single objects: export the classes instead"
        raise LabelError(Issue("not_integers", str(path), what, advice, f"{values.dtype} from {low:g} to {high:g}"))
    return values.astype(np.int32 if low < 0 else np.uint16)


def _rgb_numbers(values: NDArray[Any]) -> NDArray[np.int32]:
    """Return the colour of each pixel of ``[H,W,3]``, or of greys ``[H,W]``, as one number 0xRRGGBB, ``[H,W]``."""
    rgb = np.atleast_3d(values).astype(np.int32)
    return rgb[..., 0] << 16 | rgb[..., -2 if rgb.shape[2] == 3 else 0] << 8 | rgb[..., -1]


def _labels_of_colours(path: Path, values: NDArray[Any], colours: Mapping[Colour, int] | None) -> NDArray[np.uint8]:
    """Return the label ``[H,W]`` of each pixel of ``[H,W,3]``, or of greys ``[H,W]``; by default, grey k is label k.

    Raises:
        LabelError: a colour has no label, or the values are not 8-bit colours.
    """
    if values.dtype != np.uint8:
        what, advice = "a colour map was given, but the mask holds no colours", "leave the map out"
        raise LabelError(Issue("no_colours", str(path), what, advice, f"{values.dtype} values"))
    known = {(grey, grey, grey): grey for grey in range(256)} if colours is None else colours
    pixels = _rgb_numbers(values)
    table = {red << 16 | green << 8 | blue: label for (red, green, blue), label in known.items()}
    keys = np.array(sorted(table), dtype=np.int32)
    position = np.searchsorted(keys, pixels).clip(max=len(keys) - 1)
    unknown = keys[position] != pixels
    if not unknown.any():
        return np.take(np.array([table[key] for key in sorted(table)], dtype=np.uint8), position)
    wrong, stored = _counted(pixels[unknown]), _counted(pixels)
    counted = stored if colours is None else wrong
    if len(counted) > MOST_COUNTED:
        what = f"more than {MOST_COUNTED} colours, so the mask is a photograph or its edges were blended"
        advice = "labels need one colour a class: export it again without anti-aliasing, as PNG"
        detail = f"{len(counted):,}" + " that the colour map lacks" * (colours is not None)
        raise LabelError(Issue("blended", str(path), what, advice, detail))
    if colours is None:
        what, advice = "the mask holds colours, not labels", "export it again as a PNG of grey values or with a palette"
        advice += ", a label for each class"
        raise LabelError(Issue("colours", str(path), what, advice, f"{len(stored)} colours", stored=stored))
    detail = first_few([f"{list(colour)}: {count:,} pixels" for colour, count in wrong.items()])
    advice = f"it has {first_few([str(list(colour)) for colour in colours])}"
    advice += "; add them, as void where they are unlabelled, or correct the mask"
    what = "colours that the colour map lacks"
    raise LabelError(Issue("unknown_colours", str(path), what, advice, detail, wrong, stored))


def _refuse_alpha(path: Path, values: NDArray[np.uint8]) -> None:
    """Refuse a mask ``[H,W,2]`` or ``[H,W,4]`` whose alpha differs between pixels of the same colour.

    Raises:
        LabelError: the alpha differs, so the colours alone are not the labels.
    """
    alpha = values[..., -1].astype(np.int64)
    if alpha.min() == alpha.max():
        return
    pixels = _rgb_numbers(values[..., :-1])
    colours, pairs = np.unique(pixels), np.unique(pixels.astype(np.int64) << 8 | alpha)
    if len(pairs) == len(colours):
        return
    what = "the alpha channel differs where the colour is the same, so the colours alone are not the labels"
    advice = "export the mask without transparency, one colour or grey value a class, and one for what is not labelled"
    detail = f"{len(colours)} colours, {len(pairs)} with alpha"
    if len(colours) == 1:
        what = "the labels are in the alpha channel: the colour is the same everywhere"
        advice = "save that channel as the mask, in Pillow Image.open(mask).getchannel('A').save(mask)"
        detail = f"alpha {first_few([str(pair & 255) for pair in pairs.tolist()])}"
    raise LabelError(Issue("alpha", str(path), what, advice, detail))


def _counted(pixels: NDArray[np.int32]) -> dict[Colour, int]:
    """Return RGB -> number of pixels, the most frequent colour first."""
    colours, counts = np.unique(pixels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {
        (colour >> 16, colour >> 8 & 255, colour & 255): count
        for colour, count in zip(colours[order].tolist(), counts[order].tolist(), strict=True)
    }
