"""The rules of models: logits for images of any size, that learn, and that can be kept, moved and exported.

Networks are asked as they are built, untrained, on small images: 64 x 64 pixels, and odd sizes beside that.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from segkit.errors import first_few
from segkit.testing.check import CheckFailed, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.forward import (
    NUM_CLASSES,
    SIZE,
    OneDevice,
    ValuesAsked,
    build,
    call,
    disturb,
    first_line,
    forward,
    images,
    mode,
    noise,
    require_finite,
    require_same,
    require_shape,
    seeded,
    train_once,
    words,
)


def logits(subject: Subject) -> None:
    """Images [B,3,H,W] become logits [B,num_classes,H,W]: floating-point, finite, of the images' height and width."""
    image = images(subject, 2)
    out = forward(build(subject), image)
    require_shape(out, image, NUM_CLASSES)
    require(
        out.is_floating_point(), f"the logits are {out.dtype}; a model returns a float for each class, not a choice"
    )
    require_finite(out, "of an untrained model")


def any_size(subject: Subject) -> None:
    """In evaluation an image may have any height and width, down to a single pixel."""
    model = build(subject)
    for size in ((65, 63), (33, 48), (1, 50), (1, 1)):
        image = images(subject, 1, size)
        out = forward(model, image)
        require_shape(out, image)
        require_finite(out, f"of {words(image)}")


def training_mode(subject: Subject) -> None:
    """train() and eval() switch and return the model, and in training a batch of two may have any size too."""
    model = build(subject)
    for training in (False, True):
        name = "train()" if training else "eval()"
        require(model.train(training) is model, f"{name} does not return the model itself, as torch's modules do")
        require(model.training == training, f"after {name} model.training is {model.training}")
    for size in (SIZE, (33, 47), (1, 1)):  # a batch of one may be too little for batch normalisation
        image = images(subject, 2, size)
        require_shape(forward(model, image), image)


def uses_num_classes(subject: Subject) -> None:
    """num_classes alone decides how many channels the logits have."""
    image = images(subject, 1)
    for count in (1, 2, 30):
        require_shape(forward(build(subject, count), image), image, count)


def uses_in_channels(subject: Subject) -> None:
    """in_channels, where the constructor has it, decides how many channels the image has."""
    if not subject.has_option("in_channels"):
        return
    for count in (1, 4):
        other = replace(subject, options={**subject.options, "in_channels": count})
        image = images(other, 1)
        require_shape(forward(build(other), image), image)


def no_probabilities(subject: Subject) -> None:
    """Logits are not limited to 0 to 1: softmax and sigmoid are the losses' business."""
    model = build(subject)
    disturb(model, 1.0)  # large weights, large logits, unless something holds them in 0 to 1
    out = forward(model, images(subject, 2))
    require(
        not (out.min() >= 0 and 0 < out.max() <= 1),
        f"all outputs are in 0 to 1 ({out.min():.3g} to {out.max():.3g}), whatever the weights: return logits, "
        "without softmax or sigmoid",
    )


def every_parameter_learns(subject: Subject) -> None:
    """Every parameter that is to be trained gets a gradient from the logits."""
    model = build(subject)
    disturb(model, 0.02)  # some networks begin with scales of 0, behind which nothing has a gradient
    model.train()
    out = forward(model, images(subject, 2), gradients=True)
    require(out.requires_grad, "the logits depend on no parameter: is there a no_grad() or detach() in forward?")
    torch.autograd.backward((out * noise(out.shape)).sum())
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = [name for name, parameter in wanted.items() if not _has_gradient(parameter)]
    require(
        not idle,
        f"{len(idle)} of {len(wanted)} parameters get no gradient: {first_few(idle)}; use them in forward, take them "
        "away, or set requires_grad = False where they are to stay as they are",
    )
    wild = [name for name, p in wanted.items() if p.grad is not None and not p.grad.isfinite().all()]
    require(not wild, f"the gradients of {len(wild)} of {len(wanted)} parameters are not finite: {first_few(wild)}")


def _has_gradient(parameter: nn.Parameter) -> bool:
    """The gradient of a bias may be 0: where a normalisation follows, it has no effect."""
    return parameter.grad is not None and (parameter.ndim < 2 or bool(parameter.grad.any()))


def deterministic(subject: Subject) -> None:
    """In evaluation an image has the same logits each time, however the random numbers fall."""
    model, image = build(subject), images(subject, 2)
    require_same(forward(model, image, seed=1), forward(model, image), "the same images asked twice in evaluation")


def independent_of_the_batch(subject: Subject) -> None:
    """In evaluation an image has the same logits whatever images are in the batch with it."""
    model, batch = build(subject), images(subject, 3)
    batch[1:] *= 5  # images that a statistic of the batch would notice
    require_same(forward(model, batch)[:1], forward(model, batch[:1]), "an image in a batch of three and alone")


def input_unchanged(subject: Subject) -> None:
    """The images given are not written to."""
    model, given = build(subject), images(subject, 2)
    for training in (False, True):
        image = given.clone()
        model.train(training)
        call(model, image)
        require(
            torch.equal(image, given),
            f"forward changed the images it was given, in {mode(model)}: do not work in place on them "
            "(image -= mean, nn.ReLU(inplace=True) as the first layer)",
        )


def same_seed_same_model(subject: Subject) -> None:
    """After the same torch.manual_seed two models have the same weights."""
    first, second = (
        {**dict(model.named_parameters()), **dict(model.named_buffers())} for model in (build(subject), build(subject))
    )
    other = [name for name, value in first.items() if name not in second or not torch.equal(value, second[name])]
    require(
        not other,
        f"two models built after the same torch.manual_seed differ in {first_few(other)}: take random numbers from "
        "torch only",
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
            return
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
    """With weights and images in channels_last, as a run has them, the logits are the same."""
    model, image = build(subject), images(subject, 2)
    expected = forward(model, image)
    model = model.to(memory_format=torch.channels_last)
    out = forward(model, image.contiguous(memory_format=torch.channels_last))
    require_same(out, expected, "the same images in channels_last and in the usual order")


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


RULES: tuple[Rule, ...] = (
    named_options,
    logits,
    any_size,
    training_mode,
    uses_num_classes,
    uses_in_channels,
    no_probabilities,
    every_parameter_learns,
    deterministic,
    independent_of_the_batch,
    input_unchanged,
    same_seed_same_model,
    state_dict,
    copies,
    no_fixed_device,
    bf16_autocast,
    channels_last,
    exportable,
)
