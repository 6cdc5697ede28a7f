"""The colours of Pascal VOC."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from segkit.data.palette import voc_palette


def test_the_published_colours() -> None:
    palette = voc_palette(256)
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[15] == (192, 128, 128)  # person
    assert palette[255] == (224, 224, 192)
    assert len(set(palette)) == 256


def test_the_colours_in_a_real_file(real_data: Path) -> None:
    masks = real_data / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    with Image.open(next(masks.glob("*.png"))) as mask:
        stored = mask.getpalette()
    assert stored == [part for colour in voc_palette(256) for part in colour]
