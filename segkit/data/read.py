"""Reading images from files: the pixels as they were meant, or a refusal that names the file.

What decodes a file is a reader of a plugin (see :func:`segkit.hookspecs.segkit_readers`).
"""

from __future__ import annotations

import functools
import os
import re
import stat
import threading
import time
import warnings
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
"""10,000 x 10,000: 300 MB as RGB in every worker; a file of a few kB can claim any size."""

LABELS = range(-32768, 65536)
"""Labels of a mask; what is beyond is the ids of single objects, or no labels."""

ALPHA = "alpha"
"""What a reader calls a last channel that is transparency."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF, for files beyond 4 GB
_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
_ANY = "any"
_SETTLED = 3_000_000_000  # nanoseconds
_MOST = 1e30  # beyond, a float is a mark for "no data", as -3.4e38 is GDAL's


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
        place: the name of a coordinate system, or "", and in it the upper left, upper right and lower left corner.
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
        """Whether it has one channel, which may be read as RGB."""
        return len(self.channels) == 1 or (self.channels == RGB and not self.has_colours and self.palette is None)


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
    """How the names of files end that are taken for pictures."""
    return (*_SUFFIXES, *(f".{name}" for name in _readers() if name != _ANY and f".{name}" not in _SUFFIXES))


def read_header(path: str | Path, most_pixels: int = MAX_PIXELS) -> Header:
    """The header of a picture; its pixels are not decoded, and it is read once until the file changes.

    Raises:
        DataError: missing, empty, of another format or of more than ``most_pixels``.
    """
    if len(places := places_of(path)) > 1:
        first, *others = _headers(places, most_pixels)
        names = sum((each.channels for each in others), first.channels)
        return first._replace(channels=names, has_colours=names[:3] == RGB)
    return _header(Path(path), most_pixels, version_of(file_of(path)[0]))


@functools.lru_cache(256)  # a scan asks several times for those of one sample
def _header(path: Path, most_pixels: int, version: object) -> Header:
    with opened(path, most_pixels) as raster:
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
    """An image ``[H,W,C]``, upright: uint8, or of more than 8 bits a channel float32, the values as stored.

    Transparency is dropped where it is the same at every pixel.

    Args:
        path: of the file, or of several (see :func:`places_of`), whose channels follow one another; of a grey file one.
        most_pixels: that are decoded; more than :data:`MAX_PIXELS` where a person has named this very image. Of 8 bits
            a channel, seven bytes a pixel are held while it is read, and three of them stay.
        bands: which of the file's, from 1; transparency is the one after the colours. Left out: all.
        no_data: as ``data.no_data``; with "stop" every pixel has to be a number. Of float32, pixels without data become
            NaN.

    Raises:
        DataError: missing, empty, damaged, of another format or too large; of several pages, or with a transparency
            that varies, of which a part would be lost; without one of the bands; or with pixels that are no numbers.
    """
    if len(places := places_of(path)) > 1:
        own = [each.channels for each in _headers(places, most_pixels)]
        # what a file declares is of its own channels, and a mark that a person gives of all
        pictures = [read_picture(each, most_pixels, None, "stop" if no_data == "stop" else "void") for each in places]
        pixels = np.concatenate([each.pixels[..., : len(n)] for each, n in zip(pictures, own, strict=True)], 2)
        pixels = np.ascontiguousarray(pixels if bands is None else _chosen(pixels, sum(own, ()), bands, str(path)))
        if no_data == "stop":
            return Picture(pixels, None)
        marked = with_holes(pixels, None, no_data, str(path))
        return marked._replace(holes=np.logical_or.reduce([each.holes for each in (marked, *pictures)]))
    with opened(Path(path), most_pixels) as raster:
        pixels, declared = _pixels(raster, bands, str(path)), getattr(raster, "no_data", None)
    return with_holes(pixels, declared, no_data, str(path))


def with_holes(pixels: Pixels, declared: float | None, no_data: float | str, name: str) -> Picture:
    """Pixels ``[H,W,C]``, or some rows of an image, and where they have no data; of float32 these become NaN.

    No data have values that are no numbers, and pixels that hold one of the marks in all their channels.

    Args:
        pixels: as they were read; they are changed in place.
        declared: the value that their file declares to mark pixels without data.
        no_data: as ``data.no_data``.
        name: what an error calls them.

    Raises:
        DataError: pixels that are no numbers, where ``no_data`` is "stop".
    """
    holes, wide = np.zeros(pixels.shape[:2], bool), pixels.dtype == np.float32
    for mark in (declared, no_data) if no_data != "stop" else ():
        if isinstance(mark, int | float):
            holes |= (pixels == mark).all(2)
    wrong = ~(np.abs(pixels) < _MOST) if wide else np.zeros(0)
    if no_data == "stop":
        if wrong.any():
            detail = f"{int(wrong.any(2).sum()):,} of {holes.size:,} are NaN, infinite or a mark for no data"
            advice = 'fill them with numbers, leave the picture out, or set data.no_data = "void"'
            raise DataError(Issue("no_numbers", name, "pixels that are no numbers", advice, detail))
        return Picture(pixels, None)
    if wide:
        pixels[wrong] = pixels[holes] = np.nan
        holes |= wrong.any(2)
    return Picture(pixels, holes)


def of_pillow(image: Any, name: str, bands: Sequence[int] | None = None) -> Pixels:
    """The pixels ``[H,W,C]`` of an image that Pillow has opened, upright, as :func:`read_picture` gives them.

    Args:
        image: of RGB of 16 bits that was decoded before, Pillow has kept 8.
        name: what an error calls it.
        bands: as :func:`read_picture` has them.

    Raises:
        DataError: it has transparency that varies, or is of a kind that Pillow misreads.
    """
    if image.format == "TIFF" and image.tile and image.filename:  # not decoded yet; Pillow may decode a part of it
        with opened(Path(image.filename)) as raster:
            return _pixels(raster, bands, name)
    return _pixels(_readers()[_ANY][0].load()(image), bands, name)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow's warnings about odd metadata, and rasterio's, are not shown; pixels that are wrong raise an error.

    Filters of warnings belong to the process: if each of several threads set and restored them, one would restore what
    another had set. So this does something in the main thread alone, and who starts threads that read enters it first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(PIL|rasterio)\b")
        yield


def version_of(path: str | Path) -> object:
    """What stays equal until a file or a folder changes; nothing is equal to that of one which has just changed.

    File systems tell the time of a change to two seconds (FAT) or less.
    """
    try:
        state = os.stat(path)  # noqa: PTH116  (a third of pathlib's time)
    except OSError:  # who reads it tells
        return object()
    times = state.st_mtime_ns, state.st_ctime_ns
    return (*times, state.st_size) if time.time_ns() - max(times) > _SETTLED else object()


def file_of(path: str | Path) -> tuple[Path, str]:
    """The file of a path, and what follows a ``#`` in it: ``stack.tif#3`` is the third picture in a file of several."""
    file, mark, part = str(path).rpartition("#")
    if not mark or os.path.exists(path):  # noqa: PTH110
        return path if isinstance(path, Path) else Path(path), ""
    return Path(file), part


