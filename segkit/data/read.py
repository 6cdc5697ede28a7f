"""Reading images from files: the pixels as they were meant, or a refusal that names the file.

A file is read by the plugin that offers a reader for its suffix or format, if that plugin takes it (see
:func:`segkit.hookspecs.segkit_readers`), and by Pillow otherwise.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import stat
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, _imaging

from segkit.data.sample import RGB, Colour, channel_names
from segkit.errors import DataError, Issue, SegkitError

Pixels = NDArray[np.uint8 | np.float32]
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
"""Decoders that may run. Pillow has dozens more; some start other programs (EPS) or are seldom tested."""

MAX_PIXELS = 100_000_000
"""10,000 x 10,000: 300 MB as RGB in every worker; a file of a few kB can claim any size."""

MAX_BYTES = 1 << 30
"""10,000 x 10,000 pixels of RGBA with 16 bits a channel are 800 MB; a file with holes claims any size."""

LOWEST_LABEL, HIGHEST_LABEL = -32768, 65535
"""Labels of a mask; what is beyond is the ids of single objects, or no labels."""

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_GEOREFERENCE = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys: GeoTIFF 1.1
_ROWS_OF = 1 << 24  # pixels converted at a time: beside the decoded image and the result there is no third copy
_MOST = 1e30  # beyond, a float is a mark for "no data", as -3.4e38 is GDAL's
# Of two bytes a value Pillow keeps the high one. Told that they lie the other way round, it keeps the low one.
_LOW = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_TURN = {  # EXIF orientation -> what makes it upright; from 5 on the image lies on its side
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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
_lifting = threading.Lock()
ALPHA = "alpha"
"""What a reader calls a last channel that is transparency."""


class Header(NamedTuple):
    """What a file says about its picture before it is decoded.

    Attributes:
        size: height and width of the upright picture, pixels.
        channels: what an image of it has, without transparency.
        orientation: EXIF's number: 1 is upright, from 5 on the stored picture lies on its side.
        has_colours: whether it stores red, green and blue.
        palette: RGB by index, where it stores indices.
        white_is_zero: whether small values are bright, in a TIFF.
        no_data: the value that it declares to mark pixels without data.
        georeference: whether it says where on Earth its pixels lie.
    """

    size: tuple[int, int]
    channels: tuple[str, ...]
    orientation: int = 1
    has_colours: bool = False
    palette: list[Colour] | None = None
    white_is_zero: bool = False
    no_data: float | None = None
    georeference: bool = False


class Picture(NamedTuple):
    """An image as it was read.

    Attributes:
        pixels: ``[H,W,C]``, uint8, or float32 of more than 8 bits a channel.
        holes: bool ``[H,W]``, where there is no data; None where that was not asked for.
    """

    pixels: Pixels
    holes: NDArray[np.bool_] | None


@functools.cache
def suffixes() -> tuple[str, ...]:
    """How the names of files end that are taken for pictures: Pillow's, and those of installed readers."""
    own = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
    return (*own, *(f".{name}" for name in _readers() if f".{name}" not in own))


def read_header(path: str | Path, most_pixels: int = MAX_PIXELS) -> Header:
    """The header of a picture; its pixels are not decoded.

    Raises:
        DataError: missing, empty, of another format or of more than ``most_pixels``.
    """
    with opened(Path(path), most_pixels) as image:
        if not isinstance(image, Image.Image):
            names, size = _names(image), (image.shape[0], image.shape[1])
            facts: dict[str, Any] = {name: getattr(image, name, each) for name, each in Header._field_defaults.items()}
            facts |= {"has_colours": names[:3] == RGB}
            return Header(size, names[:-1] if names[-1] == ALPHA else names, **facts)
        height, width = image.height, image.width
        orientation, is_tiff = _orientation(image), image.format == "TIFF"
        if orientation > 4 and not is_tiff:  # of a TIFF, Pillow says the upright size
            height, width = width, height
        colours = image.getpalette("RGB") if image.mode in ("P", "PA") else None
        palette = None if colours is None else list(zip(colours[::3], colours[1::3], colours[2::3], strict=False))
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        grey = image.mode[0] in "IF" or _is_deep(image, ("LA",))
        return Header(
            (height, width),
            ("grey",) if grey else RGB,
            orientation,
            has_colours=image.mode in ("RGB", "RGBA"),
            palette=palette,
            white_is_zero=tags.get(262) == 0,
            no_data=number(tags.get(42113)),
            georeference=any(tag in tags for tag in _GEOREFERENCE),
        )


