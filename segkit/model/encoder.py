"""Weights from a local file, whoever wrote it, and parameters of an encoder that are not to be trained."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from segkit.errors import CheckpointError, ModelError, first_few, reason

# Layers that turn features into ImageNet's classes, and a counter that old files lack: an encoder can do without.
_HEADS = ("fc.", "classifier.", "head.", "head_dist.", "last_linear.", "_fc.", "aux", "norm.", "fc_norm.")
_COUNTER = "num_batches_tracked"


def load_encoder_weights(encoder: nn.Module, path: str | Path, besides: Collection[str] = ()) -> None:
    """Load ``path`` (.pth, .pt, .bin or .safetensors) into an encoder; every one of its tensors must be there.

    The file may hold a plain encoder, torchvision's or timm's classifier (its head is left out), a whole segmentation
    model or a training checkpoint: the part whose names fit best is taken.

    Args:
        encoder: is given the weights.
        path: where they are.
        besides: names of tensors that the file may hold and the encoder lacks, other than those of usual heads.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors.
        ModelError: it does not fit.
    """
    path, expected = Path(path), encoder.state_dict()
    weights, left = fitting(expected, tensors_of(read_file(path)))
    missing = [key for key in expected if key not in weights and not key.endswith(_COUNTER)]
    unknown = [key for key in left if key not in besides and not key.startswith(_HEADS) and not key.endswith(_COUNTER)]
    if told := misfits(expected, weights, missing, unknown):
        raise ModelError(f"{path} does not fit the encoder: {told}")
    encoder.load_state_dict({**expected, **weights})


def fitting(names: Collection[str], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file by a network's own names for them, and the names of those it has no use for.

    Either may put something before the names, as "encoder." or "module.": what gives the most fits is taken away.
    """
    if tensors.keys() == set(names):
        return dict(tensors), []
    plain = {_plain(key): (key, value) for key, value in tensors.items()}
    own = [_plain(key) for key in names]
    shifts, parts = {("", "")}, own[0].split(".")  # what a file puts before its names, and the network before its own
    for cut in range(max(1, len(parts) - 1)):
        rest, ours = ".".join(parts[cut:]), "".join(f"{part}." for part in parts[:cut])
        alike = [
            key for key in plain if key == rest or (key.endswith(f".{rest}") and (cut == 0 or len(parts) > cut + 2))
        ]
        shifts |= {(key.removesuffix(rest), ours) for key in alike}

    def moved(shift: tuple[str, str]) -> dict[str, tuple[str, Tensor]]:
        theirs, ours = shift
        return {ours + key.removeprefix(theirs): pair for key, pair in plain.items() if key.startswith(theirs)}

    shift = max(sorted(shifts), key=lambda each: len(moved(each).keys() & set(own)))
    given = moved(shift)
    found = {key: given.pop(_plain(key))[1] for key in names if _plain(key) in given}
    return found, [key[len(shift[0]) :] for key, _ in given.values()]


def misfits(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], missing: Collection[str], unexpected: Collection[str]
) -> str:
    """What of the tensors that were ``found`` for a network does not fit it, in words; empty where all does."""
    pairs = {key: (tuple(value.shape), tuple(expected[key].shape)) for key, value in found.items()}
    problems = {
        "missing": list(missing),
        "unexpected": list(unexpected),
        "of another shape": [f"{key} {given} for {own}" for key, (given, own) in pairs.items() if given != own],
    }
    return "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)


def read_file(path: Path) -> Any:
    """What a file of PyTorch or safetensors holds, on the CPU; no code in it is run.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():  # to open a pipe would wait for ever
        raise CheckpointError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file:
            begins = file.read(2)
        if begins == b"PK":
            refuse_damage(path)
        elif not begins.startswith(b"\x80"):  # of a pickle, as PyTorch once wrote them
            raise ValueError("it begins as no file that PyTorch has saved")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors and plain values; it was not loaded") from error
    except MemoryError:
        raise
    except Exception as error:  # what is raised for a file that was made to harm is anything
        raise CheckpointError(f"{path} is no file of weights, or is damaged: {reason(error)}") from error


def refuse_damage(path: Path) -> None:
    """Compare the parts of a file of PyTorch with their checksums, which torch.load does not look at.

    Raises:
        OSError, zipfile.BadZipFile: it is not as it was written.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise OSError("it is compressed")  # torch compresses nothing; a few kB would unpack to any size
        # torch would take what is marked as a folder for one, and read what happens to be in the memory
        marked = next((part.filename for part in parts if part.external_attr), None)
        if damaged := marked or archive.testzip():
            raise OSError(f"{damaged} in it is not what was written")


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The state dict in what a file holds, which may lie some levels deeper; averaged weights are preferred."""
    if not isinstance(content, Mapping):
        return {}
    for key in ("ema", "average", "state_dict_ema", "model_ema", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            return tensors_of(content[key])
    return {str(key): value for key, value in content.items() if is_dense(value)}


def is_dense(value: object) -> bool:
    """Whether a value is a tensor that holds numbers; sparse and "meta" ones would leave weights as they were."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _plain(key: str) -> str:
    """timm's feature extractors call ``stages_0`` what its classifiers call ``stages.0``; torch.compile adds a part."""
    return key.replace("_orig_mod.", "").replace("_", ".")


def freeze_unused(network: nn.Module, part: nn.Module, image_shape: tuple[int, int, int, int]) -> None:
    """Set ``requires_grad = False`` on the parameters of a part of a network that no gradient can reach.

    They stay in the state_dict, so that weights of others fit. Found by one forward pass in evaluation on torch's meta
    device, which computes nothing; where a network does not run there, all stay as they are.
    """
    parameters, own = dict(network.named_parameters()), set(part.parameters())
    meta = {
        name: torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)
        for name, tensor in [*parameters.items(), *network.named_buffers()]
    }
    names = [name for name, each in parameters.items() if each in own and each.requires_grad]
    training = network.training
    try:
        with torch.enable_grad():
            output = functional_call(network.eval(), meta, (torch.empty(image_shape, device="meta"),))
            gradients = torch.autograd.grad(output.sum(), [meta[name] for name in names], allow_unused=True)
    except Exception:  # a layer without an implementation for the meta device, or one that reads values
        return
    finally:
        network.train(training)
    for name, gradient in zip(names, gradients, strict=True):
        parameters[name].requires_grad_(gradient is not None)
