"""Reading images and masks from files: the pixels as they were meant, or a refusal that names the file.

A mask holds labels, not colours: nothing here may blend, scale or re-quantise it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segkit.errors import DataError, LabelError, first_few

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
"""Decoders that may run. Pillow has dozens more; some start other programs (EPS) or are seldom tested."""

MAX_PIXELS = 100_000_000
"""10,000 x 10,000: 300 MB as RGB in every worker; a file of a few kB can claim any size."""

_OTHER_CONTENT = {
    b"<": "text in HTML or XML, perhaps a download's error page",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip data",
    b"\x93NUMPY": "a NumPy array",
}
_TURN = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOSSY_TIFF = {6, 7, 33003, 33004, 33005, 34712, 34887, 34892, 50001, 50002}  # JPEG, JPEG 2000, LERC, WebP, JPEG XL
_MOST_COLOURS = 64  # more in one mask: a photograph, or edges that were blended


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as RGB, uint8 ``[H,W,3]``, upright.

    Grey, palette and CMYK are converted; transparency is dropped; of 16 bits a channel the upper eight are kept, the
    same for every image, so that brightness stays comparable.

    Raises:
        DataError: missing, empty, damaged, of another format or too large.
    """
    path = Path(path)
    with _opened(path) as (image, _):
        turn = _turn(image)
        if image.mode.startswith("I"):  # convert("RGB") would clip 16 bits to white
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise DataError(f"{path}: 32-bit values; save the image with 8 or 16 bits a channel")
            image = Image.fromarray((values >> 8).astype(np.uint8))
        elif image.mode == "F":
            raise DataError(f"{path}: floating-point values; save the image with 8 or 16 bits a channel")
        image = image.convert("RGB")
        return np.array(image.transpose(turn) if turn is not None else image)


