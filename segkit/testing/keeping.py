"""The rules of a model about what becomes of it: kept, copied, moved, run in other formats, exported."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segkit.errors import first_few
from segkit.testing.check import CheckFailed, NotAsked, Subject, require
from segkit.testing.forward import (
    OneDevice,
    ValuesAsked,
    build,
    first_line,
    forward,
    images,
    require_finite,
    require_same,
    seeded,
    train_once,
)


def state_dict(subject: Subject) -> None:
    """Its state_dict is all there is to keep: another instance that loads it has the same logits."""
    model, image = build(subject), images(subject, 2)
    train_once(model, image)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build(subject, seed=1)
    try:
        other.load_state_dict(torch.load(file, weights_only=True))
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckFailed(
            "its state_dict cannot be loaded into a new instance (by torch.load with weights_only = True): "
            f"{first_line(error)}"
        ) from error
    require_same(
        forward(other, image),
        forward(model, image),
        "a model and a new one with its state_dict",
        "; register as a parameter or a persistent buffer whatever the logits depend on",
    )


def copies(subject: Subject) -> None:
    """A pickled copy (for processes) and a deep copy (for averaged weights) have the same logits."""
    model, image = build(subject), images(subject, 2)
    train_once(model, image)
    expected = forward(model, image)
    ways: Mapping[str, Callable[[Any], Any]] = {
        "pickled": lambda one: pickle.loads(pickle.dumps(one)),
        "deep": copy.deepcopy,
    }
    for name, way in ways.items():
        try:
            other = way(model)
        except Exception as error:
            raise CheckFailed(f"no {name} copy can be made: {type(error).__name__}: {error}") from error
        require_same(forward(other, image), expected, f"a model and a {name} copy")


def no_fixed_device(subject: Subject) -> None:
    """Moved to another device, it computes there: forward makes no tensor on a device of its own choice."""
    model = build(subject).to("meta")  # a device that every machine has: it knows shapes and no values
    image = images(subject, 2).to("meta")
    try:
        with OneDevice():
            out = forward(model, image)
    except CheckFailed as error:
        if isinstance(error.__cause__, ValuesAsked):  # no fault of this kind, as far as can be told: see exportable
            raise NotAsked("forward reads values, which torch's meta device has none of: see exportable") from error
        raise CheckFailed(f"on another device (torch's meta): {error}") from error
    require(out.device == image.device, f"images on {image.device} have logits on {out.device}: leave them there")


def bf16_autocast(subject: Subject) -> None:
    """Under autocast to bfloat16 the logits are finite and near those in float32."""
    model, image = build(subject), images(subject, 2)
    expected = forward(model, image).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = forward(model, image).float()
    require_finite(out, "under bfloat16 autocast")
    error = ((out - expected).abs().mean() / expected.abs().mean().clamp_min(1e-30)).item()
    require(
        not error > 0.1,  # bfloat16 itself: 0.004 an operation, 0.02 after a hundred layers
        f"under bfloat16 autocast the logits are off by {error:.0%} on average: bfloat16 has three decimal digits; "
        "large sums and differences belong in float32 (x.float())",
    )


def channels_last(subject: Subject) -> None:
    """With weights and images in channels_last, as a run has them, the logits are the same, and the layout is kept.

    Kept by half of the convolutions at least: where transformers put tokens back into place, some is lost.
    """
    model, image = build(subject), images(subject, 2)
    expected = forward(model, image)
    model = model.to(memory_format=torch.channels_last)
    asked: list[str] = []
    lost: list[str] = []

    def look(name: str, given: Tensor) -> None:
        asked.append(name)
        if given.shape[1] > 1 and given[0, 0].numel() > 1:  # else every layout is the same
            lost.extend([name] * (not given.is_contiguous(memory_format=torch.channels_last)))

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    out = forward(model, image.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    require_same(out, expected, "the same images in channels_last and in the usual order")
    loses = any(isinstance(module, nn.modules.instancenorm._InstanceNorm) for module in model.modules())
    require(
        loses or len(lost) <= len(asked) / 2,  # torch's own instance normalisation does not keep it
        f"of {len(asked)} convolutions {len(lost)} are not given channels_last though the images are: "
        f"{first_few(lost)}; is there a contiguous() or clone() in forward that should keep the layout?",
    )


def exportable(subject: Subject) -> None:
    """torch.export makes a graph of it, at one size, that computes the same."""
    model, image = build(subject), images(subject, 2)
    with warnings.catch_warnings(), seeded(0):
        warnings.simplefilter("ignore")  # of torch's own parts
        try:
            program = torch.export.export(model, (image.clone(),), strict=False).module()
        except Exception as error:
            raise CheckFailed(
                f"torch.export cannot follow forward: {type(error).__name__}: {first_line(error)}; it may branch on "
                "shapes, not on values of tensors, and compute with torch only"
            ) from error
        other = image.flip(0) * 2  # a graph that kept what was computed for the first images is found out
        require_same(forward(program, other), forward(model, other), "the exported graph and the model")
