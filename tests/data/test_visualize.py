from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from segkit.data.sample import voc_palette
from segkit.data.visualize import VOID_COLOUR, colour_mask, overlay
from segkit_samples.sheets import caption, legend, panel, save_palette_png, sheet

PALETTE = ((0, 0, 0), (200, 0, 0), (0, 0, 200))
MASK = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def test_drawing_needs_no_torch():
    code = "import sys, segkit.data.visualize; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_palette_png_holds_the_labels_and_shows_the_colours(tmp_path):
    path = tmp_path / "mask.png"
    save_palette_png(MASK, PALETTE, path)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), MASK)
        rgb = np.asarray(picture.convert("RGB"))
    assert np.array_equal(rgb, colour_mask(MASK, PALETTE))
    assert tuple(rgb[1, 0]) == VOID_COLOUR == voc_palette(256)[255]


def test_another_label_may_be_void():
    assert tuple(colour_mask(np.array([[11]], np.uint8), PALETTE, 11)[0, 0]) == VOID_COLOUR


def test_an_overlay_mixes_and_leaves_void_alone():
    image = np.full((2, 3, 3), 100, np.uint8)
    mixed = overlay(image, MASK, PALETTE)
    assert mixed.dtype == np.uint8
    assert mixed[0, 1].tolist() == [150, 50, 50]
    assert mixed[1, 0].tolist() == [100, 100, 100]


def tile(strip: Image.Image, number: int, width: int = 60) -> np.ndarray:
    left = number * (width + 6)
    return np.asarray(strip.crop((left, 20, left + width, strip.height)))


def test_a_panel_marks_errors_and_not_void():
    image = np.full((2, 3, 3), 100, np.uint8)
    prediction = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)  # wrong at the top right; the void pixel does not count
    strip = panel(image, MASK, prediction, PALETTE, width=60)
    assert strip.size == (4 * 60 + 3 * 6, 20 + 40)
    truth, predicted, errors = tile(strip, 1), tile(strip, 2), tile(strip, 3)
    assert tuple(truth[5, 55]) == PALETTE[2]
    assert tuple(predicted[5, 55]) == PALETTE[1]
    red = (errors == (230, 25, 25)).all(axis=2)
    assert red[:20, 40:].all()
    assert red.sum() == 20 * 20
    assert tuple(errors[30, 5]) == VOID_COLOUR
    assert (np.asarray(strip.crop((0, 0, 60, 20))) < 128).any(), "the caption is missing"


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_panels_of_any_shape_are_equally_wide(size):
    mask = np.zeros(size, np.uint8)
    strip = panel(np.zeros((*size, 3), np.uint8), mask, mask, PALETTE, name="a name that is far too long", width=40)
    assert strip.width == 4 * 40 + 3 * 6
    void = np.full(size, 255, np.uint8)
    assert panel(np.zeros((*size, 3), np.uint8), void, mask, PALETTE, width=40).width == strip.width


def test_a_sheet_stacks_panels_over_one_legend():
    image = np.zeros((6, 9, 3), np.uint8)
    mask = np.zeros((6, 9), np.uint8)
    strip = panel(image, mask, mask, PALETTE, name="truth", width=60)  # a name that is also a caption
    page = sheet([strip, strip], ["background", "car", "person"], PALETTE)
    key = legend(["background", "car", "person"], PALETTE, strip.width, has_void=False)  # no mask has any
    assert page.width == strip.width + 12
    assert page.height == 2 * strip.height + key.height + 4 * 6
    colours = {colour for _, colour in key.getcolors(100_000)}
    assert {*PALETTE} <= colours
    assert VOID_COLOUR not in colours
    mask[:2] = 255
    page = sheet([panel(image, mask, mask, PALETTE, width=60)], ["background", "car", "person"], PALETTE)
    assert VOID_COLOUR in {colour for _, colour in page.crop((0, page.height - 30, *page.size)).getcolors(100_000)}


def test_a_long_legend_takes_more_rows_and_stays_inside():
    names = [f"class number {index}" for index in range(21)]
    assert legend(names, voc_palette(21), 300).width == 300
    assert legend(names, voc_palette(21), 300).height > legend(names, voc_palette(21), 900).height


@pytest.mark.timeout(100)
def test_a_caption_has_one_line_and_its_end_whatever_the_name():
    for name in ("a\nb", "\x1b[31m\0", "W" * 1_000_000, "i" * 1_000_000, ""):
        assert caption(name, 300).size == (300, 20)
        assert legend([name], PALETTE[:1], 300).width == 300
    short, cut = caption("W" * 10, 300), caption("W" * 40, 300)
    assert short.tobytes() != cut.tobytes()
    assert np.asarray(cut.convert("L"))[:, 270:].min() < 128  # as much of a long name is shown as there is room


def test_a_panel_takes_the_name_of_any_file():
    image = np.zeros((8, 8, 3), np.uint8)
    label = np.zeros((8, 8), np.uint8)
    assert panel(image, label, label, PALETTE, 255, "two\nlines").width > 0
