"""The rules of models: logits for images of any size, place by place, that learn and can be kept, moved and exported.

Networks are asked as they are built, untrained, on small images: 64 x 64 pixels, and odd sizes beside that.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from segkit.errors import first_few
from segkit.inference.sliding_window import check_logits
from segkit.testing.check import CheckFailed, NotAsked, Subject, failing, require
from segkit.testing.meta_device import on_meta

NUM_CLASSES = 7  # unlike the 1, 2, 3 or 21 that a model may have fixed


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's random numbers as after manual_seed, and afterwards as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class ModelSubject(Subject):
    """A model, built the same each time, and the images it is asked with."""

    def model(self, num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Module:
        """A new model, in evaluation mode."""
        names = tuple(f"class {index}" for index in range(num_classes))
        with _seeded(seed):
            model = self.build(num_classes=num_classes, ignore_index=255, classes=names, in_channels=3)
        require(isinstance(model, nn.Module), f"a model is a torch.nn.Module, not {type(model).__name__}")
        model.eval()  # without a chain: that train() and eval() return the model is a rule of its own
        return model  # type: ignore[no-any-return]

    def images(self, batch: int, size: tuple[int, int] = (64, 64)) -> Tensor:
        """Noise of mean 0 and variance 1, as normalised images have, ``[B,in_channels,H,W]``."""
        shape = (batch, self.options.get("in_channels", 3), *size)
        return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _disturb(model: nn.Module, amount: float, *, zeros_alone: bool = False) -> None:
    """Add noise to every parameter, or to those that are 0 throughout, so that none is 0."""
    with _seeded(0), torch.no_grad():
        for parameter in model.parameters():
            if not (zeros_alone and parameter.any()):
                parameter.add_(amount * torch.randn_like(parameter))


def _forward(
    model: nn.Module, image: Tensor, classes: int | None = None, *, gradients: bool = False, seed: int = 0
) -> Tensor:
    """The logits of a copy of the images; random numbers fall the same for the same seed.

    Raises:
        CheckFailed: the model raises, or returns no logits of the size of the images, and of the classes if given.
    """
    mode = "training" if model.training else "evaluation"
    with failing(f"images {list(image.shape)} in {mode}"), _seeded(seed), torch.set_grad_enabled(gradients):
        return check_logits(model(image.clone()), image, classes)


def _train_once(model: nn.Module, image: Tensor) -> None:
    """Running statistics are afterwards no longer what the constructor made."""
    model.train()
    _forward(model, image)
    model.eval()


def _require_finite(out: Tensor, what: str) -> None:
    share = (~out.isfinite()).float().mean().item()
    require(not share, f"{share:.1%} of the logits {what} are not finite")


def _require_same(out: Tensor, expected: Tensor, what: str) -> None:
    """The same but for 0.001 of the largest logit, a few hundred times what another order of float32 sums makes."""
    difference = ((out - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()
    # of values that are not finite other rules tell
    require(not difference > 1e-3, f"{what}: the logits differ by up to {difference:.2g} of the largest")


def logits(case: ModelSubject) -> None:
    """Images [B,3,H,W] become logits [B,num_classes,H,W]: floating-point, finite, of the images' height and width."""
    _require_finite(_forward(case.model(), case.images(2), NUM_CLASSES), "of an untrained model")


def any_size(case: ModelSubject) -> None:
    """In evaluation an image may have any size, down to a single pixel: a network may pad it and crop the logits."""
    model = case.model()
    for size in ((65, 63), (33, 48), (1, 50), (1, 1)):
        image = case.images(1, size)
        _require_finite(_forward(model, image), f"of images {list(image.shape)}")


def training_mode(case: ModelSubject) -> None:
    """train() and eval() switch and return the model, and in training a batch of two may have any size too."""
    model = case.model()
    for training, name in ((False, "eval()"), (True, "train()")):
        require(model.train(training) is model, f"{name} does not return the model itself, as torch's modules do")
        require(model.training == training, f"after {name} model.training is {model.training}")
    for size in ((64, 64), (33, 47), (1, 1)):  # a batch of one may be too little for batch normalisation
        _forward(model, case.images(2, size))


def uses_num_classes(case: ModelSubject) -> None:
    """num_classes alone decides how many channels the logits have."""
    for count in (1, 2, 30):
        _forward(case.model(count), case.images(1), count)


def uses_in_channels(case: ModelSubject) -> None:
    """in_channels, where the constructor has it, decides how many channels the image has."""
    if not case.has_option("in_channels"):
        raise NotAsked("it has no option in_channels")
    for count in (1, 3, 12):
        other = replace(case, options={**case.options, "in_channels": count})
        _forward(other.model(), other.images(1))


