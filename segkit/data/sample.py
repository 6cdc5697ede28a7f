"""What a dataset is: the sample it returns and the facts it knows about its classes."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

Palette = tuple[tuple[int, int, int], ...]


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: RGB, uint8 ``[3,H,W]``.
        mask: class indices, void included, uint8 ``[H,W]``.
        name: what messages, pictures and predictions call it.
    """

    image: Tensor
    mask: Tensor
    name: str


@runtime_checkable
class Dataset(Protocol):
    """The contract of a dataset (see :func:`segkit.hookspecs.segkit_datasets`).

    Attributes:
        classes: names, in the order of the label values 0, 1, 2, ...
        palette: one RGB triple a class.
        ignore_index: the label of void pixels, outside ``range(len(classes))``.
    """

    classes: tuple[str, ...]
    palette: Palette
    ignore_index: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
