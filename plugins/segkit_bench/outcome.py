"""Whether a measurement came to what was asked for: its facts, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from segkit.engine.step import TrainingLoop
from segkit.errors import ConfigError, TrainingError


def outcome(measurement: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it returns, or ``left_out`` with a reason: too much memory, a setting that cannot be, no finite loss."""
    try:
        return measurement()
    except torch.OutOfMemoryError:
        return {"left_out": "out of memory; a smaller train.batch_size or augment.crop may fit"}
    except (ConfigError, TrainingError) as error:
        return {"left_out": str(error)}


def fell_back(loop: TrainingLoop) -> bool:
    """Whether the compiler or the graph that was asked for failed, and the network runs as it is."""
    forward, settings = loop.forward, loop.settings
    plain = forward._call is forward.model
    return plain and (settings.compile or (settings.cuda_graph and loop.precision.device.type == "cuda"))
