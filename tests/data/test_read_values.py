"""Images of more than 8 bits, and files of which a part would be lost: used as stored, or refused by name."""

from __future__ import annotations

import json
import logging
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.data.read import of_pillow, read_header, read_picture
from segkit.data.sample import RGB
from segkit.errors import DataError
from segkit_folder.masks import read_mask


def read_image(path: str | Path, *how: Any, **more: Any) -> Any:
    return read_picture(path, *how, **more).pixels


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: Pillow does not write every kind."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def kind(caught: pytest.ExceptionInfo[DataError]) -> str:
    """The kind of the fault that an error carries; its message is the fault's."""
    assert caught.value.issue is not None
    assert str(caught.value) == str(caught.value.issue)
    return caught.value.issue.kind


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def tiff(
    pixels: np.ndarray,
    photometric: int = 1,
    extra: tuple[int, ...] | None = None,
    *,
    order: str = "<",
    changed: dict[int, int] | None = None,
    deflated: bool = False,
) -> bytes:
    """A TIFF of ``[H,W,C]`` by hand, in one strip; left out, ``extra`` is unspecified for all but the colours."""
    height, width, bands = pixels.shape
    extra = (0,) * (bands - {2: 3, 5: 4}.get(photometric, 1)) if extra is None else extra
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflated else data
    bits, kind_of_value = 8 * pixels.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (bits,) * bands,
        259: (8 if deflated else 1,),
    }
    tags |= {262: (photometric,), 273: (8,), 277: (bands,), 278: (height,), 279: (len(data),)}
    tags |= ({338: extra} if extra else {}) | {339: (kind_of_value,) * bands}
    tags |= {tag: (value,) for tag, value in (changed or {}).items()}
    start = 8 + len(data)
    further, entries = start + 2 + 12 * len(tags) + 4, b""
    beyond = b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, beyond = struct.pack(f"{order}I", further + len(beyond)), beyond + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond


NUMBERS = np.random.default_rng(1).integers(0, 100, (20, 30))
DEEP = np.random.default_rng(2).integers(0, 65536, (20, 30, 4)).astype(np.uint16)


@pytest.mark.fault("F50")
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", "i4", "f4"])
def test_the_values_of_a_grey_image_are_those_that_are_stored(tmp_path: Path, dtype: str, order: str) -> None:
    stored = (NUMBERS if dtype == "u2" else NUMBERS - 50).astype(dtype)
    (tmp_path / "grey.tif").write_bytes(tiff(stored[..., None], order=order))
    read = read_image(tmp_path / "grey.tif")
    assert (read.dtype, read.shape) == (np.float32, (20, 30, 1))
    np.testing.assert_array_equal(read, stored[..., None].astype(np.float32))
    assert read_header(tmp_path / "grey.tif").channels == ("grey",)


@pytest.mark.fault("F50")
def test_a_grey_png_of_16_bits_keeps_its_12_bits(tmp_path: Path) -> None:
    stored = (NUMBERS + 1024).astype(np.uint16)  # `>> 8` makes 4 of all of them
    Image.fromarray(stored).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[..., 0], stored)
    Image.fromarray(NUMBERS.astype(np.uint16)).save(tmp_path / "dark.png")  # below 256: black to 8 bits
    np.testing.assert_array_equal(read_image(tmp_path / "dark.png")[..., 0], NUMBERS)


def test_unsigned_values_of_32_bits_do_not_become_negative(tmp_path: Path) -> None:
    stored = (NUMBERS * 2**25).astype(np.uint32)
    (tmp_path / "grey.tif").write_bytes(tiff(stored[..., None]))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.tif")[..., 0], stored)


@pytest.mark.fault("F50")
@pytest.mark.parametrize("kind_of_file", ["png", "<tif", ">tif", "<deflated.tif", ">deflated.tif"])
def test_rgb_of_16_bits_keeps_them(tmp_path: Path, kind_of_file: str) -> None:
    path = tmp_path / f"deep.{kind_of_file[-3:]}"
    rows = DEEP[..., :3].astype(">u2").reshape(20, -1).view(np.uint8)
    as_png = png(30, 20, 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))
    as_tiff = tiff(DEEP[..., :3], 2, order="<>"[kind_of_file[0] == ">"], deflated="deflated" in kind_of_file)
    path.write_bytes(as_png if kind_of_file == "png" else as_tiff)
    read = read_image(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, DEEP[..., :3])
    with Image.open(path) as opened:  # an image in memory, not decoded yet
        np.testing.assert_array_equal(of_pillow(opened, "it"), DEEP[..., :3])


