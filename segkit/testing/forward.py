"""How the rules of models ask one: built the same each time, called with noise, its answers compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from segkit.testing.check import CheckFailed, Subject, require

NUM_CLASSES = 7  # unlike the 1, 2, 3 or 21 that a model may have fixed
SIZE = (64, 64)
SAME = 1e-3  # of the largest logit; a few hundred times what another order of float32 sums makes


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers as after manual_seed, and afterwards as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build(subject: Subject, num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Module:
    """A new model, in evaluation mode."""
    names = tuple(f"class {index}" for index in range(num_classes))
    with seeded(seed):
        model = subject.build(num_classes=num_classes, ignore_index=255, classes=names, in_channels=3)
    require(isinstance(model, nn.Module), f"a model is a torch.nn.Module, not {type(model).__name__}")
    model.eval()  # without a chain: that train() and eval() return the model is a rule of its own
    return model  # type: ignore[no-any-return]


def images(subject: Subject, batch: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Noise of mean 0 and variance 1, as normalised images have, ``[B,in_channels,H,W]``."""
    return noise((batch, subject.options.get("in_channels", 3), *size))


def noise(shape: Sequence[int]) -> Tensor:
    """The same for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def disturb(model: nn.Module, amount: float, *, zeros_alone: bool = False) -> None:
    """Add noise to every parameter, or to those that are 0 throughout, so that none is 0."""
    with seeded(0), torch.no_grad():
        for parameter in model.parameters():
            if not (zeros_alone and parameter.any()):
                parameter.add_(amount * torch.randn_like(parameter))


def forward(model: nn.Module, image: Tensor, *, gradients: bool = False, seed: int = 0) -> Tensor:
    """The logits of a copy of the images, as a rule of its own asks whether they are left alone."""
    return call(model, image.clone(), gradients=gradients, seed=seed)


def call(model: nn.Module, image: Tensor, *, gradients: bool = False, seed: int = 0) -> Tensor:
    """The logits; random numbers fall the same for the same seed, so that dropout fails its own rule only.

    Raises:
        CheckFailed: the model raises, or returns no tensor.
    """
    with seeded(seed), torch.set_grad_enabled(gradients):
        try:
            out = model(image)
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{words(image)} in {mode(model)}: {type(error).__name__}: {first_line(error)}"
            ) from error
    require(
        isinstance(out, Tensor),
        f"{words(image)} in {mode(model)} became a {type(out).__name__}; a model returns logits, a tensor [B,C,H,W]",
    )
    return out  # type: ignore[no-any-return]


def train_once(model: nn.Module, image: Tensor) -> None:
    """Running statistics are afterwards no longer what the constructor made."""
    model.train()
    forward(model, image)
    model.eval()


def require_shape(out: Tensor, image: Tensor, num_classes: int | None = None) -> None:
    """Without ``num_classes`` there may be any number of channels: that is asked by rules of their own."""
    batch, _, height, width = image.shape
    channels = num_classes if num_classes is not None or out.ndim < 2 else out.shape[1]
    given = f" with num_classes = {num_classes}" if num_classes is not None else ""
    require(
        list(out.shape) == [batch, channels, height, width],
        f"{words(image)}{given} became {list(out.shape)}; logits are [{batch},{num_classes or 'C'},{height},{width}]",
    )


def require_finite(out: Tensor, what: str) -> None:
    """``what`` says whose logits they are."""
    share = (~out.isfinite()).float().mean().item()
    require(not share, f"{share:.1%} of the logits {what} are not finite")


def require_same(out: Tensor, expected: Tensor, what: str, advice: str = "") -> None:
    """``what`` says which two they are."""
    require(out.shape == expected.shape, f"{what}: logits {list(out.shape)} and {list(expected.shape)}{advice}")
    difference = ((out - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()
    require(
        not difference > SAME,  # of values that are not finite other rules tell
        f"{what}: the logits differ by up to {difference:.2g} of the largest; expected is the same{advice}",
    )


def words(image: Tensor) -> str:
    """The images of a message."""
    return f"images {list(image.shape)}"


def mode(model: nn.Module) -> str:
    """The mode of a message."""
    return "training" if model.training else "evaluation"


def first_line(error: BaseException) -> str:
    """Of an error of torch's, which may go on for pages."""
    return (str(error).strip().splitlines() or [""])[0]


class ValuesAsked(Exception):
    """Whoever branches on the values of a tensor cannot go on where there are none."""


class OneDevice(TorchFunctionMode):
    """Refuses calls that mix tensors of the meta device with others, of which torch itself lets some pass."""

    _of_values = (Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.item, Tensor.tolist)

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function.

        Raises:
            CheckFailed: its tensors are on two devices.
            ValuesAsked: it wants values of a tensor on the meta device.
        """
        options = options or {}
        # A number may be on the CPU, as may the positions in x[positions].
        tensors = [each for each in _flat([arguments, options]) if isinstance(each, Tensor) and each.ndim]
        elsewhere = [list(each.shape) for each in tensors if not each.is_meta]
        positions = function is Tensor.__getitem__ and arguments[0].is_meta
        if elsewhere and len(elsewhere) < len(tensors) and not positions:
            raise CheckFailed(
                f"{resolve_name(function) or function} is given a tensor {elsewhere[0]} that did not move with the "
                "model: register_buffer it in the constructor, or make it with device=image.device"
            )
        if function in self._of_values and arguments[0].is_meta:
            raise ValuesAsked
        return function(*arguments, **options)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _flat(each)
    else:
        yield value
