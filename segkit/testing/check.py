"""What a check is: a rule, the component that is asked, and the answer, with failures that are known declared."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from segkit.errors import SegkitError
from segkit.options import given_names, reserved_names


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


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Whatever is raised in this block is a failed check; its message is ``what`` and the error's first line.

    Raises:
        CheckFailed: something was raised.
    """
    try:
        yield
    except NotAsked:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]  # torch's may go on for pages
        own = isinstance(error, SegkitError | CheckFailed)
        raise CheckFailed(f"{what}: {error if own else f'{type(error).__name__}: {first}'}") from error


Rule = Callable[[Any], None]
"""A function of a subject that raises :class:`CheckFailed` or :class:`NotAsked`; its name is the check's, its docstring
says the rule in one sentence."""


@dataclass(frozen=True)
class Subject:
    """A component to be checked. Each kind has a class of its own below this one, with what its rules need.

    Attributes:
        kind: one of ``KINDS``.
        name: for messages.
        factory: its class.
        options: with which it is built, beside what a dataset gives.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, rule: Rule) -> None:
        """Ask a rule, which may raise CheckFailed or NotAsked."""
        rule(self)

    def build(self, **given: Any) -> Any:
        """The component, with those of ``given`` that its constructor asks for, and its options.

        Raises:
            CheckFailed: its constructor raises.
        """
        arguments = {name: value for name, value in given.items() if self.has_option(name)}
        try:
            return self.factory(**{**arguments, **self.options})
        except (SegkitError, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() is no way to refuse an option
            told = f"{type(error).__name__}: {error}"
            raise CheckFailed(f"{self.name} cannot be built with {arguments}: {told}") from error

    def has_option(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.factory).parameters


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
        function: the rule itself.
        known: why the component does not keep the rule, where that is declared.
    """

    name: str
    rule: str
    subject: Subject
    function: Rule
    known: str | None = None

    def ask(self) -> Answer:
        """Ask the rule and return the answer; only Ctrl-C is raised."""
        where, rule = f"{self.subject.name}, {self.name}", f". The rule: {self.rule}" if self.rule else ""
        try:
            self.subject.ask(self.function)
        except KeyboardInterrupt:
            raise
        except NotAsked as reason:
            return Answer("not asked", str(reason))
        except BaseException as error:  # a component may call sys.exit()
            if self.known is not None:
                return Answer("known", f"{self.known} ({error})", error)
            told = str(error) if isinstance(error, CheckFailed) else f"{where}: {type(error).__name__}: {error}"
            return Answer("FAILED", told + rule, error)
        if self.known is None:
            return Answer("ok")
        declared = f"declared as a known failure ({self.known}), and it is kept: take the declaration away"
        return Answer("FAILED", f"{where}: {declared}")

    def __call__(self) -> None:
        """Ask the rule, as a test of its own.

        Under pytest a failure that is declared is an expected one (xfail), and a rule that is not asked is skipped.

        Raises:
            CheckFailed: the rule is broken; or it was declared to be, and is kept.
        """
        answer = self.ask()
        if answer.state == "FAILED":
            raise CheckFailed(answer.why) from answer.error
        if answer.state != "ok" and "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ:
            pytest = sys.modules["pytest"]
            (pytest.xfail if answer.state == "known" else pytest.skip)(answer.why)

    def __str__(self) -> str:
        return self.name


def named_options(case: Subject) -> None:
    """Every option has a name of its own and a type hint, so that a config can set it and its errors are found."""
    for each in inspect.signature(case.factory).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue  # what is in **kwargs has no name, and a config cannot set it, as it could not tell a misspelt one
        own = each.name not in reserved_names(case.kind) and each.kind != each.POSITIONAL_ONLY
        told = "it is positional-only, or a key of segkit's own in a config's table; rename it, take the / out"
        require(own, f"the option '{each.name}' can never be set: {told}")
        hinted = each.name in given_names(case.kind) or each.annotation is not each.empty
        told = f"a config's value cannot be checked; write {each.name}: int, or what it is"
        require(hinted, f"the option '{each.name}' has no type hint: {told}")
