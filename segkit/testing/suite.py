"""The checks of a component, by its kind and its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from segkit.build import check_options
from segkit.errors import ConfigError, did_you_mean
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
        ConfigError: no such kind, option or check.
        ComponentNotFound: no such component.
    """
    if kind not in KINDS:
        close = did_you_mean(kind, KINDS) or ";"
        raise ConfigError(f"there are no checks for the kind '{kind}'{close} there are {', '.join(KINDS)}")
    subject = _subject(kind, component, dict(options or {}))
    rules: Sequence[Rule] = import_module(f"segkit.testing.{kind}").RULES
    known = dict(known_failures or {})
    names = [rule.__name__ for rule in rules]
    for name in known:
        if name not in names:
            close = did_you_mean(name, names) or ";"
            raise ConfigError(f"known_failures: there is no check '{name}'{close} there are {', '.join(names)}")
    return [
        Check(rule.__name__, (rule.__doc__ or "").partition("\n")[0], subject, rule, known.get(rule.__name__, ""))
        for rule in rules
    ]


def _subject(kind: str, component: str | Callable[..., Any], options: dict[str, Any]) -> Subject:
    if not isinstance(component, str):
        return Subject(kind, getattr(component, "__name__", repr(component)), component, options)
    found = registry_of(kind).find(component)
    problems = check_options(found, options, component)
    if problems and kind != "dataset":  # of a dataset's options some are known with its sample only
        raise ConfigError(problems)
    return Subject(kind, found.name, found.load(), options)
