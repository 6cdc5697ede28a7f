"""Rules of models: logits for images of any size; the network can be trained, saved, moved and exported.

Networks are checked untrained, on small images: 64 x 64 pixels, and odd sizes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from segkit.errors import first_few
from segkit.inference.sliding_window import check_logits
from segkit.testing.check import Same, Subject, failing, require


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers in the body; restore their state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class ModelSubject(Subject):
    """A model, built with a fixed seed, and the images to check it with."""

    def model(self, num_classes: int = 7, seed: int = 0) -> nn.Module:
        """Build a model in eval mode; the default of 7 classes differs from numbers that a model may have fixed."""
        names = tuple(f"class {index}" for index in range(num_classes))
        with _seeded(seed):
            model = self.build(num_classes=num_classes, ignore_index=255, classes=names, in_channels=3)
        require(isinstance(model, nn.Module), f"a model is a torch.nn.Module, not {type(model).__name__}")
        model.eval()
        return model  # type: ignore[no-any-return]

    def instance(self) -> nn.Module:
        """Return a model that has seen a training batch, so its running statistics are no longer the initial ones."""
        model = self.model()
        model.train()
        _forward(model, self.images(2))
        model.eval()
        return model

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the logits of an ordinary batch."""
        return _forward(model, self.images(2))

    def moved_to(self, device: str) -> Callable[[], Tensor]:
        """Return a function that computes the logits of an ordinary batch on another device."""
        return partial(_forward, self.model().to(device), self.images(2).to(device))

    def images(self, batch: int, size: tuple[int, int] = (64, 64)) -> Tensor:
        """Return noise of mean 0 and variance 1, like normalised images, ``[B,in_channels,H,W]``."""
        shape = (batch, self.options.get("in_channels", 3), *size)
        return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _disturb(model: nn.Module, amount: float, zeros_alone: bool = False) -> None:
    """Add noise to every parameter, or only to those that are all 0."""
    with _seeded(0), torch.no_grad():
        for parameter in model.parameters():
            if not (zeros_alone and parameter.any()):
                parameter.add_(amount * torch.randn_like(parameter))


def _forward(
    model: nn.Module, image: Tensor, classes: int | None = None, *, gradients: bool = False, seed: int = 0
) -> Tensor:
    """Return the logits of a copy of the images; equal seeds give equal random numbers.

    Raises:
        CheckFailed: the model raises, or does not return logits of the size of the images and, if given, the classes.
    """
    mode = "training" if model.training else "evaluation"
    with failing(f"images {list(image.shape)} in {mode}"), _seeded(seed), torch.set_grad_enabled(gradients):
        return check_logits(model(image.clone()), image, classes)


def _require_finite(out: Tensor, what: str) -> None:
    share = (~out.isfinite()).float().mean().item()
    require(not share, f"{share:.1%} of the logits {what} are not finite")


def logits(case: ModelSubject) -> None:
    """Images [B,C,H,W] give finite logits [B,num_classes,H,W]; with the option in_channels all C channels are used."""
    returned = isinstance(case.model().eval(), nn.Module)
    require(returned, "eval() must return the model itself, as torch's modules do: return super().train(mode)")
    for count in (7, 1, 2, 30):
        _require_finite(_forward(case.model(count), case.images(2), count), "of an untrained model")
    for count in (1, 3, 12) if case.has_option("in_channels") else ():
        other = replace(case, options={**case.options, "in_channels": count})
        model, image = other.model(), other.images(1)
        _disturb(model, 0.02, zeros_alone=True)  # a classifier may be initialised to 0
        before = _forward(model, image)
        image[:, -1] = image[:, -1].flip(-1)
        problem = f"for images of {count} channels the last one does not affect the logits: is it left out?"
        require((_forward(model, image) != before).any(), problem)


def any_size(case: ModelSubject) -> None:
    """An image may have any size down to one pixel, in training in a batch of two: pad images and crop logits."""
    model = case.model()
    for size in ((65, 63), (33, 48), (1, 50), (1, 1)):
        _require_finite(_forward(model, case.images(1, size)), f"of images of {size[0]} x {size[1]}")
    model.train()
    for size in ((64, 64), (33, 47), (1, 1)):  # batch normalisation may need a batch of two
        _forward(model, case.images(2, size))


def no_probabilities(case: ModelSubject) -> None:
    """Logits differ between classes and are not limited to 0..1: softmax or sigmoid belong in the loss."""
    model = case.model()
    _disturb(model, 1.0)  # large weights give large logits, unless something limits them to 0..1
    out = _forward(model, case.images(2))
    within = out.min() >= 0 and 0 < out.max() <= 1
    require(not within, f"all outputs are in 0..1 ({out.min():.3g} to {out.max():.3g}), whatever the weights")
    require((out[:, 1:] != out[:, :1]).any(), "all classes have the same logits, whatever the weights")


