"""Asks what a component computes on another device: torch's meta device, which every machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from segkit.testing.check import CheckFailed, NotAsked, first_line, require


class ValuesAsked(Exception):
    """The component branches on the values of a tensor; the meta device knows shapes and no values."""


def on_meta(call: Callable[[], Any], what: str) -> Any:
    """What a call returns whose component and arguments are on the meta device.

    Raises:
        NotAsked: it reads values.
        CheckFailed: it raises, mixes devices, or returns no tensor of the meta device; ``what`` begins the message.
    """
    try:
        with OneDevice():
            value = call()
    except Exception as error:
        if isinstance(error, ValuesAsked) or isinstance(error.__cause__, ValuesAsked):
            raise NotAsked("it reads values, which torch's meta device has none of") from error
        told = str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {first_line(error)}"
        raise CheckFailed(f"{what}: {told}") from error
    on_it = isinstance(value, Tensor) and value.is_meta
    require(on_it, f"{what}: its result is elsewhere; compute on the device of the logits or images")
    return value


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
