"""In which arithmetic float32 is multiplied: strictly, or in TF32, which torch allows convolutions by default."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from segkit.engine.precision import Precision, resolve_precision
from segkit.errors import ConfigError, TrainingError

NAMES = ("fp32", "tf32", "bf16", "fp16")


@contextmanager
def arithmetic(name: str, deterministic: bool = False) -> Iterator[None]:
    """Compute as a run does, with cuDNN's search for the fastest algorithm; all is put back at the end.

    Args:
        name: ``fp32`` is strict, ``tf32`` is allowed everywhere; of any other, float32 is left as it is.
        deterministic: as ``train.deterministic``: no search.
    """
    allowed, searched = _allowed(), torch.backends.cudnn.benchmark
    try:
        if name in ("fp32", "tf32"):
            _allow("highest" if name == "fp32" else "high", name == "tf32")
        torch.backends.cudnn.benchmark = not deterministic
        yield
    finally:
        _allow(*allowed)
        torch.backends.cudnn.benchmark = searched


def precision_of(name: str, device: torch.device) -> Precision:
    """The engine's precision: of TF32 it is fp32."""
    return resolve_precision("fp32" if name == "tf32" else name, device)


def unavailable(name: str, device: torch.device) -> str:
    """Why a device does not have a precision; empty where it has it."""
    if name == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        return "TF32 is a format of CUDA cards, from Ampere on"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this card has no bf16"
    try:
        precision_of(name, device)
    except ConfigError as error:
        return str(error).partition('" ')[2]
    return ""


def outcome(measurement: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it returns, or ``left_out`` with a reason: too much memory, a setting that cannot be, no finite loss."""
    try:
        return measurement()
    except torch.OutOfMemoryError:
        return {"left_out": "out of memory; a smaller train.batch_size or augment.crop may fit"}
    except (ConfigError, TrainingError) as error:
        return {"left_out": str(error)}


def row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns, the first one to the left, the others to the right."""
    first, *others = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


# The older of torch's two interfaces: it keeps both in step, and what reads the older one after the newer was set may
# raise (the compiler of torch 2.9 does). Until 2.12 or so a warning asks for the newer one.


def _allowed() -> tuple[str, bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def _allow(products: str, convolutions: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