def looks_at_the_place(case: ModelSubject) -> None:
    """A little noise on a quadrant of the image changes the logits there most, for at least two of the four."""
    # Correct networks reach two to four; one that mirrors its features none, one that averages them one. The image is
    # not square, to detect transposition.
    image, change = case.images(1, (128, 192)), 0.01 * case.images(1, (64, 96))
    model = case.model()
    _disturb(model, 0.02, zeros_alone=True)  # a classifier may be initialised to 0
    model.train()
    _forward(model, case.images(2, (128, 192)))  # fills running statistics
    model.eval()
    before, found = _forward(model, image), 0
    for quadrant, (top, left) in enumerate(product((0, 64), (0, 96))):
        other = image.clone()
        other[..., top : top + 64, left : left + 96] += change
        moved = (_forward(model, other) - before).abs().mean((0, 1))  # [128,192]
        found += int(moved.reshape(2, 64, 2, 96).mean((1, 3)).argmax()) == quadrant
    advice = "is there a reshape or view in the wrong order, a flip, or a mean over the image?"
    require(found >= 2, f"the logits of the changed quadrant moved most in only {found} of 4 cases: {advice}")


def every_parameter_learns(case: ModelSubject) -> None:
    """Every trainable parameter (requires_grad) gets a gradient from the logits."""
    model = case.model()  # in eval mode, because a network in training may skip layers at random
    _disturb(model, 0.02)  # scales that are initialised to 0 block gradients
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    out = _forward(model, case.images(2), gradients=True)
    require(out.requires_grad, "the logits depend on no parameter: is there a no_grad() or detach() in forward?")
    torch.autograd.backward((out * torch.randn(*out.shape, generator=torch.Generator().manual_seed(0))).sum())
    wild = [name for name, each in wanted.items() if each.grad is not None and not each.grad.isfinite().all()]
    require(not wild, f"the gradients of {len(wild)} of {len(wanted)} parameters are not finite: {first_few(wild)}")
    # the gradient of a bias may be 0: before a normalisation a bias has no effect
    idle = [name for name, each in wanted.items() if each.grad is None or (each.ndim > 1 and not each.grad.any())]
    require(not idle, f"{len(idle)} of {len(wanted)} parameters get no gradient: {first_few(idle)}")


def deterministic(case: ModelSubject) -> Iterator[Same]:
    """Equal seeds (torch.manual_seed) give equal weights; in eval mode an image gives the same logits in any batch."""
    model, batch = case.model(), case.images(3)
    one, other = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (case.model(), model))
    yield "two models of the same seed", one, other
    yield "the same images passed twice in evaluation", _forward(model, batch, seed=1), _forward(model, batch)
    batch[1:] *= 5  # other images that would change batch statistics
    yield "an image in a batch of three and alone", _forward(model, batch)[:1], _forward(model, batch[:1])


def input_unchanged(case: ModelSubject) -> Iterator[Same]:
    """The model does not modify its input, as image -= mean or nn.ReLU(inplace=True) as the first layer would."""
    model = case.model()
    for mode in ("evaluation", "training"):
        image = case.images(2)
        model.train(mode == "training")
        with torch.no_grad(), _seeded(0):
            model(image)
        yield f"forward modified its input, in {mode}", image, case.images(2)


def state_dict(case: ModelSubject) -> Iterator[Same]:
    """The state_dict holds everything that the logits depend on: a new instance that loads it gives equal logits."""
    model, file = case.instance(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = case.model(seed=1)
    with failing("its state_dict cannot be loaded into a new instance (by torch.load with weights_only = True)"):
        other.load_state_dict(torch.load(file, weights_only=True))
    yield "a model and a new one with its state_dict", case.outputs(other), case.outputs(model)


def bf16_autocast(case: ModelSubject) -> None:
    """Under autocast to bfloat16 (three decimal digits) the logits are finite and near those in float32."""
    model, image = case.model(), case.images(2)
    expected = _forward(model, image).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = _forward(model, image).float()
    _require_finite(out, "under bfloat16 autocast")
    error = ((out - expected).abs().mean() / expected.abs().mean().clamp_min(1e-30)).item()
    advice = "large sums and differences belong in float32 (x.float())"
    # bfloat16 itself causes 0.004 per operation, 0.02 after a hundred layers
    require(not error > 0.1, f"under bfloat16 autocast the logits are off by {error:.0%} on average: {advice}")


def channels_last(case: ModelSubject) -> Iterator[Same]:
    """With weights and images in channels_last, as in a run, the logits are the same and the layout is kept."""
    model, image = case.model(), case.images(2)
    expected, kept = _forward(model, image), []
    for module in model.to(memory_format=torch.channels_last).modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, given: kept.append(given[0].is_contiguous(memory_format=torch.channels_last))
            )
    out = _forward(model, image.contiguous(memory_format=torch.channels_last))
    yield "the same images in channels_last and in the usual order", out, expected
    # by at least half of the convolutions: transformers lose it when they rearrange tokens, and so does instance norm
    problem = f"{kept.count(False)} of {len(kept)} convolutions do not get channels_last"
    normed = any(isinstance(module, nn.modules.instancenorm._InstanceNorm) for module in model.modules())
    require(normed or 2 * sum(kept) >= len(kept), f"{problem}; is there a contiguous() or clone() in forward?")


def exportable(case: ModelSubject) -> Iterator[Same]:
    """torch.export at one size gives a graph with equal results: forward may branch on shapes, but not on values."""
    model, image = case.model(), case.images(2)
    with warnings.catch_warnings(), _seeded(0):
        warnings.simplefilter("ignore")  # warnings of torch itself
        with failing("torch.export cannot follow forward"):
            program = torch.export.export(model, (image.clone(),), strict=False).module()
        other = image.flip(0) * 2  # detects graphs that store results of the first images
        yield "the exported graph and the model", _forward(program, other), _forward(model, other)
