"""Findings about a folder and questions to the user: the data that the steps of ``init`` exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.data.scan import Scan


@dataclass(frozen=True)
class Answer:
    """One answer to a question: its meaning, and the options that state it (see :class:`Findings`)."""

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question that the files leave open, or a note.

    Attributes:
        text: the question, or a note without a question mark; "" where there is only an answer.
        answers: possible answers, the likeliest first.
        key: key of the config above which the question is written.
        must: whether answers lead to different results, so that nothing is written until the user has answered.
    """

    text: str
    answers: Sequence[Answer] = ()
    key: str = ""
    must: bool = True


@dataclass(frozen=True)
class Findings:
    """Everything found in a folder.

    Attributes:
        dataset: name of the data set that reads the folder.
        options: keys of ``[dataset]``, and of ``[data]`` with the prefix ``data.``; they include the first answer of
            each question.
        scan: scan of all splits, read with these options.
        questions: the open questions.
        notes: what else the user should know.
    """

    dataset: str
    options: Mapping[str, Any]
    scan: Scan
    questions: Sequence[Question]
    notes: Sequence[str]
