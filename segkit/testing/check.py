"""One check: a rule, the component it is asked of, and what becomes of a failure that is known."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segkit.errors import SegkitError


class CheckFailed(AssertionError):
    """A component breaks a rule of its contract; the message says how."""


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
        except SegkitError:
            raise
        except Exception as error:
            raise CheckFailed(
                f"{self.name} cannot be built with {arguments}: {type(error).__name__}: {error}"
            ) from error

    def has_option(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.target).parameters


Rule = Callable[[Subject], None]
"""A function that raises :class:`CheckFailed`; its name is the check's, its docstring the rule in one sentence."""


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
    known: str = ""

    def __call__(self) -> None:
        """Ask.

        Raises:
            CheckFailed: the rule is broken; or it was declared to be, and is kept. Under pytest a declared failure
                is an expected one (xfail).
        """
        try:
            self.function(self.subject)
        except Exception as error:
            if self.known:
                self._expected(error)
                return
            if isinstance(error, CheckFailed):
                raise
            raise CheckFailed(f"{self.subject.name}, {self.name}: {type(error).__name__}: {error}") from error
        if self.known:
            raise CheckFailed(
                f"{self.subject.name}, {self.name}: declared as a known failure ({self.known}), and it is kept: "
                "take the declaration away"
            )

    def _expected(self, error: Exception) -> None:
        if "pytest" in sys.modules:
            sys.modules["pytest"].xfail(f"{self.known} ({error})")

    def __str__(self) -> str:
        return self.name