def no_probabilities(case: ModelSubject) -> None:
    """Logits are not limited to 0 to 1: softmax and sigmoid are the losses' business."""
    model = case.model()
    _disturb(model, 1.0)  # large weights, large logits, unless something holds them in 0 to 1
    out = _forward(model, case.images(2))
    within = out.min() >= 0 and 0 < out.max() <= 1
    require(not within, f"all outputs are in 0 to 1 ({out.min():.3g} to {out.max():.3g}), whatever the weights")


def looks_at_the_place(case: ModelSubject) -> None:
    """A little noise on a quadrant of the image changes the logits there most, in four of eight cases at least."""
    # sound networks come to seven or eight; one that mirrors its features to none, one that averages them to two
    found = sum(_quadrants_found(case, 0)) + sum(_quadrants_found(case, 1))
    told = "is there a reshape or view of the wrong order, a flip, or a mean over the image?"
    require(found >= 4, f"the logits of the part that was changed moved most in {found} of 8 cases: {told}")


def _quadrants_found(case: ModelSubject, seed: int) -> list[bool]:
    """Of one model, for each quadrant of an image whether the logits there are those that change most with it.

    The change is small, so that what a network knows of the whole image (pooling, gates) hardly moves. A negated
    quadrant drowns what is local in networks whose running statistics follow slowly, as torchvision's DeepLabV3.
    """
    height, width = 64, 96  # of a quadrant; not square, or an image that is transposed would fit
    size = (2 * height, 2 * width)
    model = case.model(seed=seed)
    _disturb(model, 0.02, zeros_alone=True)  # as a classifier may begin with
    _train_once(model, case.images(2, size))  # else running statistics hold nothing
    image = case.images(1, size)
    try:
        before = _forward(model.double(), image := image.double())  # small changes vanish in the rounding of float32
    except CheckFailed:  # of a model that insists on it
        before = _forward(model.float(), image := image.float())
    change = 0.01 * case.images(1, (height, width)).to(image)
    found = []
    for quadrant in range(4):
        top, left = quadrant // 2 * height, quadrant % 2 * width
        other = image.clone()
        other[..., top : top + height, left : left + width] += change
        moved = (_forward(model, other) - before).abs().mean((0, 1))  # [2*height,2*width]
        parts = moved.reshape(2, height, 2, width).mean((1, 3)).flatten()  # [4]
        found.append(int(parts.argmax()) == quadrant)
    return found


def every_parameter_learns(case: ModelSubject) -> None:
    """Every parameter that is to be trained (requires_grad) gets a gradient from the logits, in one of eight steps."""
    # in one: in training a network may leave layers out at random
    model = case.model()
    _disturb(model, 0.02)  # some networks begin with scales of 0, behind which nothing has a gradient
    model.train()
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = list(wanted)
    for seed in range(8):
        model.zero_grad()
        out = _forward(model, case.images(2), gradients=True, seed=seed)
        require(out.requires_grad, "the logits depend on no parameter: is there a no_grad() or detach() in forward?")
        torch.autograd.backward((out * torch.randn(*out.shape, generator=torch.Generator().manual_seed(0))).sum())
        wild = [name for name, p in wanted.items() if p.grad is not None and not p.grad.isfinite().all()]
        require(not wild, f"the gradients of {len(wild)} of {len(wanted)} parameters are not finite: {first_few(wild)}")
        idle = [name for name in idle if not _has_gradient(wanted[name])]
        if not idle:
            return
    raise CheckFailed(f"{len(idle)} of {len(wanted)} parameters get no gradient: {first_few(idle)}")


def _has_gradient(parameter: nn.Parameter) -> bool:
    """The gradient of a bias may be 0: where a normalisation follows, it has no effect."""
    return parameter.grad is not None and (parameter.ndim < 2 or bool(parameter.grad.any()))


def deterministic(case: ModelSubject) -> None:
    """In evaluation an image has the same logits each time, however the random numbers fall."""
    model, image = case.model(), case.images(2)
    _require_same(_forward(model, image, seed=1), _forward(model, image), "the same images asked twice in evaluation")


def independent_of_the_batch(case: ModelSubject) -> None:
    """In evaluation an image has the same logits whatever images are in the batch with it."""
    model, batch = case.model(), case.images(3)
    batch[1:] *= 5  # images that a statistic of the batch would notice
    _require_same(_forward(model, batch)[:1], _forward(model, batch[:1]), "an image in a batch of three and alone")