def read_picture(
    path: str | Path,
    most_pixels: int = MAX_PIXELS,
    bands: Sequence[int] | None = None,
    no_data: float | str = "stop",
) -> Picture:
    """An image ``[H,W,C]``, upright: uint8, or of more than 8 bits a channel float32, the values as stored.

    Of 8 bits, palette, CMYK, grey and the like are converted to RGB, and a TIFF whose zero is white is inverted, as it
    is meant to be seen. Transparency is dropped where it is the same at every pixel.

    Args:
        path: of the file.
        most_pixels: that are decoded; more than :data:`MAX_PIXELS` where a person has named this very image. Of 8 bits
            a channel, seven bytes a pixel are held while it is read, and three of them stay.
        bands: which of the file's, from 1; transparency is the one after the colours. Left out: all.
        no_data: as ``data.no_data``; with "stop" every pixel has to be a number. Of float32, pixels without data become
            NaN.

    Raises:
        DataError: missing, empty, damaged, of another format or too large; of several pages, or with a transparency
            that varies, of which a part would be lost; without one of the bands; or with pixels that are no numbers.
    """
    path = Path(path)
    with opened(path, most_pixels) as image:
        if isinstance(image, Image.Image):
            refuse_frames(path, image)
            declared = number(getattr(image, "tag_v2", {}).get(42113))
            pixels, names = _decoded(image, str(path), keep_alpha=bands is not None)
        else:
            stored, declared = np.asarray(image[...]), getattr(image, "no_data", None)
            pixels, names = stored.reshape(*stored.shape[:2], -1), _names(image)
    pixels = _chosen(pixels, names, bands, str(path))
    pixels = pixels if pixels.dtype == np.uint8 else np.ascontiguousarray(pixels, np.float32)
    if no_data == "stop":
        _refuse_holes(pixels, str(path))
        return Picture(pixels, None)
    return Picture(pixels, _holes(pixels, [declared, no_data]))


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


@functools.cache
def _readers() -> dict[str, list[Any]]:
    """The readers that plugins offer, by suffix or format; those of others before the bundled ones."""
    from segkit import registry  # the one place in data that asks for components: every process that reads does

    found: dict[str, list[Any]] = {}
    for component in sorted(registry.readers.components(), key=lambda each: each.distribution == "segkit"):
        found.setdefault(component.name, []).append(component)
    return found


def _by_plugin(path: Path, most_pixels: int) -> Any:
    """What a plugin's reader makes of a file, whose shape is ``[H,W]`` or ``[H,W,C]``; None where none takes it."""
    name = path.suffix[1:].lower()
    with path.open("rb") as file:
        name = "tiff" if file.read(4) in TIFF_MAGIC else name
    for component in _readers().get(name, ()):
        raster = component.load()(path)
        if raster is not None:
            if len(raster.shape) not in (2, 3) or not min(raster.shape) or np.dtype(raster.dtype).kind not in "buif":
                what, advice = "no picture", "a picture is [H,W] or [H,W,C], of numbers"
                raise DataError(Issue("shape", str(path), what, advice, f"{raster.dtype} {list(raster.shape)}"))
            if raster.shape[0] * raster.shape[1] > most_pixels:
                raise _too_large(path, most_pixels, f"{raster.shape[1]} x {raster.shape[0]}")
            return raster
    return None


def number(text: Any) -> float | None:
    """A number that a file holds as text, as GDAL's mark for no data; None where it is none."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _names(raster: Any) -> tuple[str, ...]:
    """The names of a raster's channels."""
    count = raster.shape[2] if len(raster.shape) == 3 else 1
    return tuple(getattr(raster, "channels", None) or channel_names(count))


def _too_large(path: Path, most_pixels: int, size: str) -> DataError:
    what = f"larger than the {most_pixels:,} pixels that are decoded at most"
    return DataError(Issue("too_large", str(path), what, "cut the image into tiles", size))


