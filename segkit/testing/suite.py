"""The checks of a component, by its kind and its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from segkit.build import check_options, given_names
from segkit.errors import ConfigError, did_you_mean, first_few
from segkit.registry import registry_of
from segkit.testing.check import Check, Rule, Subject

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
        close = did_you_mean(str(kind), KINDS) or ";"
        raise ConfigError(f"there are no checks for the kind '{kind}'{close} there are {', '.join(KINDS)}")
    options, known = _mapping("options", options), _mapping("known_failures", known_failures)
    rules = rules_of(kind)
    for name, reason in known.items():
        if name not in rules:
            close = did_you_mean(str(name), rules) or ";"
            raise ConfigError(f"known_failures: there is no check '{name}'{close} there are {', '.join(rules)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"known_failures: '{name}' has no reason; say why the component does not keep it")
    subject = _subject(kind, component, options)
    return [
        Check(name, (rule.__doc__ or "").partition("\n")[0], subject, rule, known.get(name))
        for name, rule in rules.items()
    ]


def rules_of(kind: str) -> dict[str, Rule]:
    """The rules of a kind by their names, in the order in which they are asked."""
    return {rule.__name__: rule for rule in import_module(f"segkit.testing.{kind}").RULES}


def _mapping(what: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{what} is a {type(given).__name__}; it maps names, as in {_EXAMPLES[what]}")
    return dict(given or {})


_EXAMPLES = {"options": '{"gamma": 2.0}', "known_failures": '{"gradcheck": "why"}'}


def _subject(kind: str, component: str | Callable[..., Any], options: dict[str, Any]) -> Subject:
    if isinstance(options.get("class_weights"), str):
        raise ConfigError("class_weights: a formula needs a data set, which the checks have not; give a number a class")
    if not isinstance(component, str):
        if not callable(component):
            raise ConfigError(f"a component is its name or its class, not {component!r}")
        subject = Subject(kind, getattr(component, "__name__", repr(component)), component, options)
        _refuse_unknown_options(subject)
        return subject
    found = registry_of(kind).find(component)
    subject = Subject(kind, found.name, found.load(), options)
    if kind == "dataset":  # some of its options are known with its sample only
        _refuse_unknown_options(subject)
        return subject
    problems = check_options(found, options, component)
    if any(" needs '" in problem for problem in problems):
        call = f'checks("{kind}", "{found.name}", options={{...}})'
        problems.append(f"give the checks a value: {call}, or check-plugin --option KEY=VALUE")
    if problems:
        raise ConfigError(problems)
    return subject


def _refuse_unknown_options(subject: Subject) -> None:
    parameters = inspect.signature(subject.target).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # a rule of its own says so
    known = [name for name in parameters if name not in given_names(subject.kind)]
    for name in subject.options:
        if name not in known:
            raise ConfigError(
                f"{subject.name} has no option '{name}'{did_you_mean(str(name), known) or ';'} "
                f"there are {first_few(known, 20) or 'none'}"
            )
