"""Images and masks as people really store them: read rightly, or refused by name."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.data.read import MAX_PIXELS, read_header, read_picture
from segkit.errors import DataError, LabelError
from segkit_folder.masks import check_checksums, read_mask


def read_image(path: str | Path, *how: Any, **more: Any) -> Any:
    return read_picture(path, *how, **more).pixels


LABELS = np.array([[0, 1, 15], [20, 255, 1]], dtype=np.uint8)
PALETTE = [part for index in range(256) for part in (index, 255 - index, index * 7 % 256)]


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: Pillow does not write every kind."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(values: np.ndarray) -> bytes:
    """A TIFF of one channel by hand: Pillow does not write every type."""
    kind, data = {"u": 1, "i": 2, "f": 3}[values.dtype.kind], values.tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def palette_mask(labels: np.ndarray = LABELS) -> Image.Image:
    mask = Image.fromarray(labels).convert("P")
    mask.putpalette(PALETTE)
    return mask


def kind(caught: pytest.ExceptionInfo[DataError]) -> str:
    """The kind of the fault that an error carries; its message is the fault's."""
    assert caught.value.issue is not None
    assert str(caught.value) == str(caught.value.issue)
    return caught.value.issue.kind


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


# ---- masks that are read ----


@pytest.mark.fault("F23")
@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "tif"])
def test_palette_indices_are_the_labels(tmp_path: Path, suffix: str) -> None:
    palette_mask().save(tmp_path / f"mask.{suffix}", optimize=False)  # Pillow renumbers the colours of a GIF otherwise
    read = read_mask(tmp_path / f"mask.{suffix}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, LABELS)


def test_transparent_palette_keeps_its_indices_and_warns_of_nothing(tmp_path: Path) -> None:
    palette_mask().save(tmp_path / "mask.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), LABELS)


@pytest.mark.fault("F23")
def test_grey_of_8_and_16_bits(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), LABELS)
    wide = LABELS.astype(np.uint16) + 1000
    for suffix in ("png", "tif"):
        Image.fromarray(wide).save(tmp_path / f"wide.{suffix}")
        read = read_mask(tmp_path / f"wide.{suffix}")
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, wide)


@pytest.mark.fault("F23")
@pytest.mark.parametrize(("bits", "row", "labels"), [(4, b"\x01\x2f", [0, 1, 2, 15]), (2, b"\x1b", [0, 1, 2, 3])])
def test_grey_of_few_bits_is_not_stretched(tmp_path: Path, bits: int, row: bytes, labels: list[int]) -> None:
    (tmp_path / "few.png").write_bytes(png(4, 1, bits, 0, b"\0" + row))
    assert read_mask(tmp_path / "few.png").tolist() == [labels]


def test_one_bit_is_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 10).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "bits.png").tolist() == [[0, 0, 1], [1, 1, 0]]
    Image.fromarray(LABELS > 10).save(tmp_path / "bits.pbm")  # stores 1 for black
    assert read_mask(tmp_path / "bits.pbm").tolist() == [[0, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float32])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type) -> None:
    lowest = 0 if dtype == np.uint32 else -1
    labels = np.array([[lowest, 1, 15], [20, 127, 1]], dtype)
    (tmp_path / "mask.tif").write_bytes(tiff_of(labels))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            LABELS.astype(np.float32) / 2,
            r"labels are whole numbers of -32768 to 65535 \(float32 from 0 to 127\.5\); save",
        ),
        (
            LABELS.astype(np.float16) / 510,
            r"as a PNG of 8 or 16 bits: labels .* divided by 255 are np\.rint\(mask \* 255\)",
        ),
        (np.float32([[0, np.nan]]), r"holds NaN or infinity; give the pixels without a value a separate label"),
        (np.int32([[0, 70000]]), r"\(int32 from 0 to 70000\); .*; numbers beyond are mostly ids of single objects"),
        (np.uint32([[0, 1 << 31]]), r"mostly ids of single objects"),
    ],
)
def test_other_numbers_are_no_labels(tmp_path: Path, values: np.ndarray, message: str) -> None:
    (tmp_path / "mask.tif").write_bytes(tiff_of(values))
    with pytest.raises(LabelError, match=rf"mask\.tif: .*{message}") as caught:
        read_mask(tmp_path / "mask.tif")
    assert kind(caught) == "not_integers"


def test_greys_of_cmyk_are_no_labels(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2), (0, 0, 0, 254)).save(tmp_path / "mask.tif")
    with pytest.raises(LabelError, match="the mask holds colours, not labels"):
        read_mask(tmp_path / "mask.tif")


