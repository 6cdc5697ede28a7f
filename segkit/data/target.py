"""A target beside the logits it is compared with: what losses and metrics check before they compute."""

from __future__ import annotations

from torch import Tensor

from segkit.errors import LabelError, ModelError


def check_shapes(logits: Tensor, target: Tensor, num_classes: int) -> None:
    """Logits ``[B,num_classes,H,W]`` beside integers ``[B,H,W]``; reads no value, so it never waits for a device.

    Raises:
        ModelError: logits of another shape or number of classes.
        LabelError: a target of another size, or not of integers.
    """
    if logits.dim() != 4 or logits.shape[1] != num_classes:
        raise ModelError(
            f"logits are {list(logits.shape)}; for {num_classes} classes they must be [B,{num_classes},H,W]: "
            "build the model with the dataset's number of classes"
        )
    wanted = [logits.shape[0], *logits.shape[2:]]
    if list(target.shape) != wanted:
        raise LabelError(
            f"the target is {list(target.shape)}; beside logits {list(logits.shape)} it must be {wanted}: "
            "class indices, not one-hot, and the logits resized to the mask's size, never the mask"
        )
    if target.is_floating_point() or target.is_complex():
        raise LabelError(f"the target holds {target.dtype}; labels are integers, for example torch.uint8")


def unknown_labels(pixels: int, num_classes: int, ignore_index: int) -> LabelError:
    """The error for labels that are neither a class nor void."""
    return LabelError(
        f"{pixels} pixels hold labels that do not exist; allowed are 0..{num_classes - 1} and {ignore_index} (void): "
        "check the masks, or the dataset's list of classes"
    )
