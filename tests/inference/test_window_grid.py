from __future__ import annotations

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.inference.options import PredictOptions
from segkit.inference.window_grid import gaussian, window_grid, windows


@pytest.mark.parametrize("length", [1, 31, 64, 65, 100, 511, 512, 513, 1000, 4097])
@pytest.mark.parametrize("factor", [0.3, 1, 1.7])
@pytest.mark.parametrize("tile", [16, 64, 100, 512])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_tiles_cover_the_side_and_their_weights_add_up_to_one(length, factor, tile, overlap):
    resized = max(1, round(length * factor))
    found = windows(length, resized, tile, overlap)
    total = np.zeros(length)
    for each in found:
        assert len(each.weights) == len(each.centres) == each.last - each.first
        assert (each.centres > -1e-6).all()
        assert (each.centres < each.end - each.start + 1e-6).all()
        assert (each.weights > 0).all()
        total[each.first : each.last] += each.weights
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert found[-1].end == resized
    assert all(each.end - each.start == tile for each in found[:-1])


def starts(length, tile, overlap):
    return [each.start for each in windows(length, length, tile, overlap)]


def test_neighbours_overlap_by_what_was_asked_for_on_the_grid_of_networks():
    assert starts(2016, 512, 0.5) == [0, 256, 512, 768, 1024, 1280, 1504]
    assert starts(2016, 512, 0.25) == [0, 384, 768, 1152, 1504]
    assert starts(2016, 512, 0.3)[1] == 352  # 358 is no multiple of 32
    assert starts(512, 512, 0.5) == [0]


def test_the_last_tile_ends_with_the_image_and_begins_on_the_grid():
    (*_, last) = windows(2000, 2000, 512, 0.5)
    assert (last.start, last.end) == (1472, 2000)
    (only,) = windows(100, 100, 512, 0.5)
    assert (only.start, only.end) == (0, 100)


def test_a_tile_holds_the_pixels_whose_middles_it_holds():
    first, second = windows(1000, 300, 160, 0)[:2]  # at 0.3 a pixel of the network's is 3 1/3 of the image's
    assert (first.first, first.last) == (0, 533)
    assert (second.start, second.first) == (128, 427)


def test_the_gaussian_is_an_eighth_of_the_side_wide():
    weights = gaussian(np.arange(512) + 0.5, 512)
    assert weights[256 + 64] / weights[256] == pytest.approx(np.exp(-0.5), rel=0.01)  # a deviation from the middle
    assert np.array_equal(weights, weights[::-1])
    assert weights.min() > 0.0003


def sides(height, width, resize=None, crop=None, classes=2, **options):
    grid = window_grid((height, width), PredictOptions(**options), classes, resize, crop)
    whole = {len(axis) for axis in grid} == {1}
    return None if whole else tuple(axis[0].end for axis in grid)  # of what the network sees


def test_an_image_is_tiled_where_the_network_would_see_too_much_at_once():
    assert sides(2048, 2048) is None
    assert sides(2048, 2049) == (512, 512)
    assert sides(300, 20_000) == (300, 512)
    assert sides(4096, 4096, resize=0.5) is None  # it sees 2048 x 2048
    assert sides(4100, 4096, resize=0.5) == (512, 512)
    assert sides(1500, 1500, resize=2.0) == (512, 512)
    assert sides(9000, 9000, resize=[512, 512]) is None  # parts of an image were never seen
    assert sides(9000, 9000, tile=0) is None


def test_tiles_are_as_large_as_the_crops_of_the_training():
    assert sides(9000, 9000, crop=160) == (512, 512)  # more around each pixel does no harm
    assert sides(9000, 9000, crop=[480, 750]) == (768, 768)
    assert sides(9000, 9000, crop=4000) == (1024, 1024)
    assert sides(9000, 9000, crop=[480, 750], resize=0.5) == (768, 768)


def test_a_row_of_tiles_takes_a_gibibyte_at_most_unless_a_side_is_given():
    assert sides(20_000, 20_000, classes=21) == (512, 512)  # 860 MB
    assert sides(20_000, 20_000, classes=21, crop=1024) == (608, 1024)
    assert sides(300, 20_000, classes=100) == (128, 512)
    assert sides(8000, 8000, classes=150, resize=0.5) == (96, 512)  # of a view of half the size
    assert sides(20_000, 20_000, classes=21, tile=1024) == (1024, 1024)
    for classes in (2, 21, 150, 255):
        for side, resize in ((6000, None), (20_000, None), (20_000, 0.3)):
            strip = 4 * classes * side * sides(side, side, resize, crop=1024, classes=classes)[0] / (resize or 1)
            assert strip <= max(1 << 30, 4 * classes * side * 32 / (resize or 1))  # the least height is 32


def test_tiles_of_a_network_that_has_seen_whole_images_are_refused():
    told = r"tile = 256: no tiles are used, because .* whole images resized to \[128, 96\] \(data.resize\)"
    with pytest.raises(ConfigError, match=told):
        sides(300, 300, resize=[128, 96], tile=256)
    assert sides(9000, 9000, resize=[128, 96], overlap=0.25) is None


def test_the_largest_view_decides_whether_it_goes_whole():
    assert sides(2048, 2048) is None
    assert sides(2048, 2048, scales=[0.5, 1.0]) is None
    assert sides(2048, 2048, scales=[1.0, 1.25]) is not None


def test_a_side_that_is_given_counts_in_pixels_of_the_image():
    assert sides(300, 100, tile=256) == (256, 100)
    assert sides(256, 256, tile=256) is None
    assert sides(400, 300, tile=256, resize=0.5) == (128, 150)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tile": 8}, "tile = 8: should be greater than or equal to 16, or should be 'auto' or 0"),
        ({"tile": -1}, "tile = -1"),
        ({"tile": "big"}, "tile = 'big'"),
        ({"tile": True}, "tile = True"),
        ({"overlap": 1.0}, "overlap = 1.0: should be less than or equal to 0.9"),
        ({"overlap": float("nan")}, "overlap = nan"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"flips": "all"}, "flips = 'all': should be 'none', 'horizontal', 'vertical' or 'both'"),
        ({"scales": ()}, r"scales = \(\): .*at least 1 item"),
        ({"scales": (1.0, 0.0)}, r"scales = \(1.0, 0.0\): should be greater than or equal to 0.1"),
    ],
)
def test_options_that_are_not_allowed(options, told):
    with pytest.raises(ConfigError, match=told):
        PredictOptions(**options)
