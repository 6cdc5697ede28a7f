"""The rules of models: logits for images of any size, place by place, that learn.

Networks are asked as they are built, untrained, on small images: 64 x 64 pixels, and odd sizes beside that.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from segkit.errors import first_few
from segkit.testing import keeping
from segkit.testing.check import CheckFailed, NotAsked, Rule, Subject, require
from segkit.testing.constructor import named_options
from segkit.testing.forward import (
    NUM_CLASSES,
    SIZE,
    build,
    call,
    disturb,
    forward,
    images,
    mode,
    noise,
    require_finite,
    require_same,
    require_shape,
    train_once,
    words,
)

SEEDS = (0, 1)  # of the models that are asked for places
_SMALL = 0.01  # of the noise in an image


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
    """In evaluation an image may have any height and width: odd ones, a pixel more or less, down to a single pixel."""
    model = build(subject)
    for size in ((65, 63), (33, 48), (1, 50), (1, 1)):
        image = images(subject, 1, size)
        out = _of_a_size(model, image)
        require_shape(out, image)
        require_finite(out, f"of {words(image)}")


def _of_a_size(model: nn.Module, image: Tensor) -> Tensor:
    try:
        return forward(model, image)
    except CheckFailed as error:
        raise CheckFailed(
            f"{error}; a network that has a least size, or wants a multiple, pads the image to it and crops the logits"
        ) from error


def training_mode(subject: Subject) -> None:
    """train() and eval() switch and return the model, and in training a batch of two may have any size too."""
    model = build(subject)
    for training in (False, True):
        name = "train()" if training else "eval()"
        require(model.train(training) is model, f"{name} does not return the model itself, as torch's modules do")
        require(model.training == training, f"after {name} model.training is {model.training}")
    for size in (SIZE, (33, 47), (1, 1)):  # a batch of one may be too little for batch normalisation
        image = images(subject, 2, size)
        require_shape(_of_a_size(model, image), image)


def uses_num_classes(subject: Subject) -> None:
    """num_classes alone decides how many channels the logits have."""
    image = images(subject, 1)
    for count in (1, 2, 30):
        require_shape(forward(build(subject, count), image), image, count)


def uses_in_channels(subject: Subject) -> None:
    """in_channels, where the constructor has it, decides how many channels the image has."""
    if not subject.has_option("in_channels"):
        raise NotAsked("it has no option in_channels")
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


def looks_at_the_place(subject: Subject) -> None:
    """What changes in a part of the image changes the logits of that part most.

    Asked by a little noise on each quadrant in turn, of two untrained models: four of eight at least. The right ones
    come to seven or eight; a network whose features are mirrored to none, one that averages them over the image to two.
    """
    found = [hit for seed in SEEDS for hit in _places_found(subject, seed)]
    require(
        sum(found) >= 4,
        f"of 8 parts of images that were changed, the logits of the same part changed most in {sum(found)}: forward "
        "mixes up places; look for a reshape or view of the wrong order, a flip, or a mean over the image",
    )


def _places_found(subject: Subject, seed: int) -> list[bool]:
    """Of one model, for each quadrant of an image whether the logits there are those that change most with it.

    The change is small, so that what a network knows of the whole image (pooling, gates) hardly moves. Where a quadrant
    was negated, that drowned what is local in networks whose running statistics follow slowly, as torchvision's
    DeepLabV3.
    """
    height, width = 64, 96  # of a quadrant; not square, or an image that is transposed would fit
    model = build(subject, seed=seed)
    disturb(model, 0.02, zeros_alone=True)  # as a classifier may begin with
    train_once(model, images(subject, 2, (2 * height, 2 * width)))  # else running statistics hold nothing
    image = images(subject, 1, (2 * height, 2 * width))
    try:
        before = forward(model.double(), image := image.double())  # small changes vanish in the rounding of float32
    except CheckFailed:  # of a model that insists on it
        before = forward(model.float(), image := image.float())
    change = _SMALL * images(subject, 1, (height, width)).to(image)
    found = []
    for quadrant in range(4):
        top, left = quadrant // 2 * height, quadrant % 2 * width
        other = image.clone()
        other[..., top : top + height, left : left + width] += change
        moved = (forward(model, other) - before).abs().mean((0, 1))  # [2*height,2*width]
        parts = moved.reshape(2, height, 2, width).mean((1, 3)).flatten()  # [4]
        found.append(int(parts.argmax()) == quadrant)
    return found


def every_parameter_learns(subject: Subject) -> None:
    """Every parameter that is to be trained gets a gradient from the logits, in one of eight steps at least.

    In one of eight, as in training a network may leave layers out at random.
    """
    model = build(subject)
    disturb(model, 0.02)  # some networks begin with scales of 0, behind which nothing has a gradient
    model.train()
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = list(wanted)
    for seed in range(8):
        model.zero_grad()
        out = forward(model, images(subject, 2), gradients=True, seed=seed)
        require(out.requires_grad, "the logits depend on no parameter: is there a no_grad() or detach() in forward?")
        torch.autograd.backward((out * noise(out.shape)).sum())
        wild = [name for name, p in wanted.items() if p.grad is not None and not p.grad.isfinite().all()]
        require(not wild, f"the gradients of {len(wild)} of {len(wanted)} parameters are not finite: {first_few(wild)}")
        idle = [name for name in idle if not _has_gradient(wanted[name])]
        if not idle:
            return
    raise CheckFailed(
        f"{len(idle)} of {len(wanted)} parameters get no gradient: {first_few(idle)}; use them in forward, take them "
        "away, or set requires_grad = False where they are to stay as they are"
    )


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


RULES: tuple[Rule, ...] = (
    named_options,
    logits,
    any_size,
    training_mode,
    uses_num_classes,
    uses_in_channels,
    no_probabilities,
    looks_at_the_place,
    every_parameter_learns,
    deterministic,
    independent_of_the_batch,
    input_unchanged,
    same_seed_same_model,
    keeping.state_dict,
    keeping.copies,
    keeping.no_fixed_device,
    keeping.bf16_autocast,
    keeping.channels_last,
    keeping.exportable,
)
