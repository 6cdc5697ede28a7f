"""What was found in a folder, and what of it a person has to say: the data that the steps of ``init`` hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.data.scan import Scan


@dataclass(frozen=True)
class Answer:
    """One way to read what is there: what it means, and the options that say so (see :class:`Findings`)."""

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What the files do not tell.

    Attributes:
        text: the question; "": there is none, only an answer.
        answers: the possible ones, the likeliest first.
        key: of the config, beside which it stands.
        must: whether another answer gives another result, so that nothing is written before a person has answered.
    """

    text: str
    answers: Sequence[Answer] = ()
    key: str = ""
    must: bool = True


@dataclass(frozen=True)
class Findings:
    """What was found in a folder.

    Attributes:
        dataset: name of the data set that reads it.
        options: of ``[dataset]``; those of ``[data]`` by ``data.`` and their key. They hold the first answer of each
            question.
        scan: of all splits, read with these options.
        questions: the open ones.
        notes: what else a person should know.
    """

    dataset: str
    options: Mapping[str, Any]
    scan: Scan
    questions: Sequence[Question]
    notes: Sequence[str]