def test_colours_of_16_bits_are_refused_as_small_labels_would_become_0(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 1, 1, 1, 2, 2, 2)
    (tmp_path / "mask.png").write_bytes(png(2, 1, 16, 2, row))
    with pytest.raises(
        LabelError, match=r"mask\.png: colours of 16 bits per channel, of which only 8 can be read \(RGB"
    ):
        read_mask(tmp_path / "mask.png")


# ---- alpha ----


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_labels_in_the_alpha_channel_are_said_to_be_there(tmp_path: Path, mode: str) -> None:
    mask = Image.new(mode, (3, 2), "white")
    mask.putalpha(Image.fromarray(LABELS))
    mask.save(tmp_path / "mask.png")
    for colours in (None, {(255, 255, 255): 0}):
        with pytest.raises(
            LabelError,
            match=r"mask\.png: the labels are in the alpha channel: the colour is the same everywhere "
            r"\(alpha 0, 1, 15, 20, 255\); save that channel as the mask, .*getchannel\('A'\)",
        ) as caught:
            read_mask(tmp_path / "mask.png", colours)
        assert kind(caught) == "alpha"


def test_alpha_that_says_more_than_the_colours_is_refused_and_other_is_not(tmp_path: Path) -> None:
    rgba = np.array([[[0, 0, 0, 0], [255, 0, 0, 255], [255, 0, 0, 255]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    colours = {(0, 0, 0): 0, (255, 0, 0): 1}
    assert read_mask(tmp_path / "mask.png", colours).tolist() == [[0, 1, 1]]  # what is black is transparent
    rgba[0, 2, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    with pytest.raises(
        LabelError, match=r"the alpha channel differs where the colour is the same.*\(2 colours, 3 with"
    ):
        read_mask(tmp_path / "mask.png", colours)


def test_lossless_webp_is_read_by_colours(tmp_path: Path) -> None:
    rgb = np.array([[[0, 0, 0], [128, 0, 0]]], dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "mask.webp", lossless=True)
    assert read_mask(tmp_path / "mask.webp", {(0, 0, 0): 0, (128, 0, 0): 1}).tolist() == [[0, 1]]


# ---- masks of colours ----


@pytest.mark.fault("F23")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_labels_whatever_stores_them(tmp_path: Path, mode: str) -> None:
    rgb = np.array([[[0, 0, 0], [128, 0, 0]], [[0, 128, 0], [128, 0, 0]]], dtype=np.uint8)
    Image.fromarray(rgb).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "mask.png")
    read = read_mask(tmp_path / "mask.png", {(0, 128, 0): 2, (128, 0, 0): 1, (0, 0, 0): 255})
    assert read.tolist() == [[255, 1], [2, 1]]


def test_an_unknown_colour_is_named_with_its_count(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 0, 0], [9, 8, 7], [9, 8, 7]]], dtype=np.uint8)).save(tmp_path / "mask.png")
    message = r"mask\.png: colours that the colour map lacks \(\[9, 8, 7\]: 2 pixels\); it has \[0, 0, 0\]; add them"
    with pytest.raises(LabelError, match=message) as caught:
        read_mask(tmp_path / "mask.png", {(0, 0, 0): 0})
    assert kind(caught) == "unknown_colours"
    fault = caught.value.issue
    assert fault is not None
    assert (fault.wrong, fault.stored) == ({(9, 8, 7): 2}, {(9, 8, 7): 2, (0, 0, 0): 1})


@pytest.mark.fault("F23")
def test_colours_without_a_map_are_counted(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 0, 0], [128, 0, 64], [128, 0, 64]]], dtype=np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(
        LabelError, match=r"mask\.png: the mask holds colours, not labels \(2 colours\); export"
    ) as caught:
        read_mask(tmp_path / "mask.png")
    assert kind(caught) == "colours"
    assert caught.value.issue is not None
    assert caught.value.issue.stored == {(128, 0, 64): 2, (0, 0, 0): 1}


@pytest.mark.fault("F23")
@pytest.mark.parametrize(("colours", "detail"), [(None, "1,200"), ({(0, 0, 0): 0}, "1,200 that the colour map lacks")])
def test_a_photograph_as_mask_is_called_one(
    tmp_path: Path, colours: dict[tuple[int, int, int], int] | None, detail: str
) -> None:
    noise().save(tmp_path / "mask.png")
    message = (
        rf"more than 64 colours, so the mask is a photograph or its edges were blended \({detail}\); .* without anti"
    )
    with pytest.raises(LabelError, match=message) as caught:
        read_mask(tmp_path / "mask.png", colours)
    assert kind(caught) == "blended"
    assert caught.value.issue is not None
    assert not caught.value.issue.stored