def input_unchanged(case: ModelSubject) -> None:
    """The images given are not written to, as image -= mean and nn.ReLU(inplace=True) as the first layer do."""
    model = case.model()
    for mode in ("evaluation", "training"):
        image = case.images(2)
        model.train(mode == "training")
        with torch.no_grad(), _seeded(0):
            model(image)
        require(torch.equal(image, case.images(2)), f"forward changed the images it was given, in {mode}")


def same_seed_same_model(case: ModelSubject) -> None:
    """After the same torch.manual_seed two models have the same weights: random numbers are torch's."""
    models = case.model(), case.model()
    first, second = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in models)
    other = [name for name, value in first.items() if name not in second or not torch.equal(value, second[name])]
    require(not other, f"two models built after the same torch.manual_seed differ in {first_few(other)}")


def state_dict(case: ModelSubject) -> None:
    """Its state_dict holds all that the logits depend on: another instance that loads it has the same."""
    model, image = case.model(), case.images(2)
    _train_once(model, image)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = case.model(seed=1)
    with failing("its state_dict cannot be loaded into a new instance (by torch.load with weights_only = True)"):
        other.load_state_dict(torch.load(file, weights_only=True))
    _require_same(_forward(other, image), _forward(model, image), "a model and a new one with its state_dict")


def copies(case: ModelSubject) -> None:
    """A pickled copy (for processes) and a deep copy (for averaged weights) have the same logits."""
    model, image = case.model(), case.images(2)
    _train_once(model, image)
    expected = _forward(model, image)
    for name in ("pickled", "deep"):
        with failing(f"no {name} copy can be made"):
            other = pickle.loads(pickle.dumps(model)) if name == "pickled" else copy.deepcopy(model)
        _require_same(_forward(other, image), expected, f"a model and a {name} copy")


def no_fixed_device(case: ModelSubject) -> None:
    """Moved to another device, it computes there: forward makes no tensor on a device of its own choice."""
    model, image = case.model().to("meta"), case.images(2).to("meta")
    on_meta(partial(_forward, model, image), "on another device (torch's meta)")


def bf16_autocast(case: ModelSubject) -> None:
    """Under autocast to bfloat16, of three decimal digits, the logits are finite and near those in float32."""
    model, image = case.model(), case.images(2)
    expected = _forward(model, image).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = _forward(model, image).float()
    _require_finite(out, "under bfloat16 autocast")
    error = ((out - expected).abs().mean() / expected.abs().mean().clamp_min(1e-30)).item()
    told = "large sums and differences belong in float32 (x.float())"
    # bfloat16 itself: 0.004 an operation, 0.02 after a hundred layers
    require(not error > 0.1, f"under bfloat16 autocast the logits are off by {error:.0%} on average: {told}")


def channels_last(case: ModelSubject) -> None:
    """With weights and images in channels_last, as a run has them, the logits are the same, and the layout is kept."""
    # by half of the convolutions at least: where transformers put tokens back into place, some is lost
    model, image = case.model(), case.images(2)
    expected = _forward(model, image)
    model = model.to(memory_format=torch.channels_last)
    asked: list[str] = []
    lost: list[str] = []

    def look(name: str, given: Tensor) -> None:
        asked.append(name)
        if given.shape[1] > 1 and given[0, 0].numel() > 1:  # else every layout is the same
            lost.extend([name] * (not given.is_contiguous(memory_format=torch.channels_last)))

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
    out = _forward(model, image.contiguous(memory_format=torch.channels_last))
    _require_same(out, expected, "the same images in channels_last and in the usual order")
    if any(isinstance(module, nn.modules.instancenorm._InstanceNorm) for module in model.modules()):
        return  # torch's own does not keep it
    told = f"{len(lost)} of {len(asked)} convolutions are not given channels_last: {first_few(lost)}"
    require(len(lost) <= len(asked) / 2, f"{told}; is there a contiguous() or clone() in forward?")


def exportable(case: ModelSubject) -> None:
    """torch.export makes a graph of it, at one size, that computes the same: it branches on shapes, not on values."""
    model, image = case.model(), case.images(2)
    with warnings.catch_warnings(), _seeded(0):
        warnings.simplefilter("ignore")  # of torch's own parts
        with failing("torch.export cannot follow forward"):
            program = torch.export.export(model, (image.clone(),), strict=False).module()
        other = image.flip(0) * 2  # a graph that kept what was computed for the first images is found out
        _require_same(_forward(program, other), _forward(model, other), "the exported graph and the model")
