"""Reading images and masks from files: the pixels as they were meant, or a refusal that names the file.

A mask holds labels, not colours: nothing here may blend, scale or re-quantise it.
"""

from __future__ import annotations

import re
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from segkit.data.colours import labels_of_colours, labels_of_greys, refuse_alpha, rgb_numbers
from segkit.data.rgb import Pixels, as_rgb, bands_fault, rawmode_of, refuse_lost_bands
from segkit.data.tiff import contents, described
from segkit.errors import DataError, Issue, LabelError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
"""Decoders that may run. Pillow has dozens more; some start other programs (EPS) or are seldom tested."""

MAX_PIXELS = 100_000_000
"""10,000 x 10,000: 300 MB as RGB in every worker; a file of a few kB can claim any size."""

MAX_BYTES = 1 << 30
"""10,000 x 10,000 pixels of RGBA with 16 bits a channel are 800 MB; a file with holes claims any size."""

LOWEST_LABEL, HIGHEST_LABEL = -32768, 65535
"""Labels of a mask; what is beyond is the ids of single objects, or no labels."""

_lifting = threading.Lock()
_intact: set[int] = set()  # stamps of the masks whose checksums were right

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


def read_image(path: str | Path, most_pixels: int = MAX_PIXELS) -> Pixels:
    """An image ``[H,W,3]``, upright: uint8 RGB, or of more than 8 bits a channel float32, the values as stored.

    Palette, CMYK and the like are converted to RGB, grey is repeated three times, and a TIFF whose zero is white is
    inverted, as it is meant to be seen. Transparency is dropped where it is the same at every pixel.

    Args:
        path: of the file.
        most_pixels: that are decoded; more than :data:`MAX_PIXELS` where a person has named this very image. Of 8 bits
            a channel, seven bytes a pixel are held while it is read, and three of them stay.

    Raises:
        DataError: missing, empty, damaged, of another format or too large; or of several pages, more bands than three
            or a transparency that varies, of which a part would be lost.
    """
    path = Path(path)
    with _opened(path, most_pixels) as (image, _):
        pages = _pages(path, image)
        if pages > 1:
            what = "more than one picture in the file of an image"
            held = f" of {described(image.tag_v2)}" if image.format == "TIFF" else ""  # type: ignore[attr-defined]
            advice = "save each as a file of its own"
            raise DataError(Issue("several", str(path), what, advice, f"{pages} pages{held}"))
        return as_rgb(image, str(path), _turn(image))


def read_mask(
    path: str | Path, colours: Mapping[tuple[int, int, int], int] | None = None, most_pixels: int = MAX_PIXELS
) -> NDArray[Any]:
    """The labels of a mask as they are stored, uint8, uint16 or (where one is negative) int32 ``[H,W]``, upright.

    Palette indices stay indices, 1-bit masks become 0 and 1, grey of 2 and 4 bits is not stretched to 0..255, and that
    of a TIFF whose zero is white is not inverted. Where red, green and blue are the same in every pixel, that value is
    the label. Floating-point masks are labels where all their values are whole.

    Args:
        path: PNG, GIF, BMP, TIFF or lossless WebP.
        colours: RGB -> label. With it the mask is read by its colours whatever way it stores them.
        most_pixels: that are decoded, as in :func:`read_image`.

    Raises:
        LabelError: lossily compressed, colours without ``colours`` or not in it, an alpha channel that says more than
            the colours, or no whole numbers of -32768..65535.
        DataError: missing, empty, damaged, of another format or too large.
    """
    path = Path(path)
    with _opened(path, most_pixels) as (image, head):
        _refuse_lossy(path, image, head)
        _refuse_several(path, image)
        turn = _turn(image)
        refuse_lost_bands(image, str(path))
        _refuse_deep_colours(path, image)
        bits, inverted = _grey_bits(image, head), _is_inverted(image)
        image.load()
        if image.format == "PNG":
            _refuse_wrong_checksum(path)
        if turn is not None:
            image = image.transpose(turn)
        refuse_alpha(path, image)
        if colours is not None:
            return labels_of_colours(path, rgb_numbers(path, image), colours)
        if image.mode in ("RGB", "RGBA", "RGBX", "CMYK", "LAB", "YCbCr"):
            return labels_of_greys(path, rgb_numbers(path, image), image.mode)
        values = np.asarray(image.getchannel(0) if image.mode in ("LA", "PA", "La") else image)
        if image.format == "TIFF" and image.tag_v2.get(339, (1,))[0] == 2 and values.dtype == np.uint8:  # type: ignore[attr-defined]
            return values.view(np.int8).astype(np.int32)  # signed bytes, which Pillow does not know
    if values.dtype == bool or values.dtype == np.uint8:
        values = ~values if inverted else values
        return values.astype(np.uint8) // np.uint8(255 // (2**bits - 1))
    return _whole_numbers(path, values)


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    low, high = values.min(), values.max()
    if not np.isfinite((low, high)).all():
        what = "labels are whole numbers, and the mask holds NaN or infinity"
        advice = "give the pixels without a value a label of their own, as np.nan_to_num(mask, nan=255) does"
        raise LabelError(Issue("not_integers", str(path), what, advice))
    between = values.dtype.kind == "f" and (values != np.rint(values)).any()
    if low < LOWEST_LABEL or high > HIGHEST_LABEL or between:
        what = f"labels are whole numbers of {LOWEST_LABEL} to {HIGHEST_LABEL}"
        advice = "save the mask as a PNG of 8 or 16 bits"
        if not between:
            advice += "; numbers beyond are mostly ids of single objects: export the classes instead"
        raise LabelError(Issue("not_integers", str(path), what, advice, f"{values.dtype} from {low} to {high}"))
    return values.astype(np.int32 if low < 0 else np.uint16)


