"""Create the checks of a component from its kind and name."""

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

_MODULES = {  # kind -> modules with its rules; the module named after the kind has its subject class
    "loss": ("check", "loss", "scored", "meta_device"),
    "model": ("check", "model", "meta_device"),
    "dataset": ("check", "dataset"),
    "metric": ("check", "metric", "scored"),
    "transform": ("check", "transform"),
}
KINDS = tuple(_MODULES)


@dataclass(frozen=True)
class _Given(Component):
    """A component class that is not registered under a name."""

    target: Callable[..., Any] = field(kw_only=True)

    def load(self) -> Any:
        """Return the class itself."""
        return self.target


def checks(
    kind: str,
    component: str | Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    known_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """Return one check for each rule of a component's kind.

    Args:
        kind: ``loss``, ``model``, ``dataset``, ``metric`` or ``transform``.
        component: its name, as in a config, or its class.
        options: options to build it with. Without ``root``, a dataset reads the miniature of its ``write_sample``.
        known_failures: name of a check -> why the component breaks the rule. The check must then fail.

    Raises:
        ConfigError: unknown kind, option or check; missing option; known failure without a reason.
        ComponentNotFound: there is no such component.
    """
    if kind not in KINDS:
        raise ConfigError(f"there are no checks for the kind '{kind}'{_close(kind, KINDS)}")
    known, rules = known_failures or {}, _rules_of(kind)
    for name, why in known.items():
        if name not in rules:
            raise ConfigError(f"known_failures: there is no check '{name}'{_close(name, rules)}")
        if not isinstance(why, str) or not why.strip():
            raise ConfigError(f"known_failures: '{name}' has no reason; say why the component breaks the rule")
    if isinstance(component, str):
        found = REGISTRIES[kind].find(component)
    else:
        found = _Given(kind, getattr(component, "__name__", repr(component)), "", "", "", "", target=component)
    options, problems = read_options(found, options or {}, found.name)
    if isinstance(options.get("class_weights"), str):
        raise ConfigError("class_weights: a formula needs a data set; give the checks one number per class")
    if kind == "dataset" or isinstance(found, _Given):  # a miniature gives what is needed
        problems = [problem for problem in problems if " is needed" not in problem]
    if problems:
        raise ConfigError(problems)
    make = getattr(import_module(f"segkit.testing.{kind}"), f"{kind.title()}Subject")
    subject = make(kind, found.name, found.load(), dict(options))
    sentences = {name: (rule.__doc__ or "").partition("\n")[0] for name, rule in rules.items()}
    return [Check(name, sentences[name], subject, rule, known.get(name)) for name, rule in rules.items()]


def _rules_of(kind: str) -> dict[str, Rule]:
    """Return the rules of a kind by name, in the order of checking: functions whose only parameter is ``case``."""
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
