"""What a check is: a rule, the component that is asked, and the answer, with failures that are known declared."""

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
from segkit.options import given_names, reserved_names


class CheckFailed(AssertionError):
    """A component breaks a rule of its contract; the message says how."""


class NotAsked(Exception):
    """A rule does not apply to a component, or cannot be asked here; the message says why."""


Same = tuple[str, Any, Any]
"""How the first of two results came about, and the two, which have to be the same: see :func:`difference`."""
Rule = Callable[[Any], Iterable[Same] | None]
"""A function of a subject, by whose name a check goes, and whose docstring begins with the rule in one sentence."""


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


def difference(found: Any, expected: Any) -> str:
    """In words, how two results differ; empty where they do by no more than sums in another order explain.

    Mappings are compared by key, numbers to 1e-5 of themselves, tensors to 1e-3 of the largest number.
    """
    if isinstance(expected, Mapping):
        if found.keys() != expected.keys():
            return f"there are {first_few([*found])} instead of {first_few([*expected])}"
        told = {name: difference(found[name], value) for name, value in expected.items()}
        return next((f"{name} {text}" for name, text in told.items() if text), "")
    if hasattr(expected, "masked_fill"):  # a tensor; a command that only looks up a rule's name imports no torch
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            return f"is {found.dtype} {list(found.shape)}, expected {expected.dtype} {list(expected.shape)}"
        one, other = found.double(), expected.double()
        apart = (one - other).abs().masked_fill((one == other) | (one.isnan() & other.isnan()), 0)
        most = (apart.max() / other.abs().max().clamp_min(1e-30)).item() if apart.numel() else 0
        return "" if most <= 1e-3 else f"differs by up to {most:.2g} of the largest number"
    if isinstance(expected, float):
        same = math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(found) and math.isnan(expected))
        return "" if same else f"= {found:.6g}, expected {expected:.6g}"
    if isinstance(expected, bytes):  # a digest, which tells nobody anything
        return "" if found == expected else "is another one"
    return "" if found == expected else f"is {found!r:.60}, expected {expected!r:.60}"


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
        """Ask a rule.

        Raises:
            CheckFailed, NotAsked: it does, or two results that have to be the same differ.
        """
        for what, found, expected in rule(self) or ():
            told = difference(found, expected)
            require(not told, f"{what}: {told}")

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


def copies(case: Any) -> Iterator[Same]:
    """A pickled copy (for other processes) and a deep copy, made when it has been used, do what it does itself."""
    for name in ("pickled", "deep"):
        built = case.used()
        with failing(f"no {name} copy can be made"):
            other = pickle.loads(pickle.dumps(built)) if name == "pickled" else copy.deepcopy(built)
        yield f"a {name} copy", case.seen(other), case.seen(built)