def mask_palette(path: Path, most_pixels: int = MAX_PIXELS) -> list[tuple[int, int, int]] | None:
    """The colours of a mask's palette by index, from the file's header; None where it has none.

    Raises:
        DataError: missing, empty, of another format or too large.
    """
    with _opened(path, most_pixels) as (image, _):
        colours = image.getpalette("RGB") if image.mode in ("P", "PA") else None
    return None if colours is None else list(zip(colours[::3], colours[1::3], colours[2::3], strict=False))


def holds_colours(path: Path) -> bool:
    """Whether a mask stores red, green and blue, from the file's header.

    Raises:
        DataError: missing, empty, of another format or too large.
    """
    with _opened(path) as (image, _):
        return image.mode in ("RGB", "RGBA")


def image_size(path: str | Path, most_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header alone.

    Raises:
        DataError: missing, empty, of another format or of more than ``most_pixels``.
    """
    with _opened(Path(path), most_pixels) as (image, _):
        width, height = image.size
        on_its_side = _turn(image) in (_TURN[5], _TURN[6], _TURN[7], _TURN[8])
    return (width, height) if on_its_side else (height, width)


def are_turned_apart(image: Path, mask: Path) -> bool:
    """Whether EXIF turns an image and its mask differently, and yet their shape is the same turned or not.

    Such a mask fits in shape whether it was drawn on the upright image or on the pixels as they are stored.
    """
    try:
        with _opened(image) as (opened, _):
            turn, square = _orientation(opened), opened.size[0] == opened.size[1]
        with _opened(mask) as (opened, _):
            of_mask = _orientation(opened)
    except DataError:  # no image, as of a dataset that reads something else
        return False
    return _TURN.get(turn) != _TURN.get(of_mask) and (square or (turn > 4) == (of_mask > 4))


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow's warnings about odd metadata are not shown; pixels that are wrong raise an error.

    Filters of warnings belong to the process: if each of several threads set and restored them, one would restore what
    another had set. So this does something in the main thread alone, and who starts threads that read enters it first.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def _opened(path: Path, most_pixels: int = MAX_PIXELS) -> Iterator[tuple[Image.Image, bytes]]:
    """The undecoded image and the file's first bytes; what goes wrong in the body becomes a DataError too."""
    most_bytes = MAX_BYTES * max(most_pixels, MAX_PIXELS) // MAX_PIXELS
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):  # opening a pipe would wait for ever
            raise DataError(Issue("unreadable", str(path), "no regular file", "give the file itself"))
        if state.st_size > most_bytes:
            what = f"larger than the {most_bytes:,} bytes that are read at most"
            raise DataError(Issue("too_large", str(path), what, "save it anew", f"{state.st_size:,} bytes"))
        with path.open("rb") as stream, quiet_pillow():
            head = stream.read(64)
            stream.seek(0)
            with _pillows_limit(most_pixels):
                image = Image.open(stream, formats=FORMATS)
            for width, height in (image.size, _tile(image)):
                if width * height > most_pixels:
                    raise DataError(_too_large(path, f"{width} x {height}", most_pixels))
            if image.format == "BMP" and _is_misread(image, head):
                what = "a BMP of greys in a palette of 4 or 8 bits a pixel, which Pillow misreads"
                raise DataError(Issue("misread", str(path), what, "save it as PNG with the program that wrote it"))
            yield image, head
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(Issue("missing", str(path), "no such file")) from None
    except Image.DecompressionBombError as error:
        size = "".join(re.findall(r"\((\d+ pixels)\)", str(error)))
        raise DataError(_too_large(path, size, most_pixels)) from None
    except UnidentifiedImageError:
        held = contents(path)
        raise DataError(bands_fault(held, str(path)) if held else _content_fault(path, head)) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        if isinstance(error, OSError) and error.strerror:
            fault = Issue("unreadable", str(path), "cannot be read", detail=error.strerror)
            raise DataError(fault) from None
        fault = Issue("damaged", str(path), "damaged or cut short", "fetch or export it again", str(error))
        raise DataError(fault) from error


def _is_misread(image: Any, head: bytes) -> bool:
    """Whether Pillow takes a BMP whose palette is black and white for one bit a pixel, or one of greys for a byte."""
    bits = head[28] if head[14] >= 40 else head[24]
    decoder, rawmode = image.tile[0][0], rawmode_of(image)
    return (rawmode == "1" and bits != 1) or (rawmode == "L" and bits < 8 and decoder == "raw")


