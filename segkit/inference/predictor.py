"""Run a trained model on single images: image in, labels out, at the image's original size."""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segkit.data.normalise import displayable, moments
from segkit.data.read import Picture, Pixels, of_pillow, read_header, read_picture, with_holes
from segkit.data.sample import RGB, RGB_IMAGES, Colour, ImageFormat, channel_names
from segkit.data.visualize import overlay_picture
from segkit.engine.precision import pick_device, resolve_precision, use_cpu
from segkit.errors import DataError, NotFiniteError, first_few
from segkit.inference.options import PredictOptions
from segkit.inference.sliding_window import Inferer


class Predictor:
    """Runs a model on single images, exactly as evaluation does.

    Args:
        model: ``[B,I,H,W]`` -> logits ``[B,C,H,W]``; moved to the device and set to eval mode.
        classes: class names, one per channel of the logits.
        palette: one RGB triple per class, for pictures.
        ignore_index: the label of void in masks; predicted only where a pixel has no data.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        on_cpu: the precision that ``auto`` selects on a CPU: the run's.
        stored: for each class the labels, or RGB triples, that stand for it in the run's masks; None if unknown.
        images: the channels of the images, and how to read and display them.
        how: ``resize``, ``crop`` and ``normalisation`` of the training, and ``temperature``; see :class:`Inferer`.

    Attributes:
        inferer: applies the model to images of any size.
        most_pixels: the largest image, 20,000 x 20,000: 1.2 GB as RGB, 2.8 GB while it is read. The limit of data sets
            is lower, since their files are not named individually by the user.

    Raises:
        ConfigError: the device does not exist or lacks the precision.
    """

    most_pixels = 400_000_000

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Sequence[str],
        palette: tuple[Colour, ...],
        ignore_index: int = 255,
        device: str = "auto",
        precision: str = "auto",
        on_cpu: str = "fp32",
        stored: Sequence[Sequence[Any]] | None = None,
        images: ImageFormat = RGB_IMAGES,
        **how: Any,
    ) -> None:
        use_cpu()
        self.precision = resolve_precision(precision, pick_device(device), on_cpu)
        self.model = model.to(self.precision.device).to(memory_format=torch.channels_last).eval()
        self.classes, self.palette, self.ignore_index, self.stored = tuple(classes), palette, ignore_index, stored
        self.inferer = Inferer(self.model, self.precision, len(self.classes), **how)
        self.resize, self.crop, self.normalisation = self.inferer.resize, self.inferer.crop, self.inferer.normalisation
        count = len(self.normalisation.mean)
        same = len(images.channels) == count
        self.images = images if same else replace(images, channels=channel_names(count))

    @torch.inference_mode()
    def predict(self, image: Any, *, name: str = "", progress: str = "", **options: Any) -> Any:
        """Predict the class of each pixel, uint8 ``[H,W]``, void where a pixel has no data; a list for several images.

        Args:
            image: one of: the path of a file, of which the run's bands are read upright; for an image whose channels
                lie in several files, all their paths in one string, ``"red/a.tif | nir/a.tif"``; an array ``[H,W,C]``
                of the run's channels, uint8 or of more than 8 bits; a Pillow image; a result of ``read_picture``; or a
                list or an iterator of these.
            name: name of the image in errors; default: its path, or "the image".
            progress: label of the progress bar of the tiles; without it no bar is shown.
            options: ``tile``, ``overlap``, ``batch_size``, ``flips`` and ``scales``, see :class:`PredictOptions`.

        Raises:
            ConfigError: an option is not allowed.
            DataError: the file cannot be read, or the array is not an image.
            ModelError: the model does not return one channel per class.
            NotFiniteError: the model's output is NaN or infinite.
        """
        if isinstance(image, list | tuple | Iterator) and not isinstance(image, Picture):
            return [self.predict(each, progress=progress, **options) for each in image]
        name = name or _name_of(image)
        picture = self.pixels(image, name)
        labels = self.labels(_channels_first(picture.pixels), name=name, progress=progress, **options)
        if picture.holes is not None:
            labels[picture.holes] = self.ignore_index
        return labels

    @torch.inference_mode()
    def labels(self, image: Any, *, name: str, progress: str = "", **options: Any) -> NDArray[np.uint8]:
        """Predict the class of each pixel, uint8 ``[H,W]``, of stored pixels that need not be in memory as a whole.

        Args:
            image: ``[C,H,W]`` in the dtype of the training images: a tensor on the CPU, or an object with ``shape`` and
                ``device`` that returns such tensors when it is sliced.
            name, progress, options: as for :meth:`predict`.

        Raises:
            ConfigError, ModelError, NotFiniteError: as :meth:`predict`.
        """
        size, how = image.shape[1:], PredictOptions(**options)
        labels = np.empty(size, np.uint8)
        for rows, values in self.inferer.predict(image, size, how, progress=progress):
            largest, found = values.max(0)  # of equal values the first, as argmax in evaluation
            _refuse_not_finite(largest, name)
            labels[rows] = found.to(torch.uint8).cpu().numpy()
        return labels

    @torch.inference_mode()
    def probabilities(self, image: Any, *, name: str = "", progress: str = "", **options: Any) -> NDArray[np.float32]:
        """Predict the probability of each class, float32 ``[C,H,W]``: 1 GB for 4,000 x 3,000 pixels and 21 classes.

        Args and Raises: see :meth:`predict`; one image only.
        """
        name = name or _name_of(image)
        pixels, how = _channels_first(self.pixels(image, name).pixels), PredictOptions(**options)
        size = (pixels.shape[1], pixels.shape[2])
        found = np.empty((len(self.classes), *size), np.float32)
        for rows, values in self.inferer.predict(pixels, size, how, softmax=True, progress=progress):
            _refuse_not_finite(values.amax(0), name)
            found[:, rows] = values.cpu().numpy()
        return found

    def overlay(self, image: Any, **options: Any) -> Image.Image:
        """Predict an image and blend the classes' colours into it; notebooks display the result.

        Args and Raises: see :meth:`predict`; one image only.
        """
        name = _name_of(image)
        picture = self.pixels(image, name)
        labels = self.predict(picture, name=name, **options)
        return self.drawn(picture.pixels, labels)

    def drawn(self, image: Pixels, labels: NDArray[np.uint8]) -> Image.Image:
        """Blend the colours of labels ``[H,W]`` into an image ``[H,W,C]``."""
        return overlay_picture(displayable(image, self.images.rgb), labels, self.palette, self.ignore_index)

    def _repr_html_(self) -> str:
        """Describe the predictor in notebooks: network, device, input channels, and classes with their colours."""
        swatch = "<li><span style='display:inline-block;width:1em;height:1em;background:rgb{}'></span> {}</li>"
        colours = zip(self.classes, self.palette, strict=True)
        rows = "".join(swatch.format(tuple(colour), html.escape(name)) for name, colour in colours)
        takes = html.escape(", ".join(self.images.channels))
        return f"<b>{type(self.model).__name__}</b> on {self.precision.device}, takes {takes}<ul>{rows}</ul>"

    def pixels(self, image: Any, name: str) -> Picture:
        """Convert an image to pixels ``[H,W,I]`` in the dtype of the training images, and the mask of missing data.

        A grey image is repeated to three channels if these are red, green and blue.

        Raises:
            DataError: the file cannot be read, or the array is not an image or has other channels or another dtype.
        """
        how, wanted, count = self.images, self.normalisation.dtype, len(self.normalisation.mean)
        of_file = isinstance(image, str | Path)
        if isinstance(image, str | Path):
            image = self.read(image)
        elif isinstance(image, Image.Image):
            image = of_pillow(image, name, how.bands)
        pixels, holes = image if isinstance(image, Picture) else (image, None)
        if not isinstance(pixels, np.ndarray):
            kind = type(image).__name__
            raise DataError(f"an image is a path, a {wanted} array [H,W,{count}] or a Pillow image, not {kind}")
        given = f"{pixels.dtype} {list(pixels.shape)}"
        pixels = pixels[..., None] if pixels.ndim == 2 and count == 1 else pixels
        if pixels.ndim == 3 and pixels.shape[2] == 1 and how.channels == RGB:
            pixels = pixels.repeat(3, axis=2)
        if wanted == "float32" and pixels.dtype in (np.int16, np.uint16, np.int32, np.uint32, np.float64):
            pixels = pixels.astype(np.float32)
        known = pixels.dtype in (np.uint8, np.float32) and pixels.ndim == 3 and pixels.size
        if known:
            self.refuse_other_depth(str(pixels.dtype), name)
        if not known or pixels.shape[2] != count:
            names = "RGB" if how.channels == RGB else first_few(how.channels, 12)
            raise DataError(f"an image is {names}, {wanted} [H,W,{count}]; this one is {given}")
        if isinstance(image, np.ndarray):  # treat it like a file, without changing the caller's array
            no_data = "void" if how.no_data == "stop" and self.normalisation.no_data else how.no_data
            written = no_data != "stop" and wanted == "float32"  # with_holes writes NaN where there is no data
            pixels, holes = with_holes(pixels.copy() if written else pixels, None, no_data, name)
        if of_file and self.is_out_of_range(pixels):
            text = "its values have another range than the training images, perhaps another unit"
            warnings.warn(f"{name}: {text}", stacklevel=3)
        return Picture(pixels, holes)

    def read(self, path: str | Path, most_pixels: int = most_pixels) -> Picture:
        """Read the run's bands of an image from a file, or from several: ``red.tif | nir.tif``.

        Raises:
            DataError: the file cannot be read, or is grey, but the run's images have several channels.
        """
        names = self.images.channels
        if len(names) > 1 and not {*RGB} & {*names} and read_header(path, most_pixels).is_grey:
            several = "where these lie in several files, give all as one path: a.tif | b.tif"
            raise DataError(f"{path}: a grey image, but an image of this run has {first_few(names, 12)}; {several}")
        return read_picture(path, most_pixels, self.images.bands, self.images.no_data)

    def refuse_other_depth(self, dtype: str, name: str) -> None:
        """Refuse 8-bit images if the model was trained on more bits, and the reverse.

        Raises:
            DataError: the training images had another dtype.
        """
        wanted = self.normalisation.dtype
        if dtype != wanted:
            depth = "8 bits" if wanted == "uint8" else "more than 8 bits"
            raise DataError(
                f"{name}: its values are {dtype}, but the model was trained on images of {depth} per channel "
                f"({wanted}); use images of the same dtype"
            )

    def is_out_of_range(self, image: Pixels) -> bool:
        """Whether a float32 image ``[H,W,I]`` has values in another unit or range than the training images."""
        return image.dtype == np.float32 and self.normalisation.is_far(moments(image.transpose(2, 0, 1)))


def _channels_first(image: Pixels) -> Tensor:
    """Return an image ``[H,W,C]`` as a tensor ``[C,H,W]``, in most cases without copying it."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def _refuse_not_finite(largest: Tensor, name: str) -> None:
    """Refuse NaN or infinite values in the per-pixel maximum of logits or probabilities."""
    if not torch.stack(largest.aminmax()).isfinite().all():
        raise NotFiniteError(name)


def _name_of(image: Any) -> str:
    return str(image) if isinstance(image, str | Path) else "the image"