def test_a_tiff_that_was_changed_in_memory_is_not_read_anew(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "a.tif")
    image = Image.open(tmp_path / "a.tif")
    image.thumbnail((30, 30))
    image.putpixel((2, 1), (5, 6, 7))
    found = of_pillow(image, "it")
    assert found.shape == (20, 30, 3)
    assert found[1, 2].tolist() == [5, 6, 7]


def test_a_mark_is_no_data_where_all_channels_hold_it_whatever_files_they_lie_in(tmp_path: Path) -> None:
    stored = np.full((2, 4, 5), 100, np.uint16)
    stored[0, 1, 2] = 0  # dark in one channel
    stored[:, 3, 4] = 0
    for name, channel in zip("ab", stored, strict=True):
        np.save(tmp_path / f"{name}.npy", channel)
    np.save(tmp_path / "both.npy", np.moveaxis(stored, 0, -1))
    for path in (f"{tmp_path / 'a.npy'} | {tmp_path / 'b.npy'}", tmp_path / "both.npy"):
        pixels, holes = read_picture(path, no_data=0.0)
        assert np.argwhere(holes).tolist() == [[3, 4]]
        assert np.argwhere(np.isnan(pixels).any(2)).tolist() == [[3, 4]]


@pytest.mark.fault("F50")
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("varies", [False, True])
def test_alpha_of_16_bits_is_dropped_where_it_is_one_value(tmp_path: Path, channels: int, varies: bool) -> None:
    stored = DEEP[..., :channels].copy()
    stored[..., -1] = 65535
    stored[0, 0, -1] -= varies  # one of 600 pixels, by a part of the low byte
    rows = stored.astype(">u2").reshape(20, -1).view(np.uint8)
    (tmp_path / "deep.png").write_bytes(png(30, 20, 16, 2 + channels, b"".join(b"\0" + row.tobytes() for row in rows)))
    if varies:
        with pytest.raises(DataError, match=r"deep\.png: .* that varies \(65534 to 65535\).*without it; if"):
            read_image(tmp_path / "deep.png")
        return
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), stored[..., :-1])
    assert read_header(tmp_path / "deep.png").channels == (("grey",) if channels == 2 else RGB)
    every = [*range(1, channels + 1)]
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", bands=every), stored)


def test_large_images_are_converted_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit_readers.raster._ROWS_OF", 90)  # three rows
    (tmp_path / "deep.tif").write_bytes(tiff(DEEP[..., :3], 2))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), DEEP[..., :3])
    rgba = (DEEP >> 8).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "vary.png")
    with pytest.raises(DataError, match="a fourth channel that varies"):
        read_image(tmp_path / "vary.png")
    rgba[..., 3] = 7
    Image.fromarray(rgba).save(tmp_path / "constant.png")
    np.testing.assert_array_equal(read_image(tmp_path / "constant.png"), rgba[..., :3])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3.4e38])
def test_pixels_that_are_no_numbers_are_refused_by_name(tmp_path: Path, value: float) -> None:
    stored = NUMBERS.astype(np.float32)
    stored[3, 4] = value
    Image.fromarray(stored).save(tmp_path / "holes.tif")
    message = r"holes\.tif: pixels that are not numbers \(1 of 600 are NaN, infinite or a mark for no data\); fill them"
    with pytest.raises(DataError, match=message) as caught:
        read_image(tmp_path / "holes.tif")
    assert kind(caught) == "no_numbers"


def test_white_is_zero_is_read_as_it_is_seen_in_an_image_and_as_stored_in_a_mask(tmp_path: Path) -> None:
    for dtype, most in (("u1", 255), ("u2", 65535)):
        stored = NUMBERS.astype(dtype)
        (tmp_path / "white.tif").write_bytes(tiff(stored[..., None], photometric=0))
        np.testing.assert_array_equal(read_image(tmp_path / "white.tif")[..., 0], most - stored)
        np.testing.assert_array_equal(read_mask(tmp_path / "white.tif"), stored)


