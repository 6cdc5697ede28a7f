"""The colours classes are drawn in."""

from __future__ import annotations

from segkit.data.sample import Palette


def voc_palette(count: int) -> Palette:
    """Pascal VOC's colours: the bits of a label, dealt in turn to the high bits of red, green and blue.

    Neighbouring labels look unlike each other and label 255 becomes (224, 224, 192), the cream of VOC's borders.

    Args:
        count: how many colours, at most 256.
    """
    return tuple(_colour(label) for label in range(count))


def _colour(label: int) -> tuple[int, int, int]:
    channels = [0, 0, 0]
    for position in range(8):
        for channel in range(3):
            channels[channel] |= (label >> (3 * position + channel) & 1) << (7 - position)
    return channels[0], channels[1], channels[2]
