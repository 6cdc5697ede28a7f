"""Notes, proposals and questions about a folder: what the steps of ``init`` hand to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What may be meant, and the options that say so: of ``[dataset]``, or of ``[data]`` with the prefix ``data.``."""

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A note without answers, a proposal with one answer, or a question with several.

    Attributes:
        text: may be "" in a proposal.
        answers: the likeliest first.
    """

    text: str
    answers: Sequence[Answer] = ()

    @property
    def must(self) -> bool:
        """Whether answers lead to different results, so that nothing is written until the user has answered."""
        return len(self.answers) > 1

    @property
    def taken(self) -> Mapping[str, Any]:
        """The options of the first answer."""
        return self.answers[0].options if self.answers else {}

    @property
    def key(self) -> str:
        """Key of the config above which the question is written."""
        return next(iter(self.taken), "root")