@pytest.mark.parametrize(("bits", "labels"), [(1, [0, 1, 1, 0, 0, 0, 0, 1]), (2, [1, 2, 0, 1]), (4, [6, 1])])
def test_labels_of_few_bits_whose_zero_is_white_are_not_inverted(tmp_path: Path, bits: int, labels: list[int]) -> None:
    row = np.array([[[0b01100001]]], np.uint8)  # what tifffile writes of a mask of bools, and its kin
    data = tiff(row, photometric=0, changed={256: len(labels), 258: bits})
    (tmp_path / "mask.tif").write_bytes(data)
    assert read_mask(tmp_path / "mask.tif").tolist() == [labels]


# ---- images of which a part would be lost ----


@pytest.fixture
def without_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)


@pytest.mark.fault("F50")
@pytest.mark.usefixtures("without_tifffile")
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("bands", [2, 5, 6, 12])
def test_more_bands_are_named_with_their_type(
    tmp_path: Path, bands: int, dtype: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own; without one Python prints errors
    (tmp_path / "bands.tif").write_bytes(tiff(np.zeros((4, 5, bands), dtype)))
    message = (
        rf"bands\.tif: a kind of TIFF that needs tifffile \({bands} bands of {np.dtype(dtype).name}\); install its"
        r" reader: python -m pip install 'segkit\[tiff\]'"
    )
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / "bands.tif")
        assert kind(caught) == "bands"
    assert capfd.readouterr() == ("", "")


@pytest.mark.fault("F50")
@pytest.mark.usefixtures("without_tifffile")
def test_bands_that_pillow_drops_are_seen(tmp_path: Path) -> None:
    for bands, photometric, extra in ((5, 2, (0, 0)), (6, 2, (2, 0, 0)), (5, 5, (0,)), (3, 1, (0, 0))):
        (tmp_path / "bands.tif").write_bytes(tiff(np.zeros((4, 5, bands), np.uint8), photometric, extra))
        with pytest.raises(DataError, match=rf"\({bands} bands of uint8\)"):
            read_image(tmp_path / "bands.tif")
    for dtype, what in (("f2", "needs tifffile"), ("f8", "needs tifffile"), ("u8", "is not read")):
        (tmp_path / "values.tif").write_bytes(tiff(np.zeros((4, 5, 1), dtype)))
        with pytest.raises(DataError, match=rf"a kind of TIFF that {what} \(one band of {np.dtype(dtype).name}\)"):
            read_image(tmp_path / "values.tif")


@pytest.mark.fault("F50")
@pytest.mark.parametrize("extra", [None, 0, 1, 2])
def test_a_fourth_band_of_a_tiff_is_refused_where_it_varies(tmp_path: Path, extra: int | None) -> None:
    pixels = (DEEP >> 8).astype(np.uint8)
    for varies in (True, False):
        pixels[..., 3] = np.where(varies, pixels[..., 3], 7)
        for bands, photometric in ((pixels, 2), (pixels[..., 2:], 1)):
            if extra is None and photometric == 1:
                continue  # of two bands one has to be extra
            (tmp_path / "four.tif").write_bytes(tiff(bands, photometric, () if extra is None else (extra,)))
            if not extra:  # not said to be transparency: a band as any other
                np.testing.assert_array_equal(read_image(tmp_path / "four.tif"), bands)
                names = ("red", "green", "blue", "band 4") if photometric == 2 else ("band 1", "band 2")
                assert read_header(tmp_path / "four.tif").channels == names
            elif varies:
                with pytest.raises(DataError, match=r"four\.tif: .* a fourth channel that varies \(\d+ to \d+\)"):
                    read_image(tmp_path / "four.tif")
                if photometric == 2:
                    np.testing.assert_array_equal(
                        read_image(tmp_path / "four.tif", bands=[4, 1, 2, 3])[..., 1:], bands[..., :3]
                    )
                    np.testing.assert_array_equal(read_image(tmp_path / "four.tif", bands=[4])[..., 0], bands[..., 3])
            else:
                colours = pixels[..., :3] if photometric == 2 else np.repeat(pixels[..., 2:3], 3, axis=2)
                np.testing.assert_array_equal(read_image(tmp_path / "four.tif"), colours)