def test_a_colour_map_for_masks_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(
        LabelError, match=r"colour map was given, but the mask holds no colours \(uint16 values\)"
    ) as caught:
        read_mask(tmp_path / "mask.png", {(0, 0, 0): 0})
    assert kind(caught) == "no_colours"


# ---- masks that lossy compression changed ----


@pytest.mark.fault("F23")
@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_jpeg_masks_are_refused_whatever_their_name(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        Image.fromarray(LABELS).save(stream, "JPEG", quality=95)
    message = rf"{name}: the mask is a JPEG, and that changes labels.*; export the masks again.*PNG"
    with pytest.raises(LabelError, match=message) as caught:
        read_mask(tmp_path / name)
    assert kind(caught) == "lossy_mask"
    assert ("although its name ends in .png" in str(caught.value)) is (name == "mask.png")
    assert read_image(tmp_path / name).shape == (2, 3, 3)  # as an image it is welcome


def test_lossy_webp_and_jpeg_in_tiff_masks_are_refused(tmp_path: Path) -> None:
    noise().save(tmp_path / "mask.webp", quality=90)
    with pytest.raises(LabelError, match="lossy WebP"):
        read_mask(tmp_path / "mask.webp", {(0, 0, 0): 0})
    noise("RGBA").save(tmp_path / "alpha.webp", quality=90, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    with pytest.raises(LabelError, match="lossy WebP"):
        read_mask(tmp_path / "alpha.webp", {(0, 0, 0): 0})
    noise("L").save(tmp_path / "mask.tif", compression="jpeg")
    with pytest.raises(LabelError, match="TIFF with lossy compression") as caught:
        read_mask(tmp_path / "mask.tif")
    assert kind(caught) == "lossy_mask"


# ---- images ----


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "RGB"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    noise(mode).save(name)
    read = read_image(name)
    assert read.shape == (30, 40, 3)
    assert read.dtype == np.uint8


@pytest.mark.fault("F25")
def test_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red, green, blue = read_image(tmp_path / "red.jpg")[4, 4].tolist()
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.fault("F25")
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
def test_one_pixel_is_an_image(tmp_path: Path, size: tuple[int, int]) -> None:
    noise(size=size).save(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png").shape == (size[1], size[0], 3)
    assert read_header(tmp_path / "small.png").size == size[::-1]


@pytest.mark.fault("F25")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_orientation_is_applied_to_image_mask_and_size(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((4, 6), dtype=np.uint8)
    upright[0, 0], upright[0, 5] = 200, 100
    turned = {  # how a camera held in that way stores the picture
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, **options)
    image = read_image(path)
    assert image.shape[:2] == read_header(path).size == (4, 6)
    np.testing.assert_allclose(image[..., 0].astype(int), upright, atol=30)
    if suffix in ("png", "tif"):
        np.testing.assert_array_equal(read_mask(path), upright)


@pytest.mark.filterwarnings("ignore:::PIL.TiffImagePlugin", "ignore:::PIL.Image")
def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    noise().save(tmp_path / "image.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert read_image(tmp_path / "image.jpg").shape == (30, 40, 3)


# ---- files that are no images ----


@pytest.mark.fault("F25")
@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("keep", [0.5, 0.05])
@pytest.mark.parametrize("kind_of_file", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_named(tmp_path: Path, kind_of_file: str, keep: float, read: object) -> None:
    stream = io.BytesIO()
    noise("L" if read is read_mask else "RGB").save(stream, kind_of_file)
    data = stream.getvalue()
    (tmp_path / "cut.png").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"cut\.png: ") as caught:
        read(tmp_path / "cut.png")  # type: ignore[operator]
    lossy = (kind_of_file, read, keep) == ("JPEG", read_mask, 0.5)
    assert kind(caught) in ({"lossy_mask"} if lossy else {"damaged"} if keep == 0.5 else {"damaged", "disguised"})


def test_a_damaged_png_is_named(tmp_path: Path) -> None:
    stream = io.BytesIO()
    noise().save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.png: damaged or cut short \(.+\); fetch or export it again") as caught:
        read_image(tmp_path / "bad.png")
    assert kind(caught) == "damaged"


@pytest.mark.fault("F25", "F27")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"8BPS\0\x01" + bytes(40), "not an image of a known format"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "not an image of a known format"),  # FPX
        (b"just text", "not an image of a known format"),
    ],
)
def test_other_content_under_a_picture_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "disguised.png").write_bytes(content)
    for read in (read_image, read_mask, read_header):
        with pytest.raises(DataError, match=rf"disguised\.png: .*{message}.*allowed are JPEG, PNG, GIF") as caught:
            read(tmp_path / "disguised.png")
        assert kind(caught) == "disguised"


@pytest.mark.fault("F25")
def test_an_empty_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "nothing.png").touch()
    for read in (read_image, read_mask, read_header):
        with pytest.raises(DataError, match=r"nothing\.png: the file is empty; fetch or export it again") as caught:
            read(tmp_path / "nothing.png")
        assert kind(caught) == "empty"


