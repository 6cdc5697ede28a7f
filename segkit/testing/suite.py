"""The checks of a component, by its kind and its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from segkit.errors import ConfigError, did_you_mean
from segkit.options import read_options
from segkit.registry import REGISTRIES, Component
from segkit.testing.check import Check, Rule

_MODULES = {  # kind -> the modules with its rules; the class of its subjects is in the one of its own name
    "loss": ("check", "loss", "scored", "meta_device"),
    "model": ("check", "model", "meta_device"),
    "dataset": ("check", "dataset"),
    "metric": ("check", "metric", "scored"),
    "transform": ("check", "transform"),
    "reader": ("reader",),
}
KINDS = tuple(_MODULES)


@dataclass(frozen=True)
class _Given(Component):
    """A class that nobody has offered by a name yet."""

    target: Callable[..., Any] = field(kw_only=True)

    def load(self) -> Any:
        """The class itself."""
        return self.target


def checks(
    kind: str,
    component: str | Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    known_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """One check for each rule of the contract of its kind.

    Args:
        kind: ``loss``, ``model``, ``dataset``, ``metric``, ``transform`` or ``reader``.
        component: its name, as a config has it, or its class.
        options: with which it is built; a dataset's ``root`` is a sample's, with what its ``write_sample`` returns; a
            reader's only one is ``path``, of a file to read.
        known_failures: name of a check -> why the component does not keep the rule. The check then has to fail.

    Raises:
        ConfigError: no such kind, option or check; an option that is missing; a known failure without a reason.
        ComponentNotFound: no such component.
    """
    if kind not in KINDS:
        raise ConfigError(f"there are no checks for the kind '{kind}'{_close(kind, KINDS)}")
    options, known, rules = options or {}, known_failures or {}, rules_of(kind)
    if not isinstance(options, Mapping) or not isinstance(known, Mapping):
        raise ConfigError('options and known_failures map names, as {"gamma": 2.0} and {"gradcheck": "why"}')
    for name, why in known.items():
        if name not in rules:
            raise ConfigError(f"known_failures: there is no check '{name}'{_close(name, rules)}")
        if not isinstance(why, str) or not why.strip():
            raise ConfigError(f"known_failures: '{name}' has no reason; say why the component does not keep it")
    if isinstance(component, str):
        found = REGISTRIES[kind].find(component)
    elif callable(component):
        found = _Given(kind, getattr(component, "__name__", repr(component)), "", "", "", "", target=component)
    else:
        raise ConfigError(f"a component is its name or its class, not {component!r}")
    options, problems = read_options(found, options, found.name)
    if problems := _problems(found, options, problems):
        raise ConfigError(problems)
    make = getattr(import_module(f"segkit.testing.{kind}"), f"{kind.title()}Subject")
    subject = make(kind, found.name, found.load(), dict(options))
    sentences = {name: (rule.__doc__ or "").partition("\n")[0] for name, rule in rules.items()}
    return [Check(name, sentences[name], subject, rule, known.get(name)) for name, rule in rules.items()]


def rules_of(kind: str) -> dict[str, Rule]:
    """The rules of a kind by name, in the order in which they are asked: functions of a ``case``."""
    modules = [import_module(f"segkit.testing.{name}") for name in _MODULES[kind]]
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
        if [*inspect.signature(function).parameters] == ["case"]
    }


def _close(name: Any, known: Any) -> str:
    return f"{did_you_mean(str(name), known) or ';'} there are {', '.join(known)}"


def _problems(component: Component, options: Mapping[str, Any], problems: list[str]) -> list[str]:
    """What is wrong with the options; those that a dataset needs are known with its sample only."""
    if isinstance(options.get("class_weights"), str):
        return ["class_weights: a formula needs a data set, which the checks have not; give a number a class"]
    if component.kind == "reader":
        return [f"{component.name}: a reader has no option but path, of a file" for name in options if name != "path"]
    if component.kind == "dataset" or isinstance(component, _Given):
        return [problem for problem in problems if " is needed" not in problem]
    if any(" is needed" in problem for problem in problems):
        call = f'checks("{component.kind}", "{component.name}", options={{...}})'
        problems.append(f"give the checks a value: {call}, or check-plugin --option KEY=VALUE")
    return problems
