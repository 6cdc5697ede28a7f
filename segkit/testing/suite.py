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
from segkit.testing.check import Check, Rule, Subject

_MODULES = {  # kind -> the modules with its rules
    "loss": ("check", "loss", "scored"),
    "model": ("check", "model"),
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
    options, known = options or {}, known_failures or {}
    for what, given, example in (
        ("options", options, '{"gamma": 2.0}'),
        ("known_failures", known, '{"gradcheck": "why"}'),
    ):
        if not isinstance(given, Mapping):
            raise ConfigError(f"{what} is a {type(given).__name__}; it maps names, as in {example}")
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
    """The rules of a kind by name, in the order in which they are asked: public functions of a ``case``."""
    modules = [import_module(f"segkit.testing.{name}") for name in _MODULES[kind]]
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
        if [*inspect.signature(function).parameters] == ["case"]
    }


def _close(name: Any, known: Any) -> str:
    return f"{did_you_mean(str(name), known) or ';'} there are {', '.join(known)}"


def _subject(kind: str, component: str | Callable[..., Any], options: Mapping[str, Any]) -> Subject:
    """The component, its options checked; those that a dataset needs are known with its sample only."""
    if isinstance(component, str):
        found = REGISTRIES[kind].find(component)
    elif callable(component):
        found = _Given(kind, getattr(component, "__name__", repr(component)), "", "", "", "", target=component)
    else:
        raise ConfigError(f"a component is its name or its class, not {component!r}")
    options, problems = read_options(found, options, found.name)
    if isinstance(options.get("class_weights"), str):
        raise ConfigError("class_weights: a formula needs a data set, which the checks have not; give a number a class")
    needed = " is needed"
    if kind == "reader":
        problems = [f"{found.name}: a reader has no option but path, of a file" for name in options if name != "path"]
    if kind == "dataset" or not isinstance(component, str):
        problems = [problem for problem in problems if needed not in problem]
    if any(needed in problem for problem in problems):
        call = f'checks("{kind}", "{found.name}", options={{...}})'
        problems.append(f"give the checks a value: {call}, or check-plugin --option KEY=VALUE")
    if problems:
        raise ConfigError(problems)
    make: type[Subject] = getattr(import_module(f"segkit.testing.{kind}"), f"{kind.title()}Subject")
    return make(kind, found.name, found.load(), dict(options))