@contextmanager
def _explained(path: Path, most_pixels: int) -> Iterator[None]:
    """What goes wrong with a file becomes a DataError that names it."""

    def issue(kind: str, what: str, advice: str = "", detail: str = "") -> DataError:
        return DataError(Issue(kind, str(path), what, advice, detail))

    try:
        yield
    except (SegkitError, MemoryError):
        raise
    except FileNotFoundError:
        raise issue("missing", "no such file") from None
    except Image.DecompressionBombError as error:
        raise _too_large(path, most_pixels, "".join(re.findall(r"\((\d+ pixels)\)", str(error)))) from None
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(64)
        if not head:
            raise issue("empty", "the file is empty", "fetch or export it again") from None
        raise issue("disguised", _content_of(head), f"allowed are {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        if isinstance(error, OSError) and error.strerror:
            raise issue("unreadable", "cannot be read", detail=error.strerror) from None
        raise issue("damaged", "damaged or cut short", "fetch or export it again", str(error)) from error


@contextmanager
def opened(path: Path, most_pixels: int = MAX_PIXELS) -> Iterator[Any]:
    """A picture that is not decoded yet: what a plugin's reader made of it, or else an image as Pillow has it.

    Raises:
        DataError: missing, empty, of another format or too large; or what goes wrong in the body.
    """
    most_bytes = MAX_BYTES * max(most_pixels, MAX_PIXELS) // MAX_PIXELS
    with _explained(path, most_pixels):
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):  # opening a pipe would wait for ever
            raise DataError(Issue("unreadable", str(path), "no regular file", "give the file itself"))
        if (raster := _by_plugin(path, most_pixels)) is not None:
            yield raster
            return
        if state.st_size > most_bytes:
            what = f"larger than the {most_bytes:,} bytes that are read at most"
            raise DataError(Issue("too_large", str(path), what, "save it anew", f"{state.st_size:,} bytes"))
        with path.open("rb") as stream, quiet_pillow():
            head = stream.read(64)
            stream.seek(0)
            with _pillows_limit(most_pixels) if most_pixels > MAX_PIXELS else nullcontext():
                image: Any = Image.open(stream, formats=FORMATS)
            for width, height in (image.size, _tile(image)) if image.format == "TIFF" else (image.size,):
                if width * height > most_pixels:
                    raise _too_large(path, most_pixels, f"{width} x {height}")
            kind, _, bits = rawmode_of(image).partition(";")
            if kind in ("RGBa", "La"):  # colours that were multiplied by their alpha are left alone
                image._mode = kind.upper()
                decode_as(image, f"{kind.upper()};{bits}" if bits else kind.upper())
            if image.format == "BMP" and _is_misread(image, head):
                what = "a BMP of greys in a palette of 4 or 8 bits a pixel, which Pillow misreads"
                raise DataError(Issue("misread", str(path), what, "save it as PNG with the program that wrote it"))
            yield image


@contextmanager
def _pillows_limit(most_pixels: int) -> Iterator[None]:
    """Pillow refuses twice its ``MAX_IMAGE_PIXELS``, 179 million, of whoever opens a file; lifted for this one alone.

    What another thread opens meanwhile is still held to our own limit.
    """
    with _lifting:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _tile(image: Any) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which are decoded whole however small the image; (0, 0) without tiles."""
    width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (MAX_PIXELS, MAX_PIXELS)


def _is_misread(image: Any, head: bytes) -> bool:
    """Whether Pillow takes a BMP whose palette is black and white for one bit a pixel, or one of greys for a byte."""
    bits = head[28] if head[14] >= 40 else head[24]
    decoder, rawmode = image.tile[0][0], rawmode_of(image)
    return (rawmode == "1" and bits != 1) or (rawmode == "L" and bits < 8 and decoder == "raw")


def _content_of(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "not an image that is read here but HEIC, AVIF or a video"
    known = [content for start, content in _OTHER_CONTENT.items() if head.lstrip().startswith(start)]
    return f"not an image but {known[0]}" if known else "not an image of a known format"


def _orientation(image: Image.Image) -> int:
    """EXIF's. Looks at the header alone: PngImageFile.getexif would decode the pixels."""
    try:
        orientation = int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # damaged EXIF says nothing about the orientation
        return 1
    return orientation if orientation in _TURN else 1


