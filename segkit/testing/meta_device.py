"""A rule of models and losses, asked on torch's meta device, which has shapes and no values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from segkit.testing.check import CheckFailed, NotAsked, failing, require

_VALUES = (Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.item, Tensor.tolist)


def no_fixed_device(case: Any) -> None:
    """Moved to another device, torch's meta device, it computes there, and makes no tensor elsewhere."""
    call = case.moved_to("meta")
    with failing("on another device (torch's meta)"), _OneDevice():
        value = call()
        on_it = isinstance(value, Tensor) and value.is_meta
        require(on_it, "its result is elsewhere; compute on the device of the logits or images")


class _OneDevice(TorchFunctionMode):
    """Refuses calls that mix tensors of the meta device with others, of which torch itself lets some pass."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, unless its tensors are on two devices, or it wants values of the meta device."""
        if function in _VALUES and arguments[0].is_meta:
            raise NotAsked("it reads values, which torch's meta device has none of")
        # A number may be on the CPU, as may the positions in x[positions].
        tensors = [each for each in tree_leaves([arguments, options]) if isinstance(each, Tensor) and each.ndim]
        elsewhere = [list(each.shape) for each in tensors if not each.is_meta]
        positions = function is Tensor.__getitem__ and arguments[0].is_meta
        if elsewhere and len(elsewhere) < len(tensors) and not positions:
            told = "that did not move with the model: register_buffer it, or make it with device=image.device"
            raise CheckFailed(f"{resolve_name(function) or function} is given a tensor {elsewhere[0]} {told}")
        return function(*arguments, **(options or {}))
