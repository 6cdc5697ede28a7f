"""Parameters of a network that its output does not depend on: they are not to be trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


def freeze_unused(network: nn.Module, part: nn.Module, image_shape: tuple[int, int, int, int]) -> None:
    """Set ``requires_grad = False`` on the parameters of a part of a network that no gradient can reach.

    They stay in the state_dict, so that weights of others fit. Found on the graph of one forward in evaluation, on
    torch's meta device, which computes nothing; where a network does not run there, all stay as they are.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    there = {
        name: torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)
        for name, tensor in tensors.items()
    }
    training = network.training
    try:
        with torch.enable_grad():
            output = functional_call(network.eval(), there, (torch.empty(image_shape, device="meta"),))
    except Exception:  # a layer without an implementation for the meta device, or one that asks for values
        return
    finally:
        network.train(training)
    reached = _leaves(output)
    if not reached:
        return
    own = {id(parameter) for parameter in part.parameters()}
    for name, tensor in tensors.items():
        if id(tensor) in own and id(there[name]) not in reached:
            tensor.requires_grad_(False)


def _leaves(output: Tensor) -> set[int]:
    """The ids of the parameters that a tensor was computed from."""
    leaves, seen, waiting = set(), set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return leaves
