"""Read image files; a file that cannot be read correctly raises an error that names it.

The readers that decode files come from plugins (see :func:`segkit.hookspecs.segkit_readers`).
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import RGB, Colour, channel_names
from segkit.errors import DataError, Issue, SegkitError, first_few

Pixels = NDArray[np.uint8 | np.float32]

MAX_PIXELS = 100_000_000
"""10,000 x 10,000, 300 MB as RGB in every worker. The limit is needed since a file of a few kB can claim any size."""

LABELS = range(-32768, 65536)
"""Stored labels that a mask may hold; values outside are instance ids, or the file is not a mask."""

ALPHA = "alpha"
"""The name that readers give to a last channel of transparency."""

ODD_METADATA = r"(PIL|rasterio)\b"
"""The modules whose warnings about odd metadata are hidden; wrong pixels raise an error anyway."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_ANY, _JOINED = "any", "joined"
_LARGEST_VALUE = 1e30  # a float of a larger magnitude marks missing data, such as GDAL's -3.4e38


class Header(NamedTuple):
    """Metadata of a picture, read without decoding its pixels.

    Attributes:
        size: height and width of the upright picture, pixels.
        channels: names of the channels, without transparency.
        orientation: EXIF orientation: 1 is upright; 5 to 8 mean that the stored picture is turned by 90 degrees.
        has_colours: whether the file stores red, green and blue.
        palette: RGB triple of each index, if the file stores indices.
        white_is_zero: whether small values are bright (a TIFF tag).
        no_data: the value that the file declares as the mark of pixels without data.
        georeference: whether the file states the position of its pixels on Earth.
        place: name of the coordinate system ("" if unknown), and the upper left, upper right and lower left corner.
    """

    size: tuple[int, int]
    channels: tuple[str, ...]
    orientation: int = 1
    has_colours: bool = False
    palette: list[Colour] | None = None
    white_is_zero: bool = False
    no_data: float | None = None
    georeference: bool = False
    place: tuple[str, tuple[tuple[float, ...], ...]] | None = None

    @property
    def is_grey(self) -> bool:
        """Whether the picture has one channel, even if it is read as RGB."""
        return len(self.channels) == 1 or (self.channels == RGB and not self.has_colours and self.palette is None)


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: ``[H,W,C]``: uint8 for 8-bit images, else float32.
        holes: bool ``[H,W]``, True where a pixel has no data; None if ``no_data`` is "stop".
    """

    pixels: Pixels
    holes: NDArray[np.bool_] | None


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Return the file suffixes that are recognised as pictures."""
    added = (f".{name}" for name in _readers() if name not in (_ANY, _JOINED))
    return tuple(dict.fromkeys((*_SUFFIXES, *added)))


def read_header(path: str | Path, most_pixels: int = MAX_PIXELS) -> Header:
    """Read the header of a picture without decoding its pixels.

    Raises:
        DataError: the file is missing, empty, of an unknown format or has more than ``most_pixels``.
    """
    with opened(Path(path), most_pixels) as raster:
        names = _names(raster)
        facts: dict[str, Any] = {
            name: getattr(raster, name, default) for name, default in Header._field_defaults.items()
        }
        facts["has_colours"] = getattr(raster, "has_colours", names[:3] == RGB)
        return Header((raster.shape[0], raster.shape[1]), names[:-1] if names[-1] == ALPHA else names, **facts)


def read_picture(
    path: str | Path,
    most_pixels: int = MAX_PIXELS,
    bands: Sequence[int] | None = None,
    no_data: float | str = "stop",
) -> Picture:
    """Read an upright image ``[H,W,C]`` with its stored values: uint8 for 8-bit images, else float32.

    Transparency that is the same at every pixel is dropped.

    Args:
        path: a file; or ``red.tif | nir.tif``, several files that hold the channels of one image.
        most_pixels: the largest image that is decoded; may exceed :data:`MAX_PIXELS` if the user named this image.
            Reading an 8-bit RGB image takes seven bytes per pixel, of which the result keeps three.
        bands: the channels to read, counted from 1; transparency comes after the colours. Default: all.
        no_data: value of ``data.no_data``. "stop" refuses pixels that are not numbers; else float32 pixels without data
            become NaN.

    Raises:
        DataError: the file is missing, empty, damaged, too large or of an unknown format; it has several pages,
            transparency that varies, or pixels that are not numbers; or it lacks one of the bands.
    """
    with opened(Path(path), most_pixels) as raster:
        pixels, declared = _pixels(raster, bands, str(path)), getattr(raster, "no_data", None)
    return with_holes(pixels, declared, no_data, str(path))


