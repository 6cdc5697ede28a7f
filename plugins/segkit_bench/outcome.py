"""One measurement among several that may fail while the others go on: its facts, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from segkit.errors import ConfigError, TrainingError


def outcome(measurement: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it returns, or ``left_out`` with a reason: too much memory, a setting that cannot be, no finite loss."""
    try:
        return measurement()
    except torch.OutOfMemoryError:
        return {"left_out": "out of memory; a smaller train.batch_size or augment.crop may fit"}
    except (ConfigError, TrainingError) as error:
        return {"left_out": str(error)}
