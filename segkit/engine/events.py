"""The events of a run, and the read-only objects that observers receive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import Colour, Dataset

Notify = Callable[..., Sequence[str] | None]  # notify("segkit_epoch_ended", run=..., epoch=..., metrics=...)
unobserved: Notify = lambda *_, **__: None  # noqa: E731


@dataclass(frozen=True)
class Run:
    """A run as its observers see it; read-only.

    Attributes:
        folder: the run folder.
        config: the settings with every default written out, as under ``config`` in ``run.json``.
        splits: datasets by name.
        classes: names of the classes.
        palette: an RGB triple per class.
        floors: for each split, the scores of the best constant prediction.
        first_epoch: the next epoch at the start: 1, or for a resumed run the epoch after the completed ones.
        predict: ``predict(split, index)`` returns the labels uint8 ``[H,W]`` of a sample, at the size of its mask, as
            the most recently evaluated weights predict them.
        warn: ``warn(text)`` prints a warning.
    """

    folder: Path
    config: Mapping[str, Any]
    splits: Mapping[str, Dataset]
    classes: Sequence[str]
    palette: tuple[Colour, ...]
    floors: Mapping[str, Mapping[str, Any]]
    first_epoch: int
    predict: Callable[[str, int], NDArray[np.uint8]]
    warn: Callable[[str], None]


def read_only(value: Any) -> Any:
    """Make a JSON value immutable: mappings become proxies, lists become tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: read_only(each) for key, each in value.items()})
    return tuple(map(read_only, value)) if isinstance(value, (list, tuple)) else value
