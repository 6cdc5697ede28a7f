from __future__ import annotations

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.inference.options import Options
from segkit.inference.tiles import Axis, gaussian, tiling


@pytest.mark.parametrize("length", [1, 31, 64, 65, 100, 511, 512, 513, 1000, 4097])
@pytest.mark.parametrize("tile", [16, 64, 100, 512])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_tiles_cover_the_side_and_their_weights_add_up_to_one(length, tile, overlap):
    axis = Axis(length, tile, overlap)
    total = np.zeros(axis.starts[-1] + axis.tile)
    for start in axis.starts:
        assert axis.weights(start).min() > 0
        total[start : start + axis.tile] += axis.weights(start)
    assert len(total) >= length
    np.testing.assert_allclose(total[:length], 1, rtol=1e-5)
    assert axis.tile <= tile


def test_neighbours_overlap_by_what_was_asked_for_on_the_grid_of_networks():
    assert Axis(2000, 512, 0.5).starts == [0, 256, 512, 768, 1024, 1280, 1504]
    assert Axis(2000, 512, 0.25).starts == [0, 384, 768, 1152, 1504]
    assert Axis(2000, 512, 0.3).starts[1] == 352  # 358 is no multiple of 32
    assert Axis(512, 512, 0.5).starts == [0]
    assert Axis(100, 512, 0.5).tile == 128  # no more than the side, up to the grid


def test_the_gaussian_is_an_eighth_of_the_side_wide():
    weights = gaussian(512)
    assert weights[256 + 64] / weights[256] == pytest.approx(np.exp(-0.5), rel=0.01)  # a deviation from the middle
    assert np.array_equal(weights, weights[::-1])
    assert weights.min() > 0.0003


def sides(height, width, resize=None, crop=None, **options):
    axes = tiling(height, width, Options(**options), resize, crop)
    return axes and (axes[0].tile, axes[1].tile)


def test_an_image_is_tiled_where_the_network_would_see_too_much_at_once():
    assert sides(2048, 2048) is None
    assert sides(2048, 2049) == (512, 512)
    assert sides(300, 20_000) == (320, 512)
    assert sides(4096, 4096, resize=0.5) is None  # it sees 2048 x 2048
    assert sides(4097, 4096, resize=0.5) == (1024, 1024)  # of which it sees 512 x 512
    assert sides(1500, 1500, resize=2.0) == (256, 256)
    assert sides(9000, 9000, resize=[512, 512]) is None  # parts of an image were never seen
    assert sides(9000, 9000, tile=0) is None


def test_tiles_are_as_large_as_the_crops_of_the_training():
    assert sides(9000, 9000, crop=160) == (512, 512)  # more around each pixel does no harm
    assert sides(9000, 9000, crop=[480, 750]) == (768, 768)
    assert sides(9000, 9000, crop=4000) == (1024, 1024)
    assert sides(9000, 9000, crop=[480, 750], resize=0.5) == (1536, 1536)


def test_the_largest_view_decides_whether_it_goes_whole():
    assert sides(2048, 2048) is None
    assert sides(2048, 2048, scales=[0.5, 1.0]) is None
    assert sides(2048, 2048, scales=[1.0, 1.25]) is not None


def test_a_side_that_is_given_counts_in_pixels_of_the_image():
    assert sides(300, 100, tile=256) == (256, 128)
    assert sides(256, 256, tile=256) is None
    assert sides(300, 300, tile=256, resize=0.5) == (256, 256)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tile": 8}, "tile = 8; allowed are auto, 0"),
        ({"tile": -1}, "tile = -1"),
        ({"tile": "big"}, "tile = 'big'"),
        ({"tile": True}, "tile = True"),
        ({"overlap": 1.0}, "overlap = 1.0; a share of the tile's side from 0 to 0.9"),
        ({"overlap": float("nan")}, "overlap = nan"),
        ({"batch_size": -1}, "batch_size = -1"),
        ({"flips": "all"}, "flips = 'all'; allowed are none, horizontal, vertical, both"),
        ({"scales": ()}, r"scales = \[\]; one or more factors"),
        ({"scales": (1.0, 0.0)}, r"scales = \[1.0, 0.0\]"),
    ],
)
def test_options_that_are_not_allowed(options, told):
    with pytest.raises(ConfigError, match=told):
        Options(**options)
