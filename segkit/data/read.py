"""Reading images and masks from files: the pixels as they were meant, or a refusal that names the file.

A mask holds labels, not colours: nothing here may blend, scale or re-quantise it.
"""

from __future__ import annotations

import re
import stat
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from segkit.data.tiff import Contents, contents, described
from segkit.errors import DataError, Issue, LabelError, first_few

Pixels = NDArray[np.uint8 | np.float32]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
"""Decoders that may run. Pillow has dozens more; some start other programs (EPS) or are seldom tested."""

MAX_PIXELS = 100_000_000
"""10,000 x 10,000: 300 MB as RGB in every worker; a file of a few kB can claim any size."""

MAX_BYTES = 1 << 30
"""10,000 x 10,000 pixels of RGBA with 16 bits a channel are 800 MB; a file with holes claims any size."""

LOWEST_LABEL, HIGHEST_LABEL = -32768, 65535
"""Labels of a mask; what is beyond is the ids of single objects, or no labels."""

_lifting = threading.Lock()

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


def check_checksums(path: Path, most_pixels: int = MAX_PIXELS) -> None:
    """Refuse a PNG whose pixels were changed on the way: Pillow decodes it. A photograph survives that, labels do not.

    Raises:
        DataError: a checksum is wrong, or the file cannot be opened.
    """
    with _opened(path, most_pixels) as (image, _):
        if image.format == "PNG":
            image.verify()


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


MOST_COUNTED = 64
"""Colours, or labels that are not allowed, of one mask: more of them are a photograph or edges that were blended."""


def rgb_numbers(path: Path, image: Image.Image) -> NDArray[np.int32]:
    """Each pixel's colour as one number, ``[H,W]``.

    Raises:
        LabelError: the mask has 16 or 32 bits a pixel, which are no colours.
    """
    if image.mode.startswith(("I", "F")):
        what, advice = "a colour map was given, but the mask holds no colours", "leave the map out"
        raise LabelError(Issue("no_colours", str(path), what, advice, f"{image.mode} values"))
    rgb = np.asarray(image.convert("RGBA").convert("RGB"), dtype=np.int32)  # [H,W,3]
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def labels_of_colours(
    path: Path, pixels: NDArray[np.int32], colours: Mapping[tuple[int, int, int], int]
) -> NDArray[np.uint8]:
    """The label of each colour, ``[H,W]``; ``pixels`` holds the colours as numbers.

    Raises:
        LabelError: a colour that ``colours`` lacks.
    """
    packed = {red << 16 | green << 8 | blue: label for (red, green, blue), label in colours.items()}
    keys = np.array(sorted(packed), dtype=np.int32)
    labels: NDArray[np.uint8] = np.array([packed[key] for key in sorted(packed)], dtype=np.uint8)
    position = np.searchsorted(keys, pixels).clip(max=len(keys) - 1)
    unknown = keys[position] != pixels
    if unknown.any():
        raise LabelError(_unknown_colours_fault(path, _counted(pixels[unknown]), _counted(pixels), colours))
    return np.take(labels, position)


def _counted(pixels: NDArray[np.int32]) -> dict[tuple[int, int, int], int]:
    """Colour -> number of pixels, the most frequent first."""
    colours, counts = np.unique(pixels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {
        (colour >> 16, colour >> 8 & 255, colour & 255): count
        for colour, count in zip(colours[order].tolist(), counts[order].tolist(), strict=True)
    }


def _unknown_colours_fault(
    path: Path,
    wrong: Mapping[tuple[int, int, int], int],
    stored: Mapping[tuple[int, int, int], int],
    known: Mapping[tuple[int, int, int], int],
) -> Issue:
    if len(wrong) > MOST_COUNTED:
        return _blended_fault(path, f"{len(wrong):,} that the colour map lacks")
    detail = first_few([f"{list(colour)}: {count:,} pixels" for colour, count in wrong.items()])
    advice = f"it has {first_few([str(list(colour)) for colour in known])}; add them, or correct the mask"
    return Issue("unknown_colours", str(path), "colours that the colour map lacks", advice, detail, wrong, stored)


def labels_of_greys(path: Path, pixels: NDArray[np.int32], mode: str) -> NDArray[np.uint8]:
    """The labels of a mask that stores grey values as colours (as numbers, ``[H,W]``): (k, k, k) is label k.

    Pillow's ``mode`` must be one of RGB: what other colours are turned into is stored nowhere.

    Raises:
        LabelError: a pixel is not grey.
    """
    greys = pixels & 255
    if mode.startswith("RGB") and (greys * 0x010101 == pixels).all():
        return greys.astype(np.uint8)
    stored = _counted(pixels)
    if len(stored) > MOST_COUNTED:
        raise LabelError(_blended_fault(path, f"{len(stored):,}"))
    advice = "export it again as a PNG of grey values or with a palette, a label for each class"
    what, detail = "the mask holds colours, not labels", f"{len(stored)} colours"
    raise LabelError(Issue("colours", str(path), what, advice, detail, stored=stored))


def refuse_alpha(path: Path, image: Image.Image) -> None:
    """Refuse a mask whose alpha channel differs where its colour is the same: the colours alone are not the labels.

    Raises:
        LabelError: it does.
    """
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA"):
        return
    alpha = np.asarray(image.getchannel(len(image.getbands()) - 1), dtype=np.int64)
    if alpha.min() == alpha.max():
        return
    pixels = rgb_numbers(path, image)
    colours, pairs = np.unique(pixels), np.unique(pixels.astype(np.int64) << 8 | alpha)
    if len(pairs) == len(colours):
        return
    alphas = [str(pair & 255) for pair in pairs.tolist()]
    if len(colours) == 1:
        what = "the labels are in the alpha channel: the colour is the same everywhere"
        advice = "save that channel as the mask, in Pillow Image.open(mask).getchannel('A').save(mask)"
        raise LabelError(Issue("alpha", str(path), what, advice, f"alpha {first_few(alphas)}"))
    what = "the alpha channel differs where the colour is the same, so the colours alone are not the labels"
    advice = "export the mask without transparency, one colour or grey value a class"
    detail = f"{len(colours)} colours, {len(pairs)} with alpha"
    raise LabelError(Issue("alpha", str(path), what, advice, detail))


def _blended_fault(path: Path, colours: str) -> Issue:
    what = f"more than {MOST_COUNTED} colours, so the mask is a photograph or its edges were blended"
    advice = "labels need one colour a class: export it again without anti-aliasing, as PNG"
    return Issue("blended", str(path), what, advice, colours)
