"""Checks: a rule, the component under test, and the answer; known failures can be declared."""

from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from segkit.errors import SegkitError, first_few


class CheckFailed(AssertionError):
    """A component breaks a rule of its contract; the message describes how."""


class NotAsked(Exception):
    """A rule does not apply to a component or cannot be checked; the message gives the reason."""


Same = tuple[str, Any, Any]
"""(description, result, expected result): the two results must be equal, see :func:`difference`."""
Rule = Callable[[Any], Iterable[Same] | None]
"""A function of a subject. Its name is the name of the check; the first sentence of its docstring states the rule."""


def require(holds: object, message: str) -> None:
    """Fail the check with the message unless the condition holds.

    Raises:
        CheckFailed: the condition is false.
    """
    if not holds:
        raise CheckFailed(message)


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Convert an exception in the body to a failed check; its message is ``what`` and the exception's first line.

    Raises:
        CheckFailed: the body raised an exception.
    """
    try:
        yield
    except NotAsked:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]  # torch's messages may be pages long
        own = isinstance(error, SegkitError | CheckFailed)
        raise CheckFailed(f"{what}: {error if own else f'{type(error).__name__}: {first}'}") from error


def difference(found: Any, expected: Any) -> str:
    """Describe how two results differ; "" if they are equal up to rounding errors of sums.

    Mappings are compared by key, numbers with a relative tolerance of 1e-5, tensors to 1e-3 of the largest number.
    """
    if isinstance(expected, Mapping):
        if found.keys() != expected.keys():
            return f"there are {first_few([*found])} instead of {first_few([*expected])}"
        differences = {name: difference(found[name], value) for name, value in expected.items()}
        return next((f"{name} {text}" for name, text in differences.items() if text), "")
    if hasattr(expected, "masked_fill"):  # a tensor; without importing torch just to list rules
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            return f"is {found.dtype} {list(found.shape)}, expected {expected.dtype} {list(expected.shape)}"
        one, other = found.double(), expected.double()
        apart = (one - other).abs().masked_fill((one == other) | (one.isnan() & other.isnan()), 0)
        most = (apart.max() / other.abs().max().clamp_min(1e-30)).item() if apart.numel() else 0
        return "" if most <= 1e-3 else f"differs by up to {most:.2g} of the largest number"
    if isinstance(expected, float):
        same = math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(found) and math.isnan(expected))
        return "" if same else f"= {found:.6g}, expected {expected:.6g}"
    return "" if found == expected else f"is {found!r:.60}, expected {expected!r:.60}"


@dataclass(frozen=True)
class Subject:
    """A component to be checked; each kind has a subclass with what its rules need.

    Attributes:
        kind: one of ``KINDS``.
        name: name of the component in messages.
        factory: class of the component.
        options: options to build it with, in addition to the injected ones.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, rule: Rule) -> None:
        """Check a rule.

        Raises:
            CheckFailed, NotAsked: the rule does, or two results that must be equal differ (CheckFailed).
        """
        for what, found, expected in rule(self) or ():
            problem = difference(found, expected)
            require(not problem, f"{what}: {problem}")

    def build(self, **given: Any) -> Any:
        """Build the component with its options and those of ``given`` that are parameters of its constructor.

        Raises:
            CheckFailed: its constructor raises.
        """
        arguments = {name: value for name, value in given.items() if self.has_option(name)}
        try:
            return self.factory(**{**arguments, **self.options})
        except SegkitError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise CheckFailed(f"{self.name} cannot be built with {arguments}: {problem}") from error

    def has_option(self, name: str) -> bool:
        """Whether the constructor has a parameter of this name."""
        return name in inspect.signature(self.factory).parameters


@dataclass(frozen=True)
class Answer:
    """The result of a check: its state, the reason, and the exception that caused a failure."""

    state: Literal["ok", "known", "not asked", "FAILED"]
    why: str = ""
    error: Exception | None = None


@dataclass(frozen=True)
class Check:
    """A rule for one component; call it to check the rule.

    Attributes:
        name: name of the rule.
        rule: the rule in one sentence.
        subject: the component.
        function: the function that checks the rule.
        known: the declared reason why the component breaks the rule; None: it must keep it.
    """

    name: str
    rule: str
    subject: Subject
    function: Rule
    known: str | None = None

    def ask(self) -> Answer:
        """Check the rule and return the answer; a component's exceptions are failures."""
        where, rule = f"{self.subject.name}, {self.name}", f". The rule: {self.rule}" if self.rule else ""
        try:
            self.subject.ask(self.function)
        except NotAsked as reason:
            return Answer("not asked", str(reason))
        except Exception as error:
            if self.known is not None:
                return Answer("known", f"{self.known} ({error})", error)
            problem = str(error) if isinstance(error, CheckFailed) else f"{where}: {type(error).__name__}: {error}"
            return Answer("FAILED", problem + rule, error)
        if self.known is None:
            return Answer("ok")
        declared = f"declared as a known failure ({self.known}), but the check passes: remove the declaration"
        return Answer("FAILED", f"{where}: {declared}")

    def __call__(self) -> None:
        """Check the rule as a test.

        Under pytest a declared failure is expected (xfail), and a rule that does not apply is skipped.

        Raises:
            CheckFailed: the rule is broken, or a declared failure did not occur.
        """
        answer = self.ask()
        if answer.state == "FAILED":
            raise CheckFailed(answer.why) from answer.error
        if answer.state != "ok" and "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ:
            pytest = sys.modules["pytest"]
            (pytest.xfail if answer.state == "known" else pytest.skip)(answer.why)

    def __str__(self) -> str:
        return self.name


def copies(case: Any) -> Iterator[Same]:
    """After use, a pickled copy (as sent to other processes) and a deep copy behave like the original."""
    for name in ("pickled", "deep"):
        built = case.instance()
        with failing(f"no {name} copy can be made"):
            other = pickle.loads(pickle.dumps(built)) if name == "pickled" else copy.deepcopy(built)
        yield f"a {name} copy", case.outputs(other), case.outputs(built)
