"""Pretrained encoder weights from a local file, whichever program saved it."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segkit.errors import ModelError, first_few, reason

# Layers that turn features into ImageNet's classes, and a counter that old files lack: an encoder can do without.
_HEADS = ("fc.", "classifier.", "head.", "head_dist.", "last_linear.", "_fc.", "aux", "norm.", "fc_norm.")
_COUNTER = "num_batches_tracked"


def load_encoder_weights(encoder: nn.Module, path: str | Path, besides: Collection[str] = ()) -> None:
    """Load ``path`` (.pth, .pt, .bin or .safetensors) into an encoder; every one of its tensors must be there.

    The file may hold a plain encoder, torchvision's or timm's classifier (its head is left out), a whole
    segmentation model or a training checkpoint: the part whose names fit best is taken.

    Args:
        encoder: Is given the weights.
        path: Where they are.
        besides: Names of tensors that the file may hold and the encoder lacks, other than those of usual heads.

    Raises:
        ModelError: the file is missing or damaged, holds more than tensors, or does not fit.
    """
    path = Path(path)
    found = {_plain(key): (key, value) for key, value in _tensors(_read(path)).items()}
    expected = encoder.state_dict()
    prefix = _prefix(found, [_plain(key) for key in expected])
    given = {key.removeprefix(prefix): pair for key, pair in found.items() if key.startswith(prefix)}
    weights = {key: given.pop(_plain(key))[1] for key in expected if _plain(key) in given}
    missing = [key for key in expected if key not in weights and not key.endswith(_COUNTER)]
    left = [name[len(prefix) :] for name, _ in given.values()]
    unexpected = [
        key for key in left if key not in besides and not key.startswith(_HEADS) and not key.endswith(_COUNTER)
    ]
    mismatched = [
        f"{key} {tuple(value.shape)} for {tuple(expected[key].shape)}"
        for key, value in weights.items()
        if value.shape != expected[key].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    problems = [f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in kinds.items() if keys]
    if problems:
        raise ModelError(f"{path} does not fit the encoder: {'; '.join(problems)}")
    try:
        encoder.load_state_dict({**expected, **weights})
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit the encoder: {error}") from error


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than tensors and plain values; it was not loaded") from error
    except MemoryError:
        raise
    except Exception as error:  # what torch raises at a file made for it is anything
        raise ModelError(f"{path} holds no weights, or damaged ones: {reason(error)}") from error


def _tensors(content: Any) -> dict[str, Tensor]:
    """The state dict in a checkpoint, which may lie a level deeper; averaged weights are preferred."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("ema", "state_dict_ema", "model_ema", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    return {str(key): value for key, value in content.items() if is_dense(value)}


def is_dense(value: object) -> bool:
    """Whether a value is a tensor of numbers that are there: a sparse or a "meta" one leaves weights as they were."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _plain(key: str) -> str:
    """timm's feature extractors call ``stages_0`` what its classifiers call ``stages.0``."""
    return key.replace("_", ".")


def _prefix(found: Collection[str], expected: list[str]) -> str:
    """What stands before the encoder's names in the file, as ``encoder.`` or ``module.``: the one that fits most."""
    prefixes = {""} | {key.removesuffix(expected[0]) for key in found if key.endswith("." + expected[0])}
    return max(sorted(prefixes), key=lambda prefix: sum(prefix + key in found for key in expected))
