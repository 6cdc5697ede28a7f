"""Load encoder weights from a local file of any common layout, and freeze parameters that get no gradient."""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from segkit.errors import CheckpointError, ModelError, first_few, reason

_COUNTER = "num_batches_tracked"  # of BatchNorm; old files lack it


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load ``path`` (.pth, .pt, .bin or .safetensors) into an encoder; the file must hold all tensors of the encoder.

    The file may hold a plain encoder, a classifier of torchvision or timm, a whole segmentation model or a training
    checkpoint; the part whose names match best is used, and tensors that are left over are named on standard error.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors.
        ModelError: the weights do not fit.
    """
    path, expected = Path(path), encoder.state_dict()
    weights, rest = fitting(expected, tensors_of(read_file(path)))
    missing = [key for key in expected if key not in weights and not key.endswith(_COUNTER)]
    if misfits(expected, weights, missing, ()):
        raise ModelError(f"{path} does not fit the encoder: {misfits(expected, weights, missing, rest)}")
    if rest:
        print(f"{path}: {len(rest)} tensors have no place in the encoder: {first_few(rest)}", file=sys.stderr)
    encoder.load_state_dict({**expected, **weights})


def fitting(names: Collection[str], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Match a file's tensors to a network's names; return them by these names, and the names of unmatched tensors.

    The names of both may have a prefix such as "encoder." or "module."; the prefixes with the most matches are removed.

    Raises:
        ModelError: the file holds all tensors of the network under several prefixes, such as a student and its teacher.
    """
    if tensors.keys() == set(names):
        return dict(tensors), []
    plain = {_plain(key): (key, value) for key, value in tensors.items()}
    plain_names = [_plain(key) for key in names]
    prefix_pairs, parts = {("", "")}, plain_names[0].split(".")  # pairs of prefixes: the file's and the network's
    for cut in range(max(1, len(parts) - 1)):
        rest, network_prefix = ".".join(parts[cut:]), "".join(f"{part}." for part in parts[:cut])
        matching = [
            key for key in plain if key == rest or (key.endswith(f".{rest}") and (cut == 0 or len(parts) > cut + 2))
        ]
        prefix_pairs |= {(key.removesuffix(rest), network_prefix) for key in matching}

    def renamed(prefixes: tuple[str, str]) -> dict[str, tuple[str, Tensor]]:
        old, new = prefixes
        return {new + key.removeprefix(old): pair for key, pair in plain.items() if key.startswith(old)}

    candidates = {pair: renamed(pair) for pair in sorted(prefix_pairs)}
    (prefix, _), remaining = max(candidates.items(), key=lambda each: len(each[1].keys() & set(plain_names)))
    complete = {old for (old, _), each in candidates.items() if each.keys() >= set(plain_names)}
    if prefix and len(complete) > 1:
        raise ModelError(
            f"the file holds the weights several times, under {' and '.join(sorted(complete))}; save only one of them"
        )
    matched = {key: remaining.pop(_plain(key))[1] for key in names if _plain(key) in remaining}
    return matched, [key[len(prefix) :] for key, _ in remaining.values()]


def misfits(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], missing: Collection[str], unexpected: Collection[str]
) -> str:
    """Describe how the tensors ``found`` in a file do not fit a network; "" if all fit."""
    pairs = {key: (tuple(value.shape), tuple(expected[key].shape)) for key, value in found.items()}
    problems = {
        "missing": list(missing),
        "unexpected": list(unexpected),
        "of another shape": [f"{key} {one} for {other}" for key, (one, other) in pairs.items() if one != other],
    }
    return "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)


def read_file(path: Path) -> Any:
    """Read a PyTorch or safetensors file to the CPU without running code from it.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():  # opening a pipe would block forever
        raise CheckpointError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file:
            begins = file.read(2)
        if begins == b"PK":
            refuse_damage(path)
        elif not begins.startswith(b"\x80"):  # a pickle, PyTorch's old format
            raise ValueError("it does not begin like a file saved by PyTorch")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors and plain values; it was not loaded") from error
    except MemoryError:
        raise
    except Exception as error:  # a malicious file can cause any exception
        raise CheckpointError(f"{path} is not a weights file, or is damaged: {reason(error)}") from error


def refuse_damage(path: Path) -> None:
    """Verify the checksums in a PyTorch file, which torch.load ignores.

    Raises:
        OSError, zipfile.BadZipFile: the file has changed since it was written.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise OSError("it is compressed")  # torch never compresses; a few kB could unpack to any size
        # torch treats an entry marked as a folder as one, and would return uninitialised memory
        marked = next((part.filename for part in parts if part.external_attr), None)
        if damaged := marked or archive.testzip():
            raise OSError(f"{damaged} in it has changed since it was written")


def tensors_of(content: Any) -> dict[str, Tensor]:
    """Find the state dict in a file's content, also in nested dicts; averaged (EMA) weights are preferred."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("ema", "average", "state_dict_ema", "model_ema", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            return tensors_of(content[key])
    return {str(key): value for key, value in content.items() if is_dense(value)}


def is_dense(value: object) -> bool:
    """Whether a value is a dense CPU tensor; sparse and meta tensors would leave the weights unchanged."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _plain(key: str) -> str:
    """Unify names: timm has ``stages_0`` in feature extractors, ``stages.0`` in classifiers; torch.compile a prefix."""
    return key.replace("_orig_mod.", "").replace("_", ".")


def freeze_unused(network: nn.Module, part: nn.Module, image_shape: tuple[int, int, int, int]) -> None:
    """Set ``requires_grad = False`` on the parameters of a part of a network that no gradient can reach.

    They stay in the state_dict, so that pretrained weights fit. They are found by a forward pass in eval mode on the
    meta device, which computes nothing; if the network does not run there, nothing is changed.
    """
    parameters, part_parameters = dict(network.named_parameters()), set(part.parameters())
    meta = {
        name: torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)
        for name, tensor in [*parameters.items(), *network.named_buffers()]
    }
    names = [name for name, each in parameters.items() if each in part_parameters and each.requires_grad]
    training = network.training
    try:
        with torch.enable_grad():
            output = functional_call(network.eval(), meta, (torch.empty(image_shape, device="meta"),))
            gradients = torch.autograd.grad(output.sum(), [meta[name] for name in names], allow_unused=True)
    except Exception:  # a layer that lacks a meta implementation or reads values
        return
    finally:
        network.train(training)
    for name, gradient in zip(names, gradients, strict=True):
        parameters[name].requires_grad_(gradient is not None)