def places_of(path: str | Path) -> list[Path]:
    """The files of one picture whose channels lie in several, ``red.tif | nir.tif``; of any other its path alone."""
    several = " | " in str(path) and not os.path.exists(path)  # noqa: PTH110
    return [*map(Path, str(path).split(" | "))] if several else [path if isinstance(path, Path) else Path(path)]


def check_place(one: Path, other: Path, most_pixels: int = MAX_PIXELS) -> None:
    """Refuse two pictures whose files say that they lie at other places, by a tenth of a pixel or more.

    Raises:
        DataError: they do, or one cannot be read.
    """
    header, place = read_header(one, most_pixels), read_header(other, most_pixels).place
    if header.place is None or place is None or len(header.place[1][0]) != len(place[1][0]):
        return
    systems, (own, theirs) = (header.place[0], place[0]), (np.array(each[1]) for each in (header.place, place))
    sides = np.linalg.norm(own[1:] - own[0], axis=1) / header.size[::-1]
    is_apart = np.linalg.norm(own - theirs, axis=1).max() >= sides.min() / 10
    if is_apart or (all(systems) and systems[0] != systems[1]):
        said = [f"{each[0]} {[*each[1]]}".strip() for each in (place, header.place)]
        what = "says that it lies elsewhere than its image, or that its pixels have another size or order"
        advice = "resample it to the grid of the image; or if its pixels fit, give it the position that the image has"
        raise DataError(Issue("place", str(other), what, advice, f"corners {said[0]}; {one}: {said[1]}"))


def _headers(places: Sequence[Path], most_pixels: int) -> list[Header]:
    """Those of the files of one picture; the channel of a grey one is called as its path differs from the others."""
    headers = [read_header(each, most_pixels) for each in places]
    for header, place in zip(headers, places, strict=True):
        if header.size != headers[0].size:
            what, advice = "files of one image that differ in size", "save them at one size"
            raise DataError(Issue("size", str(place), what, advice, f"the other is {places[0]}"))
        check_place(places[0], place, most_pixels)
    words = [re.findall(r"[^\W_]+", each.as_posix().casefold()) for each in places]
    common = set.intersection(*map(set, words))
    own = [" ".join(dict.fromkeys(word for word in each if word not in common)) for each in words]
    return [
        header._replace(channels=(name or "grey",)) if header.is_grey else header
        for header, name in zip(headers, own, strict=True)
    ]


