"""Choose crop, batch, width, time and class balance from image sizes, image count and class shares; give reasons."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import Any, NamedTuple

_MULTIPLE = 16  # pixels: the U-Net halves four times
_KEPT = 1 << 29  # bytes of decoded images of train: those of all splits should fit into any computer's memory
_LARGE = 256  # pixels of the shorter side: from here on the deeper layers need only half of them


class Choice(NamedTuple):
    """A value for a key of the config, or None to leave the key out, and the reason."""

    value: Any
    why: str


def plan(
    sizes: Sequence[tuple[int, int]], channels: int, is_8_bit: bool, shares: Sequence[float], memory: int = 0
) -> dict[str, Choice]:
    """Return ``table.key`` -> value and reason.

    Args:
        sizes: height and width of each training image, pixels.
        channels: number of channels of an image.
        is_8_bit: whether the images have 8 bits a channel.
        shares: share of each class in the labelled pixels of train.
        memory: memory of the GPU in bytes; 0 without a GPU.
    """
    card, count = memory > 0, len(sizes)
    chosen = {"data.resize": _resize(sizes, card)}
    factor = chosen["data.resize"].value or 1
    sizes = [(round(height * factor), round(width * factor)) for height, width in sizes]
    chosen["augment.crop"] = crop = _crop(sizes, 512 if card else 256)
    decoded = sum(height * width for height, width in sizes) * (channels * (1 if is_8_bit else 4) + 1)
    keep = "ram" if not card and decoded <= _KEPT else None
    chosen["data.cache"] = Choice(keep, f"decoded once, {max(1, decoded >> 20)} MiB of train; for a GPU leave this out")
    pixels = crop.value**2 if crop.value else max(height * width for height, width in sizes)
    most = 32 if card else 8
    fitting = max(2, min(most, round((16 * 512**2 if card else 4 * 256**2) / pixels)))
    batch = min(fitting, count)
    where = "a GPU's memory" if card else "two CPU cores"
    few = f"all {count} training images" if batch < fitting else f"images per step, for {where}"
    chosen["train.batch_size"] = Choice(batch, few)
    photographs = channels == 3 and is_8_bit
    more = 'for few photographs "smp" with weights = "imagenet" (a download) scores better'
    chosen["model.name"] = Choice("unet", more if photographs and count < 1000 else "trained from scratch")
    blocks = not card and len(shares) > 2 and median(min(size) for size in sizes) >= _LARGE  # two: fine borders
    width = 64 if memory > 10 << 30 else 32 if card or blocks else 16
    other = "with 64 and without the next two lines" if blocks else "64, 16 times the work"
    chosen["model.width"] = Choice(width, "use 16 on a laptop" if card else f"on a GPU: {other}")
    chosen["model.depth"] = Choice(3 if blocks else None, "halvings of the size after the patches; 4 without patches")
    chosen["model.patch_size"] = Choice(4 if blocks else None, "patches of 4 x 4 pixels; 2 is finer and slower")
    passes = max(1, -(-25 * batch // count))
    chosen["train.repeat"] = Choice(passes if passes > 1 else None, f"passes over the {count} images are one epoch")
    chosen["train.minutes"] = Choice(20, "a run measures how many steps fit into this time; more time, better scores")
    chosen["train.schedule"] = Choice("poly", "the learning rate falls evenly to 0 at the end of that time")
    chosen["train.ema"] = Choice(0.998 if card else 0.99, "an average of the latest weights is scored and kept")
    chosen |= _balance(shares, crop.value is not None)
    scale = [0.5, 1.5] if photographs and crop.value else None
    chosen["augment.scale"] = Choice(scale, "near objects look larger; use [1.0, 1.0] where the scale never varies")
    chosen["augment.colour"] = Choice(0.3 if photographs else None, "light and cameras differ")
    return chosen


def _resize(sizes: Sequence[tuple[int, int]], card: bool) -> Choice:
    """Return a factor that suits the longer side to the computer, and leaves the shorter side room for a crop."""
    longest, wanted = median(max(size) for size in sizes), 1024 if card else 512
    least = _MULTIPLE / median(min(size) for size in sizes)
    factor = max(round(wanted / longest, 2), ceil(100 * least) / 100)
    if longest <= 1.25 * wanted or factor >= 1:
        return Choice(None, f"the network sees the images at their own size, {range_text(sizes)}")
    whose = "a GPU" if card else "a laptop"
    return Choice(factor, f"{range_text(sizes)} is large for {whose}; scores use each mask's own size")


def _crop(sizes: Sequence[tuple[int, int]], wanted: int) -> Choice:
    """Return a multiple of 16, because the U-Net halves four times, that is not larger than most images.

    Whole images are chosen only if their sides are multiples of 16. Others are padded at the right and bottom, always
    at the same place: a network trained only on these fails there in images of other sizes.
    """
    if len({*sizes}) == 1 and max(sizes[0]) <= wanted and not any(side % 16 for side in sizes[0]):
        return Choice(None, "the network sees whole images, which are small and of one size")
    short = int(median(min(size) for size in sizes))
    if len({*sizes}) == 1 and short < _MULTIPLE:
        return Choice(None, f"the network sees whole images, which are smaller than a crop of {_MULTIPLE}")
    crop = max(_MULTIPLE, min(wanted, short) // _MULTIPLE * _MULTIPLE)
    mixed = "the images have many sizes: " if len({*sizes}) > 1 else ""
    return Choice(crop, f"{mixed}a multiple of 16 that fits into most images")


def _balance(shares: Sequence[float], has_crop: bool) -> dict[str, Choice]:
    present = [share for share in shares if share > 0]
    rarest, largest = min(present, default=1.0), max(present, default=1.0)
    text = f"a class fills {rarest:.2%} to {largest:.0%} of the pixels"
    weights = Choice("sqrt_median_frequency", f"{text}: pixels of rarer classes count more")
    balanced = Choice(0.33 if has_crop and rarest < 0.02 else None, "a third of the crops is centred on a rare class")
    even = Choice(None, f"{text}, a small difference")
    return {"loss.class_weights": weights if largest > 10 * rarest else even, "augment.class_balanced": balanced}


def range_text(sizes: Sequence[tuple[int, int]]) -> str:
    """Return the smallest and the largest of sizes (height, width) as text, width x height."""
    ordered = sorted({*sizes}, key=lambda size: size[0] * size[1])
    texts = [f"{width} x {height}" for height, width in ordered]
    return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"
