"""Loads a predictor from a run folder, or from a weights file in it.

``config.json`` names the model as a config does, and the name is looked up among the installed
components: a folder from a stranger can select one of them, but cannot execute code of its own.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pydantic
from torch import Tensor, nn

from segkit.data.normalise import IMAGENET, Normalisation
from segkit.data.read import LABELS
from segkit.data.sample import RGB_IMAGES, ImageFormat
from segkit.engine import checkpoint
from segkit.engine.init_from import weights_file
from segkit.engine.run_folder import no_run, read_json
from segkit.errors import CheckpointError, ComponentNotFound, ConfigError, RunFolderError
from segkit.inference.predictor import Predictor
from segkit.model.encoder import tensors_of
from segkit.options import create, without_pretrained
from segkit.plugins import unmet_requirements
from segkit.registry import models
from segkit.settings import Count, Pair

_Byte = Annotated[int, pydantic.Field(ge=0, le=255)]  # masks are uint8, colours too
_Label = Annotated[int, pydantic.Field(ge=LABELS[0], le=LABELS[-1])]


class _Model(pydantic.BaseModel):
    name: str
    options: dict[str, Any] = {}
    distribution: str = ""
    version: str = ""


class _ModelFile(pydantic.BaseModel):
    """The content of ``config.json``; ``model`` is None if the model was given as an object. The rest configures it."""

    model: _Model | None
    num_classes: Annotated[int, pydantic.Field(ge=1, le=255)]
    ignore_index: _Byte
    classes: list[str]
    palette: tuple[tuple[_Byte, _Byte, _Byte], ...]
    precision: str = "auto"
    stored: list[list[_Label]] | list[list[tuple[_Byte, _Byte, _Byte]]] | None = None
    resize: Annotated[float, pydantic.Field(gt=0, le=8)] | Pair | None = None  # as in [data]
    crop: Count | Pair | None = None
    normalisation: Normalisation = IMAGENET  # the default is for folders that are older than this entry
    images: ImageFormat = RGB_IMAGES  # the default is for folders that are older than this entry
    temperature: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0  # another one after calibration


def load(
    place: str | Path | Sequence[str | Path],
    *,
    model: nn.Module | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Predictor:
    """Load the trained model of a run for prediction.

    Args:
        place: a run folder, whose best weights are loaded; or one of its files, such as ``last.pt``; or several of
            these, whose probabilities are averaged.
        model: a model of the same architecture, needed where the run was trained on a model object.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        RunFolderError: not a run folder, or one without weights; or several runs whose classes or images differ.
        CheckpointError: the weights are missing, damaged, unsafe or another model's.
        ComponentNotFound: the plugin that provides the model is not installed.
    """
    if not isinstance(place, str | Path):
        options: Any = {"device": device, "precision": precision}
        return _averaged({str(each): load(each, model=copy.deepcopy(model), **options) for each in place})
    file = weights_file(place)
    weights = _read(file)
    stored = _read_model_file(file.parent / "config.json")
    model = model or _build(stored, file.parent)
    checkpoint.load_weights(model, weights, str(file))
    known = {name: value for name, value in stored if name not in ("model", "num_classes", "precision")}
    return Predictor(model, device=device, precision=precision, on_cpu=stored.precision, **known)


def _averaged(predictors: Mapping[str, Predictor]) -> Predictor:
    """Turn the first of several predictors, given by the names of their runs, into their ensemble; return it.

    Raises:
        RunFolderError: the runs differ in their classes or in how they read their images.
    """
    (name, first), *others = predictors.items()
    for run, each in others:
        for what, value, wanted in (
            ("classes", each.classes, first.classes),
            ("ignore_index", each.ignore_index, first.ignore_index),
            ("data.resize", each.resize, first.resize),
            ("channels", each.images.channels, first.images.channels),
            ("data.bands", each.images.bands, first.images.bands),
            ("data.no_data", each.images.no_data, first.images.no_data),
            ("the image dtype", each.normalisation.dtype, first.normalisation.dtype),
        ):
            if value != wanted:
                problem = f"{what} must be the same, but they are {value!r} and {wanted!r}"
                raise RunFolderError(f"{run} and {name} cannot be averaged: {problem}")
    networks = [each.inferer for each in predictors.values()]
    first.inferer = replace(first.inferer, networks=networks, temperature=1.0)  # they have their own
    return first


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file() or path.suffix not in (".safetensors", ".pt"):
        raise RunFolderError(no_run(path))
    content = checkpoint.load(path)
    history = content.get("history") if isinstance(content, dict) else None
    if isinstance(history, dict) and history.get("lines") == []:
        warnings.warn(f"{path}: this run has not completed an epoch, so it has learned little or nothing", stacklevel=3)
    if not (weights := tensors_of(content)):
        raise CheckpointError(f"{path} holds no model")
    return weights


def _read_model_file(path: Path) -> _ModelFile:
    try:
        stored = _ModelFile.model_validate(read_json(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path} is damaged: {where}: {first['msg']}") from error
    if {stored.num_classes} != {*map(len, (stored.classes, stored.palette, stored.stored or stored.classes))}:
        raise RunFolderError(f"{path} is damaged: num_classes, classes, palette and stored differ in length")
    return stored


def _build(stored: _ModelFile, folder: Path) -> nn.Module:
    if stored.model is None:
        raise ConfigError(
            f"{folder} was trained on a model given as an object; "
            f"give a model of the same architecture: segkit.load({str(folder)!r}, model=...)"
        )
    try:
        component = models.find(stored.model.name)
    except ComponentNotFound as error:
        provider = stored.model.distribution
        missing = unmet_requirements([f"{provider}>={stored.model.version.partition('+')[0]}"] if provider else [])
        raise ComponentNotFound("\n".join([f"the model of {folder}: {error}", *missing])) from error
    options = without_pretrained(component, stored.model.options)
    given = {"num_classes": stored.num_classes, "ignore_index": stored.ignore_index, "classes": tuple(stored.classes)}
    model: nn.Module = create(component, options, {**given, "in_channels": len(stored.normalisation.mean)})
    return model