@pytest.mark.fault("F27")
def test_eps_and_psd_that_pillow_could_open_are_refused(tmp_path: Path) -> None:
    noise().save(tmp_path / "picture.eps")
    (tmp_path / "picture.eps").rename(tmp_path / "picture.png")
    with pytest.raises(DataError, match="known format"):
        read_image(tmp_path / "picture.png")
    noise().save(tmp_path / "picture.pcx")
    with pytest.raises(DataError, match="known format"):
        read_image(tmp_path / "picture.pcx")


@pytest.mark.fault("F26")
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    rows = b"".join(bytes(1 + 20_000 // 8) for _ in range(20_000))  # one bit a pixel: 50 MB that pack into 48 kB
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000, 1, 0, rows))
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    for read in (read_image, read_mask, read_header):
        message = rf"bomb\.png: larger than the .*{MAX_PIXELS:,} pixels.* \(20000 x 20000\); cut"
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / "bomb.png")
        assert kind(caught) == "too_large"
    assert read_header(tmp_path / "bomb.png", 400_000_000).size == (20_000, 20_000)  # a person has named it


@pytest.mark.fault("F26")
@pytest.mark.filterwarnings("ignore:::PIL.Image")
def test_the_limit_is_ours(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(10_000, 10_001, 1, 0, b""))  # above Pillow's warning, below its error
    with pytest.raises(DataError, match=r"larger than the limit of 100,000,000 pixels \(10000 x 10001\); cut"):
        read_header(tmp_path / "large.png")
    (tmp_path / "allowed.png").write_bytes(png(10_000, 10_000, 1, 0, b""))
    assert read_header(tmp_path / "allowed.png").size == (10_000, 10_000)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file") as caught:
        read_image(tmp_path / "none.png")
    assert kind(caught) == "missing"
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png: cannot be read \(Is a directory\)") as caught:
        read_mask(tmp_path / "folder.png")
    assert kind(caught) == "unreadable"


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    palette_mask().save(tmp_path / "mask.png")
    monkeypatch.setattr(Path, "open", refuse)  # root may read whatever it likes
    for read in (read_image, read_mask, read_header):
        with pytest.raises(DataError, match=r"mask\.png: cannot be read \(Permission denied\)") as caught:
            read(tmp_path / "mask.png")
        assert kind(caught) == "unreadable"


def test_the_header_alone_tells_the_size(tmp_path: Path) -> None:
    stream = io.BytesIO()
    noise(size=(640, 480)).save(stream, "PNG")
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:1000])  # nothing but the header is whole
    assert read_header(tmp_path / "cut.png").size == (480, 640)


def test_a_readers_own_warnings_still_pass(tmp_path: Path) -> None:
    palette_mask().save(tmp_path / "mask.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_mask(tmp_path / "mask.png")
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in caught] == ["mine"]


def test_a_wrong_checksum_is_seen_by_the_check_of_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    palette_mask().save(path)
    check_checksums(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or cut short"):
        check_checksums(path)


def test_reading_in_threads_leaves_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    palette_mask().save(tmp_path / "mask.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for read in (read_image, read_mask, read_header):
            list(pool.map(read, [tmp_path / "mask.png"] * 200))
    assert list(warnings.filters) == before


# ---- files that were made to harm ----


def tiff(*tags: tuple[int, int, int]) -> bytes:
    """A TIFF of 4 x 4 grey pixels by hand: (tag, type, value) beside those that every image has."""
    own = {256: (4, 4), 257: (4, 4), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1)}
    own |= {273: (4, 200), 278: (4, 4), 279: (4, 16)} | {tag: (kind, value) for tag, kind, value in tags}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(own.items()))
    return (b"II*\0" + struct.pack("<IH", 8, len(own)) + entries + bytes(4)).ljust(200, b"\0") + b"\1" * 16