def with_holes(pixels: Pixels, declared: float | NDArray[np.bool_] | None, no_data: float | str, name: str) -> Picture:
    """Find pixels without data in an image, or in some of its rows; float32 ones become NaN.

    A pixel has no data if a value is not a number, or if all its channels hold one of the marks.

    Args:
        pixels: ``[H,W,C]``; changed in place.
        declared: the value that the file declares as the mark of pixels without data, or bool ``[H,W]``.
        no_data: value of ``data.no_data``.
        name: name of the image for errors.

    Raises:
        DataError: some pixels are not numbers, and ``no_data`` is "stop".
    """
    holes, wide = np.zeros(pixels.shape[:2], bool), pixels.dtype == np.float32
    for mark in (declared, no_data) if no_data != "stop" else ():
        if isinstance(mark, int | float):
            holes |= (pixels == mark).all(2)
        elif isinstance(mark, np.ndarray):
            holes |= mark
    wrong = ~(np.abs(pixels) < _LARGEST_VALUE) if wide else np.zeros(0)
    if no_data == "stop":
        if wrong.any():
            detail = f"{int(wrong.any(2).sum()):,} of {holes.size:,} are NaN, infinite or a mark for no data"
            advice = 'fill them with numbers, leave the picture out, or set data.no_data = "void"'
            ways = {"pixels that are not numbers are void": {"data.no_data": "void"}}
            raise DataError(Issue("no_numbers", name, "pixels that are not numbers", advice, detail, ways=ways))
        return Picture(pixels, None)
    if wide:
        pixels[wrong] = pixels[holes] = np.nan
        holes |= wrong.any(2)
    return Picture(pixels, holes)


def of_pillow(image: Any, name: str, bands: Sequence[int] | None = None) -> Pixels:
    """Return the upright pixels ``[H,W,C]`` of an image opened by Pillow, as :func:`read_picture` does.

    Args:
        image: a Pillow image. Of 16-bit RGB that Pillow has decoded already, only 8 bits are left.
        name: name of the image for errors.
        bands: see :func:`read_picture`.

    Raises:
        DataError: the image has transparency that varies, or is of a kind that Pillow misreads.
    """
    if image.format == "TIFF" and image.tile and image.filename:  # not decoded yet; Pillow might lose bits or bands
        with opened(Path(image.filename)) as raster:
            return _pixels(raster, bands, name)
    return _pixels(_readers()[_ANY][0].load()(image), bands, name)


def file_of(path: str | Path) -> tuple[Path, str]:
    """Split a path at its ``#``: ``stack.tif#3`` is the third picture in ``stack.tif``."""
    file, mark, part = str(path).rpartition("#")
    if not mark or os.path.exists(path) or _is_joined(file):  # noqa: PTH110
        return path if isinstance(path, Path) else Path(path), ""
    return Path(file), part


def _is_joined(path: str | Path) -> bool:
    """Whether a path names several files, which hold the channels of one image: ``red.tif | nir.tif``."""
    return " | " in str(path) and not os.path.exists(path)  # noqa: PTH110


@contextmanager
def opened(path: Path, most_pixels: int = MAX_PIXELS, whole: bool = False) -> Iterator[Any]:
    """Open a file with a plugin's reader: an array-like ``[H,W]`` or ``[H,W,C]``, decoded when it is sliced.

    Args:
        path: path of the file, or of a picture in it (see :func:`file_of`).
        most_pixels: the largest picture that is accepted.
        whole: yield the reader's result even if it holds several pictures.

    Raises:
        DataError: the file is missing, empty, of an unknown format or too large, or the ``with`` body raised an error.
    """

    raster: Any = None
    try:
        file, part = file_of(path)
        raster = _read(file)
        yield raster if whole else _picture(raster, part, most_pixels)
    except (SegkitError, MemoryError) as error:
        if isinstance(error, DataError) and error.issue and not error.issue.file:
            raise DataError(replace(error.issue, file=str(path))) from None
        raise
    except FileNotFoundError:
        raise DataError(Issue("missing", str(path), "no such file")) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        if isinstance(error, OSError) and error.strerror:
            raise DataError(Issue("unreadable", str(path), "cannot be read", detail=error.strerror)) from None
        what, advice = "damaged or cut short", "fetch or export it again"
        raise DataError(Issue("damaged", str(path), what, advice, str(error))) from error
    finally:
        with suppress(AttributeError):
            raster.close()