def upright(image: Any) -> Any:
    """The decoded image, turned as its EXIF says; Pillow turns a TIFF itself."""
    turn = None if image.format == "TIFF" else _TURN.get(_orientation(image))
    image.load()
    return image if turn is None else image.transpose(turn)


def refuse_frames(path: Path, image: Any) -> None:
    """A page a class, or an animation: the first alone would be read.

    What a camera puts beside a JPEG (MPO) is none, and of a TIFF its reader knows which pages are smaller copies.
    """
    pages = 1 if image.format in ("MPO", "TIFF") else getattr(image, "n_frames", 1)
    if pages > 1:
        advice = "save each as a file of its own, and of a mask one with all the labels"
        raise DataError(Issue("several", str(path), "more than one picture in the file", advice, f"{pages} pages"))


def rawmode_of(image: Any) -> str:
    """How a file stores a pixel, in Pillow's words, as ``RGB;16B``; empty once it is decoded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def decode_as(image: Any, rawmode: str) -> None:
    """Have Pillow decode an image as if its pixels were stored otherwise."""
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]


def _is_deep(image: Any, kinds: Sequence[str] = ("LA", "RGB", "RGBA")) -> bool:
    """Whether an undecoded image has two bytes a value, of which Pillow would keep one."""
    kind, _, bits = rawmode_of(image).partition(";")
    return kind in kinds and bits in _LOW


def _silence() -> None:
    """Keep what is not Python's off the terminal: what is wrong with a file is raised, and told by its name."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints errors that nobody handles
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
    except (AttributeError, OSError):  # a Pillow without libtiff, or one that does not show its functions
        pass


_silence()


def of_pillow(image: Any, name: str, bands: Sequence[int] | None = None) -> Pixels:
    """The pixels ``[H,W,C]`` of an image that Pillow has opened, upright, as :func:`read_picture` gives them.

    Args:
        image: of RGB of 16 bits that was decoded before, Pillow has kept 8.
        name: what an error calls it.
        bands: as :func:`read_picture` has them.

    Raises:
        DataError: it has transparency that varies, values that are no numbers, or is of a kind that Pillow misreads.
    """
    if image.format == "TIFF" and getattr(image, "filename", ""):  # which Pillow may have opened in part
        return read_picture(image.filename, bands=bands).pixels
    pixels, names = _decoded(image, name, keep_alpha=bands is not None)
    pixels = _chosen(pixels, names, bands, name)
    _refuse_holes(pixels, name)
    return pixels


