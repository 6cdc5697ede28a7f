"""The whole prediction as one module that exporters can follow, and its graph: stored pixels in, labels or logits out.

The same steps as :meth:`segkit.inference.predictor.Predictor.logits`, in float32, without a branch on the image's size.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import ModelError, SegkitError
from segkit.inference.predictor import Predictor

Free = dict[int, str]  # dimensions of [B,I,H,W] that an exported graph leaves open, by name
FREEDOMS: tuple[Free, ...] = ({0: "batch", 2: "height", 3: "width"}, {0: "batch"}, {})  # the most first


class Deployed(nn.Module):
    """Normalisation, resizing, the model and the likeliest class: pixels ``[B,I,H,W] -> [B,H,W]`` or ``[B,C,H,W]``.

    Args:
        predictor: whose model, resize, normalisation and temperature are taken.
        logits: return them, float32, divided by the temperature, instead of labels, uint8.
        any_size: pad here to what the model wants, by arithmetic on H and W that exporters can follow; else the model
            pads, and branches on the size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor, *, logits: bool, any_size: bool) -> None:
        super().__init__()
        how, self.model, self.resize = predictor.normalisation, predictor.model, predictor.resize
        self.logits, self.temperature = logits, predictor.inferer.temperature
        self.dtype, self.no_data = getattr(torch, how.dtype), how.no_data
        self.multiple, least = (
            1,
            0,
        )  # what a model pads the sides to a multiple of, and the least side, where it says so
        if any_size and not isinstance(self.resize, (list, tuple)):
            self.multiple, least = getattr(self.model, "multiple", 1), getattr(self.model, "least", 0)
        factor = self.resize if isinstance(self.resize, (int, float)) else 1.0
        self.least = max(2, math.ceil(max(self.multiple + 1, least) / factor))  # pixels a side, where it may be any
        for name in ("mean", "std"):  # Normalisation keeps its own, even while traced
            self.register_buffer(name, torch.tensor(getattr(how, name)).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Pixels ``[B,I,H,W]`` -> labels uint8 ``[B,H,W]`` or logits float32 ``[B,C,H,W]``."""
        height, width = image.shape[-2:]
        values = image.float()
        if self.dtype == torch.float32:  # before they are resized: sums of large values that are alike lose digits
            values = (values - self.mean) / self.std
        rows, columns = resized_sides(height, width, self.resize)
        if self.resize is not None:
            values = F.interpolate(values, (rows, columns), mode="bilinear", antialias=True, align_corners=False)
        if self.dtype == torch.uint8:
            if self.resize is not None:
                values = (values + (0.5 + 2**-10)).floor()  # as segkit.data.resize rounds
            values = (values / 255 - self.mean) / self.std
        if self.no_data:
            values = torch.where(values.isnan(), 0.0, values)
        output = self.model(self._padded(values))
        logits = (output["out"] if isinstance(output, dict) else output).float()  # [B,C,h,w] or more
        if self.resize is None:
            return self._cropped(self._answer(logits), height, width)
        logits = self._cropped(logits, rows, columns)
        return self._answer(F.interpolate(logits, (height, width), mode="bilinear", align_corners=False))

    def _answer(self, logits: Tensor) -> Tensor:
        return logits / self.temperature if self.logits else logits.argmax(1).to(torch.uint8)

    def _padded(self, image: Tensor) -> Tensor:
        """As :func:`segkit.model.layers.pad_to_multiple`, of sides that are longer than what is added."""
        for dimension in (-2, -1) if self.multiple > 1 else ():
            side = image.shape[dimension]
            whole = self.multiple * ((side + self.multiple - 1) // self.multiple)
            folded = side - 1 - (torch.arange(whole) - (side - 1)).abs()  # ... 7 8 9 8 7 ...
            image = image.index_select(dimension, folded)
        return image

    def _cropped(self, x: Tensor, height: int, width: int) -> Tensor:
        """``[...,H,W] -> [...,height,width]``; a slice would ask which of the two is longer."""
        if self.multiple == 1:
            return x
        return x.index_select(-2, torch.arange(height)).index_select(-1, torch.arange(width))


def resized_sides(height: int, width: int, resize: float | Sequence[int] | None) -> tuple[int, int]:
    """As :func:`segkit.data.resize.resized_size`, by whole numbers that may be symbols."""
    if resize is None:
        return height, width
    if not isinstance(resize, (int, float)):
        return int(resize[0]), int(resize[1])
    factor = Fraction(str(resize))  # 0.3 as it was written
    return _rounded(height, factor), _rounded(width, factor)


def _rounded(side: int, factor: Fraction) -> int:
    """``round(side * factor)``, halves to the even number: the odd numbers from x.5 on, and the even ones at x.5."""
    twice, whole = 2 * side * factor.numerator, factor.denominator
    return (twice + 3 * whole - 1) // (4 * whole) + (twice + whole) // (4 * whole)


def trace(module: Deployed, image: Tensor, free: Free) -> torch.export.ExportedProgram:
    """The graph of a module in evaluation mode, with some dimensions of the image ``[B,I,H,W]`` left open.

    Raises:
        ModelError: torch.export cannot follow it.
    """
    dimensions = {number: torch.export.Dim(name, min=number and module.least) for number, name in free.items()}
    with quiet("torch.export cannot follow the model"), torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes={"image": dimensions})


@contextlib.contextmanager
def quiet(failure: str) -> Iterator[None]:
    """Keep what torch's exporters print off the terminal, and say in a line what they cannot do.

    Raises:
        ModelError: in place of whatever is raised; its message begins with ``failure``.
    """
    before, nowhere = logging.root.manager.disable, io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        except (SegkitError, MemoryError, OSError):
            raise
        except Exception as error:
            first: BaseException = error
            while first.__cause__ is not None:  # what began it; torch's own goes on for pages
                first = first.__cause__
            text = str(first).strip().partition("\n")[0][:200]
            raise ModelError(f"{failure}: {type(error).__name__}: {text}") from error
        finally:
            logging.disable(before)
