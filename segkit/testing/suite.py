"""The checks of a component, by its kind and its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from segkit.errors import ConfigError, did_you_mean, first_few
from segkit.options import given_names, read_options
from segkit.registry import registry_of
from segkit.testing.check import Check, Rule, Subject, named_options

KINDS = ("loss", "model", "dataset", "metric")


def checks(
    kind: str,
    component: str | Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    known_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """One check for each rule of the contract of its kind.

    Args:
        kind: ``loss``, ``model``, ``dataset`` or ``metric``.
        component: its name, as a config has it, or its class.
        options: with which it is built; a dataset's ``root`` is a sample's, with what its ``write_sample`` returns.
        known_failures: name of a check -> why the component does not keep the rule. The check then has to fail.

    Raises:
        ConfigError: no such kind, option or check; an option that is missing; a known failure without a reason.
        ComponentNotFound: no such component.
    """
    if kind not in KINDS:
        raise ConfigError(f"there are no checks for the kind '{kind}'{_close(kind, KINDS)}")
    options = _mapping("options", options, '{"gamma": 2.0}')
    known = _mapping("known_failures", known_failures, '{"gradcheck": "why"}')
    rules = rules_of(kind)
    for name, reason in known.items():
        if name not in rules:
            raise ConfigError(f"known_failures: there is no check '{name}'{_close(name, rules)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"known_failures: '{name}' has no reason; say why the component does not keep it")
    subject = _subject(kind, component, options)
    return [
        Check(name, (rule.__doc__ or "").partition("\n")[0], subject, rule, known.get(name))
        for name, rule in rules.items()
    ]


def rules_of(kind: str) -> dict[str, Rule]:
    """The rules of a kind by name, in the order in which they are asked: the public functions of the kind's module."""
    module = import_module(f"segkit.testing.{kind}")
    functions = [each for each in vars(module).values() if inspect.isfunction(each)]
    own = [each for each in functions if each.__module__ == module.__name__ and not each.__name__.startswith("_")]
    return {"named_options": named_options, **{rule.__name__: rule for rule in own}}


def _close(name: Any, known: Any) -> str:
    return f"{did_you_mean(str(name), known) or ';'} there are {', '.join(known)}"


def _mapping(what: str, given: Any, example: str) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{what} is a {type(given).__name__}; it maps names, as in {example}")
    return dict(given or {})


def _subject(kind: str, component: str | Callable[..., Any], options: dict[str, Any]) -> Subject:
    """The component, its options checked; some of a dataset's are known with its sample only."""
    make: type[Subject] = getattr(import_module(f"segkit.testing.{kind}"), f"{kind.title()}Subject")
    if isinstance(options.get("class_weights"), str):
        raise ConfigError("class_weights: a formula needs a data set, which the checks have not; give a number a class")
    if not isinstance(component, str):
        if not callable(component):
            raise ConfigError(f"a component is its name or its class, not {component!r}")
        subject = make(kind, getattr(component, "__name__", repr(component)), component, options)
        _refuse_unknown_options(subject)
        return subject
    found = registry_of(kind).find(component)
    subject = make(kind, found.name, found.load(), options)
    if kind == "dataset":
        _refuse_unknown_options(subject)
    elif problems := read_options(found, options, component)[1]:
        if any(" needs '" in problem for problem in problems):
            call = f'checks("{kind}", "{found.name}", options={{...}})'
            problems.append(f"give the checks a value: {call}, or check-plugin --option KEY=VALUE")
        raise ConfigError(problems)
    return subject


def _refuse_unknown_options(subject: Subject) -> None:
    parameters = inspect.signature(subject.factory).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # the rule named_options says so
    known = [name for name in parameters if name not in given_names(subject.kind)]
    for name in subject.options:
        if name not in known:
            close = did_you_mean(name, known) or ";"
            raise ConfigError(
                f"{subject.name} has no option '{name}'{close} there are {first_few(known, 20) or 'none'}"
            )