@pytest.mark.fault("F26")
@pytest.mark.parametrize("read", [read_image, read_mask, read_header])
def test_a_small_tiff_with_a_giant_tile_is_refused_before_it_is_decoded(tmp_path: Path, read: object) -> None:
    # 216 bytes that ask for 1.8 GB
    (tmp_path / "good.tif").write_bytes(tiff())
    read(tmp_path / "good.tif")  # type: ignore[operator]
    tile = ((259, 3, 5), (322, 4, 60_000), (323, 4, 30_000), (324, 4, 200), (325, 4, 16))
    (tmp_path / "bomb.tif").write_bytes(tiff(*tile))
    with pytest.raises(DataError, match=r"larger than the .* pixels.* \(60000 x 30000\)") as caught:
        read(tmp_path / "bomb.tif")  # type: ignore[operator]
    assert kind(caught) == "too_large"


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_file_with_a_hole_of_a_terabyte_is_not_read(tmp_path: Path, read: object) -> None:
    palette_mask().save(tmp_path / "hole.png")
    with (tmp_path / "hole.png").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"hole\.png: larger than the .* bytes that are read at most") as caught:
        read(tmp_path / "hole.png")  # type: ignore[operator]
    assert kind(caught) == "too_large"


@pytest.mark.fault("F26")
@pytest.mark.parametrize("compressed", [b"zTXtk\0\0", b"iTXtk\0\1\0\0\0", b"iCCPk\0\0"])
def test_a_bomb_in_the_texts_of_a_png_is_not_unpacked(tmp_path: Path, compressed: bytes) -> None:
    body = compressed + zlib.compress(bytes(300 << 20))
    extra = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(png(1, 1, 8, 0, b"\0\1", extra))
    with pytest.raises(DataError, match=r"bomb\.png: damaged .*too large"):
        read_mask(tmp_path / "bomb.png")


def test_a_png_whose_header_comes_late_has_no_guessed_depth(tmp_path: Path) -> None:
    whole = png(2, 2, 8, 0, b"\0\1\1\0\1\1")
    text = b"tEXtk\0" + bytes(7) + b"t"  # what stands where the depth would be
    first = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (tmp_path / "late.png").write_bytes(whole[:8] + first + whole[8:])
    assert read_mask(tmp_path / "late.png").tolist() == [[1, 1], [1, 1]]


@pytest.mark.fault("F25")
@pytest.mark.timeout(100)
@pytest.mark.parametrize("read", [read_image, read_mask, read_header])
def test_pipes_and_devices_are_not_opened(tmp_path: Path, read: object) -> None:
    # a pipe would be waited for, and /dev/zero has no end
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "circle.png").symlink_to("circle.png")
    for name, message in (
        ("pipe", "not a regular file"),
        ("device", "not a regular file"),
        ("circle", "cannot be read"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.png: {message}"):
            read(tmp_path / f"{name}.png")  # type: ignore[operator]


def test_a_file_name_is_no_order_to_the_terminal_and_no_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\nsegkit: all is well\u202e.png"
    path.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert r"a\x1b[2J\nsegkit: all is well\u202e.png: not an image" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("F50")
@pytest.mark.parametrize(("bits", "colours"), [(8, (0, 255)), (4, (0, 255)), (4, range(16)), (8, range(256))])
def test_a_bmp_that_pillow_misreads_is_refused(tmp_path: Path, bits: int, colours: Sequence[int]) -> None:
    labels = (np.arange(6 * 8).reshape(6, 8) % len(colours)).astype(np.uint8)
    rows = labels[::-1] if bits == 8 else labels[::-1, ::2] << 4 | labels[::-1, 1::2]
    table = b"".join(bytes([grey, grey, grey, 0]) for grey in colours)
    header = struct.pack("<IiiHHIIiiII", 40, 8, 6, 1, bits, 0, rows.size, 0, 0, len(colours), 0)
    start = 54 + len(table)
    path = tmp_path / "mask.bmp"
    content = b"BM" + struct.pack("<IHHI", start + rows.size, 0, 0, start) + header + table + rows.tobytes()
    path.write_bytes(content)
    if len(colours) == 256:
        assert np.array_equal(read_mask(path), labels)
        return
    for read in (read_mask, read_image):
        with pytest.raises(DataError, match=r"mask\.bmp: a BMP of greys in a palette of 4 or 8 bits .*save it as PNG"):
            read(path)
