"""A rule of models and losses, checked on torch's meta device, which has shapes but no values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from segkit.testing.check import NotAsked, failing, require


def no_fixed_device(case: Any) -> None:
    """Moved to another device (torch's meta device), it computes there, and returns its result there."""
    with failing("its tensors are not on one device, torch's meta; register_buffer them, or give them the image's"):
        try:
            value = case.moved_to("meta")()
        except Exception as error:
            cause = error.__cause__ or error  # of a failed forward pass
            unknown = isinstance(cause, NotImplementedError) and "Cannot copy out" not in str(cause)
            if unknown or "Tensor.item()" in str(cause):
                raise NotAsked("it reads values, which torch's meta device does not have") from error
            raise
        on_it = isinstance(value, Tensor) and value.is_meta
        require(on_it, "its result is on a different device; compute on the device of the logits or images")
