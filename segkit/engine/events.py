"""The events of a run: what observers are handed, of which they can change nothing."""

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
    """A run as its observers see it; nothing in it can be changed.

    Attributes:
        folder: where it writes.
        config: its settings with every default written out, as under ``config`` in ``run.json``.
        splits: datasets by name.
        classes: names of the classes.
        palette: an RGB triple a class.
        floors: per split, what the best constant predictor scores there.
        first_epoch: the one it starts from: 1, or the one after those that a resumed run has done.
        predict: ``predict(split, index)`` gives the labels uint8 ``[H,W]`` of a sample, at the size of its mask, as the
            weights that were evaluated last predict them.
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
    """A value of JSON that nobody can change: mappings as proxies, lists as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: read_only(each) for key, each in value.items()})
    return tuple(map(read_only, value)) if isinstance(value, (list, tuple)) else value
