"""A rule of models and losses, checked on torch's meta device, which has shapes but no values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from segkit.testing.check import CheckFailed, NotAsked, failing, require

_VALUES = (Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.item, Tensor.tolist)


def no_fixed_device(case: Any) -> None:
    """Moved to another device (torch's meta device), it computes there, and creates no tensor elsewhere."""
    call = case.moved_to("meta")
    with failing("on another device (torch's meta)"), _OneDevice():
        value = call()
        on_it = isinstance(value, Tensor) and value.is_meta
        require(on_it, "its result is on a different device; compute on the device of the logits or images")


class _OneDevice(TorchFunctionMode):
    """Refuses calls that mix meta tensors with others; torch itself allows some of these."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function unless its tensors are on two devices or it reads values of a meta tensor."""
        if function in _VALUES and arguments[0].is_meta:
            raise NotAsked("it reads values, which torch's meta device does not have")
        # Scalars may be on the CPU, and so may indices in x[indices].
        tensors = [each for each in tree_leaves([arguments, options]) if isinstance(each, Tensor) and each.ndim]
        elsewhere = [list(each.shape) for each in tensors if not each.is_meta]
        positions = function is Tensor.__getitem__ and arguments[0].is_meta
        if elsewhere and len(elsewhere) < len(tensors) and not positions:
            problem = "that did not move with the model: register_buffer it, or create it with device=image.device"
            raise CheckFailed(f"{resolve_name(function) or function} gets a tensor {elsewhere[0]} {problem}")
        return function(*arguments, **(options or {}))
