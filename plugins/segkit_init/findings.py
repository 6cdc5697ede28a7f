"""What was found in a folder, and what of it a person has to say: the data that the steps of ``init`` hand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.data.scan import Scan


@dataclass(frozen=True)
class Answer:
    """One way to read what is there.

    Attributes:
        text: what it means.
        options: keys of ``[dataset]`` that say so.
        data: keys of ``[data]`` that say so.
    """

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What the files do not tell.

    Attributes:
        text: the question.
        answers: the possible ones, the likeliest first.
        key: the key of the config beside which it stands.
        must: whether another answer gives another result, so that nothing is written before a person has answered.
    """

    text: str
    answers: tuple[Answer, ...] = ()
    key: str = ""
    must: bool = True


@dataclass(frozen=True)
class StoredLabels:
    """What a set of masks stores.

    Attributes:
        pixels: stored label, or RGB triple where the masks hold colours -> pixels.
        images: the same -> masks that hold it.
        masks: how many were read.
        edges: labels that lie along the borders of others.
        of_objects: whether they look like ids of single objects: each mask counts 0, 1, 2, ... to a number of its own,
            or most labels are in one mask alone.
    """

    pixels: Counter[Any]
    images: Counter[Any]
    masks: int
    edges: frozenset[int] = frozenset()
    of_objects: bool = False

    @property
    def has_colours(self) -> bool:
        """Whether the masks hold colours and not labels."""
        return any(isinstance(label, tuple) for label in self.pixels)

    def share(self, label: Any) -> str:
        """The share of a label in all pixels, as text."""
        percent = 100 * self.pixels[label] / max(1, self.pixels.total())
        return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


@dataclass(frozen=True)
class Findings:
    """What was found in a folder.

    Attributes:
        root: the folder.
        dataset: name of the data set that reads it.
        options: of ``[dataset]``, without name.
        data: keys of ``[data]`` that what was found asks for.
        labels: what the masks store; None where the data set knows.
        scan: of all splits, read with these options.
        questions: the open ones; ``options`` and ``data`` hold the first answer of each.
        notes: what else a person should know.
    """

    root: Path
    dataset: str
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    labels: StoredLabels | None
    scan: Scan
    questions: Sequence[Question]
    notes: Sequence[str]