@contextmanager
def _pillows_limit(most_pixels: int) -> Iterator[None]:
    """Pillow refuses twice its ``MAX_IMAGE_PIXELS``, 179 million, of whoever opens a file; lifted for this one alone.

    What another thread opens meanwhile is still held to our own limit.
    """
    if most_pixels <= MAX_PIXELS:  # well below it; to ask for the limit here might find one that is lifted
        yield
        return
    with _lifting:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _tile(image: Image.Image) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which are decoded whole however small the image; (0, 0) without tiles."""
    if image.format != "TIFF":
        return 0, 0
    width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))  # type: ignore[attr-defined]
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (MAX_PIXELS, MAX_PIXELS)


def _too_large(path: Path, size: str, most_pixels: int) -> Issue:
    what = f"larger than the {most_pixels:,} pixels that are decoded at most"
    return Issue("too_large", str(path), what, "cut the image into tiles", size)


def _content_fault(path: Path, head: bytes) -> Issue:
    if not head:
        return Issue("empty", str(path), "the file is empty", "fetch or export it again")
    return Issue("disguised", str(path), _what_it_is(head), f"allowed are {', '.join(FORMATS)}")


def _what_it_is(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "not an image that is read here but HEIC, AVIF or a video"
    for start, content in _OTHER_CONTENT.items():
        if head.lstrip().startswith(start):
            return f"not an image but {content}"
    return "not an image of a known format"


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright. Looks at the header alone: PngImageFile.getexif would decode the pixels."""
    return None if image.format == "TIFF" else _TURN.get(_orientation(image))  # Pillow turns a TIFF itself


def _orientation(image: Image.Image) -> int:
    """1 is upright, 3 and 6 as a camera held otherwise, ..."""
    try:
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # damaged EXIF says nothing about the orientation
        return 1


def _is_inverted(image: Image.Image) -> bool:
    """Whether Pillow turns stored values of a TIFF whose zero is white into those that are seen, as ``1;I`` says."""
    return image.format == "TIFF" and "I" in rawmode_of(image).partition(";")[2]


def _refuse_lossy(path: Path, image: Image.Image, head: bytes) -> None:
    if head.startswith(b"\xff\xd8\xff"):
        container = "a JPEG"
    elif image.format == "WEBP" and not _is_lossless_webp(path):
        container = "a lossy WebP"
    elif image.format == "TIFF" and image.tag_v2.get(259) in _LOSSY_TIFF:  # type: ignore[attr-defined]
        container = "a TIFF with lossy compression"
    else:
        return
    what = f"the mask is {container}, and that changes labels"
    disguised = container == "a JPEG" and path.suffix.lower() not in (".jpg", ".jpeg")
    detail = f"although its name ends in {path.suffix}" if disguised else ""
    raise LabelError(Issue("lossy_mask", str(path), what, "export the masks again from their source as PNG", detail))


def _pages(path: Path, image: Image.Image) -> int:
    """Pages or frames; what a camera puts beside a JPEG (MPO) and smaller copies in a TIFF are none."""
    if image.format == "TIFF":
        held = contents(path)
        return held.pages if held else 1
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _refuse_several(path: Path, image: Image.Image) -> None:
    """A page a class, or an animation: the first alone would be read."""
    frames = _pages(path, image)
    if frames > 1:
        advice = "export one mask with all the labels"
        raise LabelError(
            Issue("several", str(path), "more than one picture in the file of a mask", advice, f"{frames}")
        )


def _refuse_deep_colours(path: Path, image: Image.Image) -> None:
    """Pillow keeps the upper 8 bits of colours of 16, and of a small label nothing."""
    if image.mode in ("LA", "RGB", "RGBA") and "16" in rawmode_of(image):
        what, advice = "colours of 16 bits a channel, of which 8 are read", "save the labels as a grey PNG"
        raise LabelError(Issue("deep_colours", str(path), what, advice, rawmode_of(image).partition(";")[0]))


def _refuse_wrong_checksum(path: Path) -> None:
    """Pillow decodes a PNG whose pixels were changed on the way; a photograph survives that, labels do not.

    Looked at once in a process, by the scan or in the first epoch, until the file changes.
    """
    state = path.stat()
    stamp = hash((path, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
    if stamp in _intact:
        return
    data = path.read_bytes()
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            what, advice = "damaged or cut short", "fetch or export it again"
            raise DataError(Issue("damaged", str(path), what, advice, f"wrong checksum at byte {end}"))
        position = end + 4
    _intact.add(stamp)


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
        if head[12:16] != b"IHDR":  # Pillow reads one that comes later, too
            raise ValueError("the file does not begin with its header")
        return head[24]
    if image.mode == "L" and image.format == "TIFF":
        return int(image.tag_v2.get(258, (8,))[0])  # type: ignore[attr-defined]
    return 8