def read_mask(path: str | Path, colours: Mapping[tuple[int, int, int], int] | None = None) -> NDArray[Any]:
    """The labels of a mask as they are stored, uint8 or uint16 ``[H,W]``, upright.

    Palette indices stay indices, 1-bit masks become 0 and 1, grey of 2 and 4 bits is not stretched to 0..255.

    Args:
        path: PNG, GIF, BMP, TIFF or lossless WebP.
        colours: RGB -> label. With it the mask is read by its colours whatever way it stores them.

    Raises:
        LabelError: lossily compressed, colours without ``colours`` or not in it, or no whole numbers of 0..65535.
        DataError: missing, empty, damaged, of another format or too large.
    """
    path = Path(path)
    with _opened(path) as (image, head):
        _refuse_lossy(path, image, head)
        turn = _turn(image)
        bits = _grey_bits(image, head)
        image.load()
        if turn is not None:
            image = image.transpose(turn)
        if colours is not None:
            return _labels_of_colours(path, _rgb(path, image), colours)
        if image.mode in ("RGB", "RGBA", "RGBX", "CMYK", "LAB", "YCbCr"):
            raise LabelError(_colour_proposal(path, _rgb(path, image)))
        values = np.asarray(image.getchannel(0) if image.mode in ("LA", "PA", "La") else image)
    if values.dtype == bool or values.dtype == np.uint8:
        return values.astype(np.uint8) // np.uint8(255 // (2**bits - 1))
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise LabelError(
            f"{path}: the mask holds {values.dtype} values from {values.min()} to {values.max()}; "
            "labels are whole numbers: save it as a PNG of 8 or 16 bits"
        )
    return values.astype(np.uint16)


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header alone.

    Raises:
        DataError: missing, empty, of another format or too large.
    """
    with _opened(Path(path)) as (image, _):
        width, height = image.size
        on_its_side = _turn(image) in (_TURN[5], _TURN[6], _TURN[7], _TURN[8])
    return (width, height) if on_its_side else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, bytes]]:
    """The undecoded image and the file's first bytes; what goes wrong in the body becomes a DataError too."""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata; pixels that are wrong raise
            head = stream.read(64)
            stream.seek(0)
            image = Image.open(stream, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise DataError(_too_large(path, f"{image.width} x {image.height} pixels"))
            yield image, head
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(path, str(error))) from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {_what_it_is(head)}; allowed are {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        raise DataError(f"{path}: damaged or cut short ({error}); fetch or export it again") from error


def _too_large(path: Path, size: str) -> str:
    return f"{path}: {size}; at most {MAX_PIXELS:,} pixels are decoded; cut the image into tiles"


def _what_it_is(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp":
        return "not an image that is read here but HEIC, AVIF or a video"
    for start, content in _OTHER_CONTENT.items():
        if head.lstrip().startswith(start):
            return f"not an image but {content}"
    return "not an image of a known format"


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright. Looks at the header alone: PngImageFile.getexif would decode the pixels."""
    if image.format == "TIFF":  # Pillow turns these itself
        return None
    try:
        return _TURN.get(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # damaged EXIF says nothing about the orientation
        return None


def _refuse_lossy(path: Path, image: Image.Image, head: bytes) -> None:
    if head.startswith(b"\xff\xd8\xff"):
        kind = (
            "a JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else f"a JPEG, although its name ends in {path.suffix}"
        )
    elif image.format == "WEBP" and not _is_lossless_webp(path):
        kind = "a lossy WebP"
    elif image.format == "TIFF" and image.tag_v2.get(259) in _LOSSY_TIFF:  # type: ignore[attr-defined]
        kind = "a TIFF with lossy compression"
    else:
        return
    raise LabelError(
        f"{path}: the mask is {kind}, and that changes labels; export the masks again from their source as PNG"
    )


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first picture among the RIFF chunks is VP8L, not VP8."""
    data = path.read_bytes()
    position = 12
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 24 if kind == b"ANMF" else 8 + size + size % 2  # a frame's chunks lie inside ANMF
    return False


def _grey_bits(image: Image.Image, head: bytes) -> int:
    """Bits of a stored grey value; Pillow stretches 2 and 4 of them to 0..255."""
    if image.mode == "L" and image.format == "PNG":
        return head[24]
    if image.mode == "L" and image.format == "TIFF":
        return int(image.tag_v2.get(258, (8,))[0])  # type: ignore[attr-defined]
    return 8


def _rgb(path: Path, image: Image.Image) -> NDArray[np.int32]:
    """Each pixel's colour as one number, ``[H,W]``."""
    if image.mode.startswith(("I", "F")):
        raise LabelError(f"{path}: a colour map was given, but the mask holds {image.mode} values and no colours")
    rgb = np.asarray(image.convert("RGBA").convert("RGB"), dtype=np.int32)  # [H,W,3]
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def _labels_of_colours(
    path: Path, pixels: NDArray[np.int32], colours: Mapping[tuple[int, int, int], int]
) -> NDArray[np.uint8]:
    packed = {red << 16 | green << 8 | blue: label for (red, green, blue), label in colours.items()}
    keys = np.array(sorted(packed), dtype=np.int32)
    labels: NDArray[np.uint8] = np.array([packed[key] for key in sorted(packed)], dtype=np.uint8)
    position = np.searchsorted(keys, pixels).clip(max=len(keys) - 1)
    unknown = keys[position] != pixels
    if unknown.any():
        found = _counted(pixels[unknown])
        listed = first_few([f"{list(_unpack(colour))} ({count:,} pixels)" for colour, count in found])
        known = first_few([str(list(colour)) for colour in colours])
        raise LabelError(
            f"{path}: {len(found)} colours that the colour map lacks: {listed}; it has {known}. "
            "Add them; if there are very many, the mask's edges were blended: export it without anti-aliasing"
        )
    return np.take(labels, position)


def _counted(pixels: NDArray[Any]) -> list[tuple[int, int]]:
    """(value, number of pixels), the most frequent first."""
    values, counts = np.unique(pixels, return_counts=True)
    return sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])


def _unpack(colour: int) -> tuple[int, int, int]:
    return colour >> 16, colour >> 8 & 255, colour & 255


def _colour_proposal(path: Path, pixels: NDArray[np.int32]) -> str:
    found = _counted(pixels)
    if len(found) > _MOST_COLOURS:
        return (
            f"{path}: the mask holds {len(found):,} colours, so it is a photograph or its edges were blended; "
            "labels need one colour a class: export it again without anti-aliasing, as PNG"
        )
    lines = [
        f"class_{index} = {list(_unpack(colour))}  # {count / pixels.size:.1%} of this mask"
        for index, (colour, count) in enumerate(found)
    ]
    return (
        f"{path}: the mask holds colours, not labels. Say which colour is which class "
        "(and call the one of unlabelled pixels void):\n\n[dataset.colour_map]\n" + "\n".join(lines)
    )