@pytest.mark.fault("F50")
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_a_band_beside_the_labels_of_a_mask_is_seen(tmp_path: Path, extra: int) -> None:
    labels = NUMBERS.astype(np.uint8)
    for bands, photometric in ((1, 1), (3, 2)):
        for varies in (True, False):
            beside = labels.T.reshape(20, 30, 1) if varies else np.full((20, 30, 1), 7, np.uint8)
            stored = np.concatenate([labels[..., None]] * bands + [beside], axis=2)
            (tmp_path / "mask.tif").write_bytes(tiff(stored, photometric, (extra,)))
            if varies:
                with pytest.raises(
                    DataError, match=r"mask\.tif: the alpha channel differs where the colour is the same"
                ):
                    read_mask(tmp_path / "mask.tif")
            else:
                np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), labels)
    (tmp_path / "five.tif").write_bytes(tiff(np.zeros((4, 5, 5), np.uint8), 2, (0, 0)))
    with pytest.raises(DataError, match=r"five\.tif: a mask of several bands \(5 of uint8\)"):
        read_mask(tmp_path / "five.tif")


@pytest.mark.fault("F50")
@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L"])
def test_transparency_that_varies_is_refused_and_the_advice_helps(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "cut-out.png"
    picture = noise("P" if mode == "P" else mode[0] if mode in ("L", "LA") else "RGB")
    if "A" in mode:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(file, **({} if "A" in mode else {"transparency": picture.getpixel((0, 0))}))
    with pytest.raises(DataError, match=r"that varies \(\d+ to 2\d\d\); .*without it; if") as caught:
        read_image(file)
    assert kind(caught) == "fourth_channel"
    advice = re.search(r"data\.bands = (\[.+\])", str(caught.value))
    assert advice
    assert read_image(file, bands=json.loads(advice[1])).shape == (30, 40, 4)
    Image.open(file).convert("RGBA").convert("RGB").save(file)  # without it
    assert read_image(file).shape == (30, 40, 3)


@pytest.mark.fault("F50")
@pytest.mark.parametrize(("colour_type", "values"), [(0, 1), (2, 3)])
def test_a_transparent_value_or_colour_of_16_bits_is_refused_where_it_occurs(
    tmp_path: Path, colour_type: int, values: int
) -> None:
    pixels = np.arange(300, 300 + 6 * values, dtype=np.uint16).reshape(2, 3 * values)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    for first in (300, 9000):
        data = np.arange(first, first + values).astype(">u2").tobytes()
        extra = struct.pack(">I", len(data)) + b"tRNS" + data + struct.pack(">I", zlib.crc32(b"tRNS" + data))
        (tmp_path / "cut-out.png").write_bytes(png(3, 2, 16, colour_type, rows, extra))
        if first == 300:
            with pytest.raises(DataError, match=r"cut-out\.png: .* fourth channel that varies \(0 to 1\)"):
                read_image(tmp_path / "cut-out.png")
        else:
            assert read_image(tmp_path / "cut-out.png").dtype == np.float32


@pytest.mark.fault("F50")
@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_several_pages_are_refused_and_smaller_copies_are_none(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (0, 100, 200)]
    frames[0].save(tmp_path / f"pages.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    for read in (read_image, read_mask):
        message = rf"pages\.{suffix}: more than one picture in the file \((3|1, 2, 3)"
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / f"pages.{suffix}")
        assert kind(caught) == "several"
    if suffix == "tif":
        frames[1].encoderinfo = {"tiffinfo": {254: 1}}  # a reduced copy, as viewers and GDAL keep them
        frames[0].save(tmp_path / "copy.tif", save_all=True, append_images=[frames[1]])
        assert read_image(tmp_path / "copy.tif").max() == 0
        assert read_mask(tmp_path / "copy.tif").max() == 0


def test_what_a_camera_puts_beside_a_jpeg_is_no_page(tmp_path: Path) -> None:
    noise().save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[noise()])
    assert read_image(tmp_path / "photo.jpg").shape == (30, 40, 3)


def test_the_terminal_is_left_alone_by_libtiff(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise().save(tmp_path / "cut.tif", compression="tiff_adobe_deflate")
    data = bytearray((tmp_path / "cut.tif").read_bytes())
    data[1000:1100] = b"\xff" * 100
    (tmp_path / "cut.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"cut\.tif: damaged or cut short"):
        read_image(tmp_path / "cut.tif")
    assert capfd.readouterr() == ("", "")