def _decoded(image: Any, name: str, keep_alpha: bool = False) -> tuple[Pixels, tuple[str, ...]]:
    """The pixels ``[H,W,C]`` of an image as Pillow opened it, and the names of their channels.

    Raises:
        DataError: it has transparency that varies, which is not kept.
    """
    kind = rawmode_of(image).partition(";")[0]
    low = _low_bytes(image) if _is_deep(image) else None
    image = upright(image)
    deep = low is not None or image.mode[0] in "IF"
    names = ("grey",) if (kind == "LA" and deep) or image.mode[0] in "IF" else RGB
    pixels: Pixels = np.empty((image.height, image.width, len(names) + keep_alpha), np.float32 if deep else np.uint8)
    alpha_range: list[int] = []  # the least and the largest value in each part
    rows = max(1, _ROWS_OF // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        if low is not None:
            colours, alpha = _colours_of_16_bits(np.asarray(image.crop(box)), np.asarray(low.crop(box)), kind == "LA")
        else:
            colours, alpha = _colours_and_alpha(image.crop(box), deep)
        if deep and "transparency" in image.info:  # the one value, or colour, that stands for it
            alpha = (colours != image.info["transparency"]).any(2)
        pixels[top : box[3], :, : len(names)] = colours
        alpha_range += [] if alpha is None else [int(alpha.min()), int(alpha.max())]
        if keep_alpha:
            pixels[top : box[3], :, -1] = (65535 if low is not None else 255) if alpha is None else alpha
    if alpha_range and min(alpha_range) < max(alpha_range) and not keep_alpha:
        values = f"{min(alpha_range)} to {max(alpha_range)}"
        raise DataError(_alpha_issue(name, values, image.mode == "RGBA", deep, image.format == "WEBP"))
    return pixels, (*names, ALPHA) if keep_alpha and alpha_range else names


def _chosen(pixels: NDArray[Any], names: Sequence[str], bands: Sequence[int] | None, name: str) -> NDArray[Any]:
    """The bands that were asked for, or all without transparency that is the same everywhere, ``[H,W,C]``."""
    if bands is not None:
        if max(bands) > len(names):
            what, there = "a band that is not there", ", ".join(names)
            raise DataError(Issue("bands", name, what, f"data.bands = {list(bands)}", f"it has {there}"))
        return pixels[..., [band - 1 for band in bands]]
    if names[-1] != ALPHA:
        return pixels[..., : len(names)]
    alpha = pixels[..., -1]
    if alpha.min() < alpha.max():
        raise DataError(_alpha_issue(name, f"{alpha.min()} to {alpha.max()}", len(names) == 4, True, False))
    return pixels[..., :-1]


def _holes(pixels: Pixels, marks: Sequence[Any]) -> NDArray[np.bool_]:
    """Where an image ``[H,W,C]`` has no data, ``[H,W]``; of float32 these values become NaN.

    Those are values that are no numbers, and pixels that hold one of the marks in all their channels.
    """
    holes = np.zeros(pixels.shape[:2], bool)
    for mark in marks:
        if isinstance(mark, int | float):
            holes |= (pixels == mark).all(2)
    if pixels.dtype == np.float32:
        pixels[holes] = np.nan
        pixels[~(np.abs(pixels) < _MOST)] = np.nan
        holes |= np.isnan(pixels).any(2)
    return holes


def _refuse_holes(pixels: Pixels, name: str) -> None:
    if pixels.dtype == np.float32 and (wrong := int((~(np.abs(pixels) < _MOST)).any(2).sum())):
        detail = f"{wrong:,} of {pixels[..., 0].size:,} are NaN, infinite or a mark for no data"
        raise DataError(holes_issue(name, detail))


def holes_issue(name: str, detail: str = "") -> Issue:
    """Values that are no numbers, where nobody said that they may be."""
    advice = 'fill them with numbers, leave the picture out, or set data.no_data = "void"'
    return Issue("no_numbers", name, "pixels that are no numbers", advice, detail)


def _colours_and_alpha(part: Any, deep: bool) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colours ``[h,w,3]`` or grey ``[h,w,1]`` of a part of an image, and its alpha ``[h,w]`` where there is one."""
    if deep:
        return np.asarray(part)[..., None], None
    if part.has_transparency_data:
        values = np.asarray(part if part.mode == "RGBA" else part.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.asarray(part if part.mode == "RGB" else part.convert("RGB")), None


def _low_bytes(image: Any) -> Any:
    """The same file again, upright, decoded to the low bytes of 16 bits a channel."""
    low: Any = Image.open(image.fp, formats=[image.format])
    kind, _, bits = rawmode_of(low).partition(";")
    decode_as(low, "RGBA" if kind == "LA" else f"{kind};{_LOW[bits]}")  # of LA both bytes of each, as four channels
    return upright(low)


def _colours_of_16_bits(
    high: NDArray[np.uint8], low: NDArray[np.uint8], grey: bool
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
    """Colours ``[h,w,3]`` or grey ``[h,w,1]``, and alpha ``[h,w]``, of high bytes and what :func:`_low_bytes` gives."""
    if grey:
        high, low = low[..., ::2], low[..., 1::2]
    values = high * np.uint16(256) + low
    has_alpha = values.shape[2] in (2, 4)
    return values[..., : values.shape[2] - has_alpha], values[..., -1] if has_alpha else None


def _alpha_issue(name: str, values: str, of_colours: bool, deep: bool, webp: bool) -> Issue:
    what = "a fourth channel that varies" if of_colours else "transparency that varies"
    advice = "it would be lost; if it means nothing, save the picture without it"
    if not deep:
        advice += ', in Python: Image.open(FILE).convert("RGBA").convert("RGB").save(FILE'
        advice += ", lossless=True)" if webp else ")"
    band = 4 if of_colours else 2
    advice += f"; if it says something, keep it as a band: data.bands = {list(range(1, band + 1))}"
    return Issue("fourth_channel", name, what, advice, values)
