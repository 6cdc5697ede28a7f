"""One check: a rule, the component it is asked of, and what becomes of a failure that is known."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from segkit.errors import SegkitError


class CheckFailed(AssertionError):
    """A component breaks a rule of its contract; the message says how."""


class NotAsked(Exception):
    """A rule does not apply to a component, or cannot be asked here; the message says why."""


def require(holds: object, message: str) -> None:
    """Go on only where the rule holds.

    Raises:
        CheckFailed: with the message.
    """
    if not holds:
        raise CheckFailed(message)


@dataclass(frozen=True)
class Subject:
    """A component to be checked: its class, and the options it is built with.

    Attributes:
        kind: ``loss``, ``model``, ``dataset`` or ``metric``.
        name: for messages.
        target: the class.
        options: beside what is given.
    """

    kind: str
    name: str
    target: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **given: Any) -> Any:
        """The component, with those of ``given`` that its constructor asks for, and its options.

        Raises:
            CheckFailed: its constructor raises.
        """
        known = inspect.signature(self.target).parameters
        arguments = {name: value for name, value in given.items() if name in known}
        try:
            return self.target(**{**arguments, **self.options})
        except (SegkitError, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() is no way to refuse an option
            raise CheckFailed(
                f"{self.name} cannot be built with {arguments}: {type(error).__name__}: {error}"
            ) from error

    def has_option(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.target).parameters


Rule = Callable[[Subject], None]
"""A function that raises :class:`CheckFailed`, or :class:`NotAsked`; its name is the check's, its docstring the rule in
one sentence."""


@dataclass(frozen=True)
class Answer:
    """What came of a check: in a word, why, and the exception behind a failure."""

    state: Literal["ok", "known", "not asked", "FAILED"]
    why: str = ""
    error: BaseException | None = None


@dataclass(frozen=True)
class Check:
    """A rule, to be asked of one component by calling it.

    Attributes:
        name: of the rule.
        rule: in one sentence.
        subject: the component.
        known: why the component does not keep the rule, where that is declared.
    """

    name: str
    rule: str
    subject: Subject
    function: Rule
    known: str | None = None

    def ask(self) -> Answer:
        """Ask, and tell what came of it; Ctrl-C alone leaves."""
        try:
            self.function(self.subject)
        except KeyboardInterrupt:
            raise
        except NotAsked as reason:
            return Answer("not asked", str(reason))
        except BaseException as error:  # that of a component which calls sys.exit() too
            if self.known is not None:
                return Answer("known", f"{self.known} ({error})", error)
            if isinstance(error, CheckFailed):
                return Answer("FAILED", str(error), error)
            return Answer("FAILED", f"{self.subject.name}, {self.name}: {type(error).__name__}: {error}", error)
        if self.known is not None:
            return Answer(
                "FAILED",
                f"{self.subject.name}, {self.name}: declared as a known failure ({self.known}), and it is kept: "
                "take the declaration away",
            )
        return Answer("ok")

    def __call__(self) -> None:
        """Ask.

        Under pytest a failure that is declared is an expected one (xfail), and a rule that is not asked is skipped; so
        each check is to be a test of its own.

        Raises:
            CheckFailed: the rule is broken; or it was declared to be, and is kept.
        """
        answer = self.ask()
        if answer.state == "FAILED":
            if isinstance(answer.error, CheckFailed):
                raise answer.error
            raise CheckFailed(answer.why) from answer.error
        if answer.state != "ok" and "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ:
            pytest = sys.modules["pytest"]
            (pytest.xfail if answer.state == "known" else pytest.skip)(answer.why)

    def __str__(self) -> str:
        return self.name
