"""A trained model with all it takes to use it: image in, labels out, at the image's own size."""

from __future__ import annotations

import functools
import html
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segkit.data.normalise import displayable, moments
from segkit.data.read import MAX_PIXELS, Picture, Pixels, of_pillow, places_of, read_header, read_picture, with_holes
from segkit.data.resize import resized_part
from segkit.data.sample import RGB, RGB_IMAGES, Colour, ImageFormat, channel_names
from segkit.data.visualize import overlay_picture
from segkit.engine.precision import pick_device, resolve_precision, use_cpu
from segkit.errors import DataError, NotFiniteError, first_few
from segkit.inference.options import PredictOptions
from segkit.inference.sliding_window import Crop, Inferer, Patch, likeliest


class Predictor:
    """Runs a model on single images, in the way that evaluation does.

    Args:
        model: ``[B,I,H,W]`` -> logits ``[B,C,H,W]``; it is moved to the device and put into eval mode.
        classes: names, one a channel of the logits.
        palette: an RGB triple a class, for pictures.
        ignore_index: the label of void in masks; never predicted.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        on_cpu: what ``auto`` is on a CPU: that of the run.
        stored: of each class the labels, or RGB triples, that the run's masks store for it; None where unknown.
        images: which channels they have, and how they are read and shown.
        how: ``resize``, ``crop`` and ``normalisation``, as in training, and ``temperature``: see :class:`Inferer`.

    Attributes:
        inferer: applies the model to images of any size.
        most_pixels: of an image, 20,000 x 20,000: 1.2 GB as RGB, 2.8 while it is read. Data sets allow fewer; this file
            was named by hand.

    Raises:
        ConfigError: no such device, or it lacks the precision.
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
        """The likeliest class of each pixel, uint8 ``[H,W]``, void where there is no data; of several images a list.

        Args:
            image: the path of a file, which is read upright, and whose bands are the run's; of an image whose channels
                lie in several files all their paths in one text, ``"red/a.tif | nir/a.tif"``; the run's channels
                ``[H,W,C]``, uint8 or numbers of more than 8 bits, as an array, or as what has its ``shape`` and
                ``dtype`` and is read where its rows are sliced; a Pillow image; what ``read_picture`` returns; or a
                list of these, or whatever else gives one after the other.
            name: what errors call the image; left out: its path, or "the image".
            progress: what the progress bar of the tiles is called; none is shown without it.
            options: ``tile``, ``overlap``, ``batch_size``, ``flips`` and ``scales``, as :class:`PredictOptions` says.

        Raises:
            ConfigError: an option is not allowed.
            DataError: the file cannot be read, or the array is no image.
            ModelError: the model does not return a channel a class.
            NotFiniteError: its output is NaN or infinite.
        """
        many = isinstance(image, Iterable) and not isinstance(image, str | np.ndarray | Picture | Image.Image | Tensor)
        if many and len(getattr(image, "shape", ())) < 2:  # of h5py and zarr, what can be sliced gives its rows too
            return [self.predict(each, progress=progress, **options) for each in image]
        name = name or _name_of(image)
        picture = self.pixels(image, name)
        labels = np.empty(picture.pixels.shape[:2], np.uint8)
        for rows, columns, values in self._patches(picture.pixels, options, progress=progress):
            found, largest = likeliest(values)
            _refuse_not_finite(largest, name)
            labels[rows, columns] = found.cpu().numpy()
        if picture.holes is not None:
            labels[picture.holes] = self.ignore_index
        return labels

    @torch.inference_mode()
    def probabilities(self, image: Any, *, name: str = "", progress: str = "", **options: Any) -> NDArray[np.float32]:
        """The probability of each class at each pixel, float32 ``[C,H,W]``: of 4,000 x 3,000 and 21 classes 1 GB.

        Args and Raises are those of :meth:`predict`, of one image.
        """
        name = name or _name_of(image)
        pixels = self.pixels(image, name).pixels
        found = np.empty((len(self.classes), *pixels.shape[:2]), np.float32)
        for rows, columns, values in self._patches(pixels, options, progress=progress, softmax=True):
            _refuse_not_finite(values.amax(0), name)
            found[:, rows, columns] = values.cpu().numpy()
        return found

    @torch.inference_mode()
    def logits(self, image: Any) -> Tensor:
        """Of an image that is seen whole, float32 ``[C,H,W]`` on the device; Args and Raises as :meth:`predict`."""
        pixels = self.pixels(image, _name_of(image)).pixels
        return torch.cat([values.float() for *_, values in self._patches(pixels, {"tile": 0})], 1)

    def overlay(self, image: Any, **options: Any) -> Image.Image:
        """The image under the colours of its predicted classes, which a notebook shows.

        Args and Raises are those of :meth:`predict`, of one image.
        """
        name = _name_of(image)
        picture = self.pixels(image, name)
        labels = self.predict(picture, name=name, **options)
        return self.drawn(picture.pixels[:], labels)

    def drawn(self, image: Pixels, labels: NDArray[np.uint8]) -> Image.Image:
        """An image ``[H,W,C]`` under the colours of its labels ``[H,W]``."""
        return overlay_picture(displayable(image, self.images.rgb), labels, self.palette, self.ignore_index)

    def _repr_html_(self) -> str:
        """For notebooks: the network, what it takes, and its classes in their colours."""
        swatch = "<li><span style='display:inline-block;width:1em;height:1em;background:rgb{}'></span> {}</li>"
        colours = zip(self.classes, self.palette, strict=True)
        rows = "".join(swatch.format(tuple(colour), html.escape(name)) for name, colour in colours)
        takes = html.escape(", ".join(self.images.channels))
        return f"<b>{type(self.model).__name__}</b> on {self.precision.device}, takes {takes}<ul>{rows}</ul>"

    def pixels(self, image: Any, name: str) -> Picture:
        """``[H,W,I]`` of the type that the model was trained on, and where there is no data.

        Grey is repeated where the model takes three channels. What is read where it is sliced is not read here; it has
        to be of that type, and may say in ``holes`` where the rows that were read have no data.

        Raises:
            DataError: the file cannot be read, the array is no image, or it has other channels or another depth.
        """
        how, wanted, count = self.images, self.normalisation.dtype, len(self.normalisation.mean)
        of_file = isinstance(image, str | Path)
        if isinstance(image, str | Path):
            image = self.read(image)
        elif isinstance(image, Image.Image):
            image = of_pillow(image, name, how.bands)
        pixels, holes = getattr(image, "pixels", image), getattr(image, "holes", None)
        if isinstance(pixels, Tensor) or not all(hasattr(pixels, part) for part in ("shape", "dtype", "__getitem__")):
            kind = type(image).__name__
            raise DataError(f"an image is a path, an array {wanted} [H,W,{count}], or Pillow's; not {kind}")
        given = f"{pixels.dtype} {list(pixels.shape)}"
        if isinstance(pixels, np.ndarray):
            pixels = pixels[..., None] if pixels.ndim == 2 and count == 1 else pixels
            if pixels.ndim == 3 and (pixels.shape[2], count) == (1, 3):
                pixels = pixels.repeat(3, axis=2)
            if wanted == "float32" and pixels.dtype in (np.int16, np.uint16, np.int32, np.uint32, np.float64):
                pixels = pixels.astype(np.float32)
        known = pixels.dtype in (np.uint8, np.float32) and len(pixels.shape) == 3 and min(pixels.shape)
        if known:
            self.refuse_other_depth(str(pixels.dtype), name)
        if not known or pixels.shape[2] != count:
            names = "RGB" if how.channels == RGB else first_few(how.channels, 12)
            raise DataError(f"an image is {names}, {wanted} [H,W,{count}]; this one is {given}")
        if isinstance(image, np.ndarray):  # as a file's, and the caller's array stays as it is
            no_data = "void" if how.no_data == "stop" and self.normalisation.no_data else how.no_data
            written = no_data != "stop" and wanted == "float32"  # where there is no data
            pixels, holes = with_holes(pixels.copy() if written else pixels, None, no_data, name)
        if of_file and self.is_out_of_range(pixels):
            text = "its values are of another range than those the model was trained on, perhaps of another unit"
            warnings.warn(f"{name}: {text}", stacklevel=3)
        return Picture(pixels, holes)

    def read(self, path: str | Path, most_pixels: int = most_pixels) -> Picture:
        """An image from its file, or from several as :func:`segkit.data.read.places_of` says, with the run's bands.

        Raises:
            DataError: it cannot be read, or is one of several files of an image.
        """
        how = self.images
        if len(places_of(path)) < min(2, len(how.files)) and read_header(path, most_pixels).is_grey:
            what = "one grey file, and the channels of this run's images lie in several"
            raise DataError(f'{path}: {what}; give these as one path, "{" | ".join(how.files)}"')
        return read_picture(path, most_pixels, how.bands, how.no_data)

    def refuse_other_depth(self, dtype: str, name: str) -> None:
        """Refuse 8 bits a channel where the model was trained on more, and the reverse.

        Raises:
            DataError: the images of the training had another type.
        """
        wanted = self.normalisation.dtype
        if dtype != wanted:
            depth = "8 bits" if wanted == "uint8" else "more than 8 bits"
            raise DataError(
                f"{name}: its values are {dtype}, and the model was trained on images of {depth} a channel "
                f"({wanted}); give images of the same kind"
            )

    def is_out_of_range(self, image: Pixels) -> bool:
        """Whether float32 ``[H,W,I]`` have values of another unit or range than those the model was trained on."""
        return image.dtype == np.float32 and self.normalisation.is_far(moments(image.transpose(2, 0, 1)))

    def _patches(self, image: Pixels, options: dict[str, Any], **how: Any) -> Iterator[Patch]:
        return self.inferer.predict(crop_of(image), image.shape[:2], PredictOptions(**options), **how)


class _Channels:
    """An image ``[C,H,W]`` of which rows are read where it is sliced; those of the last few slices are kept."""

    device = torch.device("cpu")

    def __init__(self, image: Pixels) -> None:
        self.shape = (image.shape[2], *image.shape[:2])

        @functools.lru_cache(4)  # windows side by side, and their views
        def read(first: int, last: int) -> Tensor:
            rows = np.ascontiguousarray(image[first:last])
            return torch.from_numpy(rows if rows.flags.writeable else rows.copy()).permute(2, 0, 1)  # else torch warns

        self._read = read

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Tensor:
        _, rows, columns = key
        return self._read(rows.start, rows.stop)[:, :, columns]


def crop_of(image: Pixels) -> Crop:
    """Parts of an image ``[H,W,C]`` at any size, cut out of the whole at that size as evaluation has it.

    Of what is larger than an evaluation reads, they are made one by one: no whole one has to fit into memory.
    """
    source: Any = _Channels(image)
    if image.shape[0] * image.shape[1] > MAX_PIXELS or not isinstance(image, np.ndarray):
        return functools.partial(resized_part, source)
    whole = functools.cache(functools.partial(resized_part, source))
    return lambda size, rows, columns: whole(size)[:, slice(*rows), slice(*columns)]


def _refuse_not_finite(largest: Tensor, name: str) -> None:
    """Refuse the largest logits or probabilities of pixels where they are NaN or infinite."""
    if not torch.stack(largest.aminmax()).isfinite().all():
        raise NotFiniteError(name)


def _name_of(image: Any) -> str:
    return str(image) if isinstance(image, str | Path) else "the image"