def _read(file: Path) -> Any:
    """Return the result of the first reader that accepts the file; :func:`opened` adds the file's name to errors."""
    name = _JOINED if _is_joined(file) else _format_of(file)
    for reader in (*_readers().get(name, ()), *_readers().get(_ANY, ())):
        if (raster := reader.load()(file)) is not None:
            return raster
    known = f"known suffixes are {', '.join(suffixes())}"
    raise DataError(Issue("disguised", "", "no installed reader can read it", known))


def _format_of(file: Path) -> str:
    """Return the suffix or format by which a file's reader is found."""
    state = file.stat()
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):  # opening a pipe would block forever
        raise DataError(Issue("unreadable", "", "not a regular file", "give the path of a regular file"))
    with file.open("rb") as stream:
        name = "tiff" if stream.read(4) in _TIFF_MAGIC else file.suffix[1:].lower()
    if not state.st_size:
        raise DataError(Issue("empty", "", "the file is empty", "fetch or export it again"))
    return name


def _picture(raster: Any, part: str, most_pixels: int) -> Any:
    """Return a file's only picture or its picture ``part``; :func:`opened` adds the file's name to errors."""
    parts = getattr(raster, "parts", {})
    if not hasattr(raster, "shape") and len(parts) == 1:
        part = part or next(iter(parts))
    if part and part not in parts:
        held = f"it holds {first_few([*parts]) or 'a single picture'}"
        raise DataError(Issue("missing", "", "no such picture in the file", detail=held))
    if not part and not hasattr(raster, "shape"):
        advice = f'FILE#{next(iter(parts), "?")} selects one of them; images = "FILE#{{id}}" reads all'
        raise DataError(Issue("several", "", "more than one picture in the file", advice, first_few([*parts])))
    raster = parts[part] if part else raster
    if len(raster.shape) not in (2, 3) or not min(raster.shape) or np.dtype(raster.dtype).kind not in "buif":
        advice = "a picture is an array of numbers [H,W] or [H,W,C]"
        raise DataError(Issue("shape", "", "not a picture", advice, f"{raster.dtype} {list(raster.shape)}"))
    if raster.shape[0] * raster.shape[1] > most_pixels:
        what, held = f"larger than the limit of {most_pixels:,} pixels", raster.shape[1::-1]
        raise DataError(Issue("too_large", "", what, "cut the image into tiles", "{} x {}".format(*held)))
    return raster


@functools.cache
def _readers() -> dict[str, list[Any]]:
    """Return the plugins' readers by suffix or format; third-party readers come before the bundled ones."""
    from segkit import registry  # only here does segkit.data look up components: every reading process needs them

    found: dict[str, list[Any]] = {}
    for component in sorted(registry.readers.components(), key=lambda each: each.distribution == "segkit"):
        found.setdefault(component.name, []).append(component)
    return found


def _names(raster: Any) -> tuple[str, ...]:
    """Return the channel names of a raster."""
    count = raster.shape[2] if len(raster.shape) == 3 else 1
    return tuple(getattr(raster, "channels", None) or channel_names(count))


def _select(pixels: Any, names: Sequence[str], bands: Sequence[int], name: str) -> Any:
    if max(bands) > len(names):
        what, there = "data.bands names a band that it lacks", ", ".join(names)
        raise DataError(Issue("bands", name, what, f"data.bands = {list(bands)}", f"it has {there}"))
    return pixels[..., [band - 1 for band in bands]]


def _pixels(raster: Any, bands: Sequence[int] | None, name: str) -> Pixels:
    """Return the requested bands ``[H,W,C]``; by default all except transparency that is the same everywhere."""
    stored, names = np.asarray(raster[...]), _names(raster)
    pixels = stored.reshape(*stored.shape[:2], -1)
    if bands is not None:
        pixels = _select(pixels, names, bands, name)
    elif names[-1] == ALPHA:
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if (least := alpha.min()) < (largest := alpha.max()):
            every = [*range(1, len(names) + 1)]
            advice = "it would be lost; if it carries no information, save the picture without it; if it does, keep it "
            advice += f"as a band: data.bands = {every}"
            what = "transparency or a fourth channel that varies"
            ways = {"it is a channel, such as infrared, heat or depth": {"data.bands": every}}
            raise DataError(Issue("fourth_channel", name, what, advice, f"{least} to {largest}", ways=ways))
    # writable, because pixels without data become NaN in place
    return np.require(pixels, None, ["W"]) if pixels.dtype == np.uint8 else np.require(pixels, np.float32, ["C", "W"])
