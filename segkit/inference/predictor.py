"""A trained model with all it takes to use it: image in, labels out, at the image's own size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segkit.data.facts import moments
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.read import MAX_PIXELS, Pixels, as_rgb, read_image
from segkit.data.resize import Resize, resized_part, resized_size
from segkit.data.sample import Palette
from segkit.engine.precision import pick_device, resolve
from segkit.errors import ConfigError, DataError, NotFiniteError
from segkit.inference.enlarge import enlarged
from segkit.inference.options import OVERLAP, Options
from segkit.inference.sliding import Block, slide
from segkit.inference.stored import StoredLabels
from segkit.inference.tiles import WHOLE, refuse_unused, tiling
from segkit.inference.views import Source, Views

MOST_PIXELS = 400_000_000
"""20,000 x 20,000: 1.2 GB as RGB, and 2.8 while it is read. Beyond what data sets may hold: this file was named."""

Picture = Pixels | Image.Image | str | Path
"""RGB ``[H,W,3]``, uint8, or float32 of more than 8 bits; Pillow's, as it lies in memory; or the path of a file, which
is read upright."""


class Predictor:
    """Runs a model on single images, in the way that evaluation does.

    Args:
        model: ``[B,3,H,W]`` -> logits ``[B,C,H,W]``; it is moved to the device and put into eval mode.
        classes: names, one a channel of the logits.
        palette: an RGB triple a class, for pictures.
        ignore_index: the label of void in masks; never predicted.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        on_cpu: what ``auto`` is on a CPU: that of the run.
        stored: of each class what masks of the run store for it; None where that is not known.
        resize: what the network sees: a factor or [height, width], as in training.
        crop: pixels, or [height, width], that it saw in training; for the size of tiles.
        normalisation: of the images, as in training, and whether they have 8 bits a channel or more.

    Raises:
        ConfigError: no such device, or it lacks the precision.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        palette: Palette,
        ignore_index: int = 255,
        device: str = "auto",
        precision: str = "auto",
        on_cpu: str = "fp32",
        stored: Sequence[Sequence[Any]] | None = None,
        resize: Resize = None,
        crop: int | Sequence[int] | None = None,
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        self.precision = resolve(precision, pick_device(device), on_cpu)
        self.model = model.to(self.precision.device).to(memory_format=torch.channels_last).eval()
        self.classes, self.palette = tuple(classes), palette
        self.ignore_index, self.resize, self.crop = ignore_index, resize, crop
        self.normalisation = normalisation
        self.stored = stored

    @property
    def stored_labels(self) -> StoredLabels:
        """Turns predicted class indices into what the masks of the run store: ``stored_labels(predict(image))``.

        Raises:
            ConfigError: that is not known, or no mask can hold it.
        """
        if not self.stored:
            raise ConfigError(
                "stored labels: config.json does not say which labels the run's masks store, as the run is of an "
                "earlier version or its dataset has no mask files; predict class indices, without this option"
            )
        return StoredLabels(self.classes, self.stored)

    @torch.inference_mode()
    def logits(self, image: Pixels) -> Tensor:
        """RGB ``[H,W,3]`` -> float32 ``[C,H,W]`` on the device, seen whole.

        Raises:
            DataError: the image has another shape or type.
            ModelError: the model does not return a channel a class.
        """
        pixels = self.pixels(image)
        return self._views(pixels, Options(), pixels.shape[:2]).whole()

    @torch.inference_mode()
    def predict(
        self,
        image: Any,
        *,
        tile: int | str = "auto",
        overlap: float = OVERLAP,
        batch_size: int = 0,
        flips: str = "none",
        scales: Sequence[float] = (1.0,),
        progress: str = "",
    ) -> Any:
        """The likeliest class of each pixel, uint8 ``[H,W]``; of several images a list of them.

        Args:
            image: see :data:`Picture`; or a list of them, or whatever else gives one after the other.
            tile: the side of a tile in pixels of the image; 0: never in tiles; ``auto``: in tiles where the network
                would see more than 2048 x 2048 pixels at once.
            overlap: of neighbouring tiles, a share of their side.
            batch_size: tiles at a time; 0: what suits the device.
            flips: ``none``, ``horizontal``, ``vertical`` or ``both``: mirrored views, besides the image as it is.
            scales: of the image; the probabilities of all views are averaged.
            progress: what the progress bar of the tiles is called; none is shown without it.

        Raises:
            ConfigError: an option is not allowed.
            DataError: the file cannot be read, or the array is no image.
            ModelError: the model does not return a channel a class.
            NotFiniteError: its output is NaN or infinite.
        """
        if isinstance(image, Iterable) and not isinstance(image, str | np.ndarray | Image.Image | Tensor):
            more: dict[str, Any] = {"tile": tile, "overlap": overlap, "batch_size": batch_size}
            more |= {"flips": flips, "scales": scales, "progress": progress}
            return [self.predict(each, **more) for each in image]
        pixels = self.pixels(image)
        labels = np.empty(pixels.shape[:2], np.uint8)
        for block in self.blocks(pixels, Options(tile, overlap, batch_size, flips, scales), progress):
            top = block.values.max(1)
            _refuse_undecided(top.values, image)
            labels[block.place] = top.indices.to("cpu", torch.uint8).numpy()
        return labels

    @torch.inference_mode()
    def probabilities(
        self,
        image: Picture,
        *,
        tile: int | str = "auto",
        overlap: float = OVERLAP,
        batch_size: int = 0,
        flips: str = "none",
        scales: Sequence[float] = (1.0,),
        progress: str = "",
    ) -> NDArray[np.float32]:
        """The probability of each class at each pixel, float32 ``[C,H,W]``: of 4,000 x 3,000 and 21 classes 1 GB.

        Args and Raises are those of :meth:`predict`.
        """
        pixels = self.pixels(image)
        found = np.empty((len(self.classes), *pixels.shape[:2]), np.float32)
        for block in self.blocks(pixels, Options(tile, overlap, batch_size, flips, scales), progress, softmax=True):
            _refuse_undecided(block.values.amax(1), image)
            found[:, *block.place] = block.values.transpose(0, 1).cpu().numpy()
        return found

    def blocks(self, image: Tensor, options: Options, progress: str = "", softmax: bool = False) -> Iterator[Block]:
        """The values of ``[H,W,3]``, part by part; the largest of a pixel's is its class.

        Args:
            image: on the CPU.
            options: of the prediction.
            progress: as in :meth:`predict`.
            softmax: whether they have to be probabilities; one view of a whole image gives logits otherwise.
        """
        refuse_unused(options, self.resize)
        height, width, _ = image.shape
        axes = tiling(height, width, options, self.resize, self.crop)
        if axes is not None:
            views = self._views(image, options, (height, width))
            yield from slide(views, *axes, batch_size=options.batch_size, description=progress)
            return
        # beyond, logits are not held at the image's size
        size = (height, width) if height * width <= WHOLE else resized_size(height, width, self.resize)
        values = self._views(image, options, size).whole()  # [C,h,w]
        blocks = [Block(0, 0, values.transpose(0, 1))] if size == (height, width) else enlarged(values, (height, width))
        for block in blocks:
            yield block._replace(values=block.values.softmax(1)) if options.views == 1 and softmax else block

    def _views(self, image: Tensor, options: Options, size: Sequence[int]) -> Views:
        height, width, _ = image.shape
        seen = resized_size(height, width, self.resize)
        source = parts_of(image.permute(2, 0, 1))
        goal = (size[0], size[1])
        return Views(self.model, self.precision, len(self.classes), source, goal, seen, options, self.normalisation)

    def pixels(self, image: Picture) -> Tensor:
        """``[H,W,3]`` on the CPU, of the type that the model was trained on.

        Raises:
            DataError: the file cannot be read, the array is no image, or it is of another depth.
        """
        of_file = isinstance(image, str | Path)
        name = str(image) if of_file else "the image"
        if isinstance(image, str | Path):
            image = read_image(image, MOST_PIXELS)
        elif isinstance(image, Image.Image):
            image = as_rgb(image, name)
        if not isinstance(image, np.ndarray):
            raise DataError(f"an image is a path, RGB as uint8 [H,W,3], or Pillow's; not {type(image).__name__}")
        if image.dtype not in (np.uint8, np.float32) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            wanted = self.normalisation.dtype
            raise DataError(f"an image is RGB, {wanted} [H,W,3]; this one is {image.dtype} {list(image.shape)}")
        self.refuse_other_depth(str(image.dtype), name)
        if of_file and image.dtype == np.float32 and self.normalisation.is_far(moments(image.transpose(2, 0, 1))):
            text = "its values are of another range than those the model was trained on, perhaps of another unit"
            warnings.warn(f"{name}: {text}", stacklevel=3)
        image = np.ascontiguousarray(image)
        # torch warns of what it must not change
        return torch.from_numpy(image if image.flags.writeable else image.copy())

    def refuse_other_depth(self, dtype: str, name: str) -> None:
        """Refuse 8 bits a channel where the model was trained on more, and the reverse.

        Raises:
            DataError: it has another type than the images of the training.
        """
        wanted = self.normalisation.dtype
        if dtype != wanted:
            depth = "8 bits" if wanted == "uint8" else "more than 8 bits"
            raise DataError(
                f"{name}: its values are {dtype}, and the model was trained on images of {depth} a channel "
                f"({wanted}); give images of the same kind"
            )


def parts_of(image: Tensor) -> Source:
    """Parts of an image ``[C,H,W]`` at any size, cut out of the whole at that size as evaluation has it.

    Of what is larger than an evaluation reads, they are made one by one: no whole one has to fit into memory.
    """
    height, width = image.shape[1:]
    if height * width > MAX_PIXELS:
        return partial(resized_part, image)
    whole = functools.cache(lambda size: resized_part(image, size, (0, size[0]), (0, size[1])))
    return lambda size, rows, columns: whole(size)[:, slice(*rows), slice(*columns)]


def _refuse_undecided(largest: Tensor, image: Picture) -> None:
    """Refuse the largest logits or probabilities of pixels where they are NaN or infinite."""
    if not largest.isfinite().all():
        raise NotFiniteError(str(image) if isinstance(image, str | Path) else "the image")
