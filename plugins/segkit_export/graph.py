"""The whole prediction as one module that exporters can trace: stored pixels in, labels or logits out.

The steps are those of :class:`segkit.inference.predictor.Predictor`, in float32, without branches on the size.
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

Free = dict[int, str]  # dynamic dimensions of [B,I,H,W] -> names
FREEDOMS: tuple[Free, ...] = ({0: "batch", 2: "height", 3: "width"}, {0: "batch"}, {})  # most dynamic dimensions first


class Deployed(nn.Module):
    """Normalisation, resizing, the model and argmax: pixels ``[B,I,H,W] -> [B,H,W]`` or ``[B,C,H,W]``.

    Args:
        predictor: provides the model, resize, normalisation and temperature.
        logits: return logits (float32, divided by the temperature) instead of labels (uint8).
        any_size: pad to the model's multiple here, with arithmetic on H and W that exporters can trace; else the model
            pads by itself, with branches on the size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, predictor: Predictor, *, logits: bool, any_size: bool) -> None:
        super().__init__()
        how, self.model, self.resize = predictor.normalisation, predictor.model, predictor.resize
        self.logits, self.temperature = logits, predictor.inferer.temperature
        self.dtype, self.no_data = getattr(torch, how.dtype), how.no_data
        # The multiple to which the model pads H and W, and their minimum, if the model declares them.
        self.multiple, least = 1, 0
        if any_size and not isinstance(self.resize, (list, tuple)):
            self.multiple, least = getattr(self.model, "multiple", 1), getattr(self.model, "least", 0)
        factor = self.resize if isinstance(self.resize, (int, float)) else 1.0
        self.least = max(2, math.ceil(max(self.multiple + 1, least) / factor))  # minimum of H and W, if dynamic
        for name in ("mean", "std"):  # buffers, which the exported graph stores
            self.register_buffer(name, torch.tensor(getattr(how, name)).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Pixels ``[B,I,H,W]`` -> labels uint8 ``[B,H,W]`` or logits float32 ``[B,C,H,W]``."""
        height, width = image.shape[-2:]
        values = image.float()
        if self.dtype == torch.float32:  # before resizing: sums of large, similar values lose digits
            values = (values - self.mean) / self.std
        rows, columns = resized_sides(height, width, self.resize)
        if self.resize is not None:
            values = F.interpolate(values, (rows, columns), mode="bilinear", antialias=True, align_corners=False)
        if self.dtype == torch.uint8:
            if self.resize is not None:
                values = (values + (0.5 + 2**-10)).floor()  # rounds like segkit.data.resize
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
        """Pad like :func:`segkit.model.layers.pad_to_multiple`; each side must be longer than its padding."""
        for dimension in (-2, -1) if self.multiple > 1 else ():
            side = image.shape[dimension]
            whole = self.multiple * ((side + self.multiple - 1) // self.multiple)
            folded = side - 1 - (torch.arange(whole) - (side - 1)).abs()  # ... 7 8 9 8 7 ...
            image = image.index_select(dimension, folded)
        return image

    def _cropped(self, x: Tensor, height: int, width: int) -> Tensor:
        """``[...,H,W] -> [...,height,width]``; a slice would branch on the sizes."""
        if self.multiple == 1:
            return x
        return x.index_select(-2, torch.arange(height)).index_select(-1, torch.arange(width))


def resized_sides(height: int, width: int, resize: float | Sequence[int] | None) -> tuple[int, int]:
    """Compute :func:`segkit.data.resize.resized_size` in integer arithmetic, so that sizes may be symbolic."""
    if resize is None:
        return height, width
    if not isinstance(resize, (int, float)):
        return int(resize[0]), int(resize[1])
    factor = Fraction(str(resize))  # 0.3 means exactly 3/10
    return _rounded(height, factor), _rounded(width, factor)


def _rounded(side: int, factor: Fraction) -> int:
    """Round ``x = side * factor``, halves to even: count the odd n below x + 0.5, and the even n up to x + 0.5."""
    twice, whole = 2 * side * factor.numerator, factor.denominator
    return (twice + 3 * whole - 1) // (4 * whole) + (twice + whole) // (4 * whole)


def trace(module: Deployed, image: Tensor, free: Free) -> torch.export.ExportedProgram:
    """Trace a module in evaluation mode, with ``free`` as dynamic dimensions of the image ``[B,I,H,W]``.

    Raises:
        ModelError: torch.export cannot trace it.
    """
    dimensions = {number: torch.export.Dim(name, min=number and module.least) for number, name in free.items()}
    with quiet("torch.export cannot follow the model"), torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes={"image": dimensions})


@contextlib.contextmanager
def quiet(failure: str) -> Iterator[None]:
    """Silence the output of torch's exporters, and reduce their errors to one line.

    Raises:
        ModelError: replaces the exception raised; its message begins with ``failure``.
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
            while first.__cause__ is not None:  # the root cause; torch's own message has pages
                first = first.__cause__
            text = str(first).strip().partition("\n")[0][:200]
            raise ModelError(f"{failure}: {type(error).__name__}: {text}") from error
        finally:
            logging.disable(before)