@contextmanager
def opened(path: Path, most_pixels: int = MAX_PIXELS, whole: bool = False) -> Iterator[Any]:
    """What a plugin's reader makes of a file: ``[H,W]`` or ``[H,W,C]``, decoded where it is sliced.

    Args:
        path: of the file, or of a picture in it (see :func:`file_of`).
        most_pixels: of the picture.
        whole: give what the reader has returned, though it be several pictures.

    Raises:
        DataError: missing, empty, of another format or too large; or what goes wrong in the body.
    """

    raster: Any = None
    try:
        file, part = file_of(path)
        with quiet_pillow():
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
    """What the first reader that takes a file makes of it; errors leave out which file it is."""
    state = file.stat()
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):  # opening a pipe would wait for ever
        raise DataError(Issue("unreadable", "", "no regular file", "give the file itself"))
    with file.open("rb") as stream:
        name = "tiff" if stream.read(4) in _TIFF_MAGIC else file.suffix[1:].lower()
    if not state.st_size:
        raise DataError(Issue("empty", "", "the file is empty", "fetch or export it again"))
    for reader in (*_readers().get(name, ()), *_readers().get(_ANY, ())):
        if (raster := reader.load()(file)) is not None:
            return raster
    known = f"known are {', '.join(suffixes())}"
    raise DataError(Issue("disguised", "", "no reader of an installed plugin takes it", known))


def _picture(raster: Any, part: str, most_pixels: int) -> Any:
    """The one picture of a file, or the ``part`` of several; errors leave out which file it is."""
    parts = getattr(raster, "parts", {})
    if part and part not in parts:
        held = f"it holds {first_few([*parts]) or 'one'}"
        raise DataError(Issue("missing", "", "no such picture in the file", detail=held))
    if not part and not hasattr(raster, "shape"):
        advice = f'FILE#{next(iter(parts), "?")} is one of them; images = "FILE#{{id}}" reads all'
        raise DataError(Issue("several", "", "more than one picture in the file", advice, first_few([*parts])))
    raster = parts[part] if part else raster
    if len(raster.shape) not in (2, 3) or not min(raster.shape) or np.dtype(raster.dtype).kind not in "buif":
        advice = "a picture is [H,W] or [H,W,C], of numbers"
        raise DataError(Issue("shape", "", "no picture", advice, f"{raster.dtype} {list(raster.shape)}"))
    if raster.shape[0] * raster.shape[1] > most_pixels:
        what, held = f"larger than the {most_pixels:,} pixels that are decoded at most", raster.shape[1::-1]
        raise DataError(Issue("too_large", "", what, "cut the image into tiles", "{} x {}".format(*held)))
    return raster


@functools.cache
def _readers() -> dict[str, list[Any]]:
    """The readers that plugins offer, by suffix or format; those of others before the bundled ones."""
    from segkit import registry  # the one place in data that asks for components: every process that reads does

    found: dict[str, list[Any]] = {}
    for component in sorted(registry.readers.components(), key=lambda each: each.distribution == "segkit"):
        found.setdefault(component.name, []).append(component)
    return found


def _names(raster: Any) -> tuple[str, ...]:
    """The names of a raster's channels."""
    count = raster.shape[2] if len(raster.shape) == 3 else 1
    return tuple(getattr(raster, "channels", None) or channel_names(count))


def _chosen(pixels: Any, names: Sequence[str], bands: Sequence[int], name: str) -> Any:
    if max(bands) > len(names):
        what, there = "a band that is not there", ", ".join(names)
        raise DataError(Issue("bands", name, what, f"data.bands = {list(bands)}", f"it has {there}"))
    return pixels[..., [band - 1 for band in bands]]


def _pixels(raster: Any, bands: Sequence[int] | None, name: str) -> Pixels:
    """The bands that were asked for, or all without transparency that is the same everywhere, ``[H,W,C]``."""
    stored, names = np.asarray(raster[...]), _names(raster)
    pixels = stored.reshape(*stored.shape[:2], -1)
    if bands is not None:
        pixels = _chosen(pixels, names, bands, name)
    elif names[-1] == ALPHA:
        alpha, pixels = pixels[..., -1], pixels[..., :-1]
        if (least := alpha.min()) < (largest := alpha.max()):
            advice = "it would be lost; if it means nothing, save the picture without it"
            if pixels.dtype == np.uint8:  # lossless is WebP's
                advice += ', in Python: Image.open(FILE).convert("RGBA").convert("RGB").save(FILE, lossless=True)'
            advice += f"; if it says something, keep it as a band: data.bands = {[*range(1, len(names) + 1)]}"
            what = "transparency or a fourth channel that varies"
            raise DataError(Issue("fourth_channel", name, what, advice, f"{least} to {largest}"))
    return pixels if pixels.dtype == np.uint8 else np.ascontiguousarray(pixels, np.float32)
