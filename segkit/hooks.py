"""The hooks as pluggy knows them, without those that a plugin got wrong: pluggy would never call them, or fail."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

import pluggy

from segkit import hookspecs
from segkit.errors import did_you_mean

COMPONENT_HOOKS = {
    "model": "segkit_models",
    "loss": "segkit_losses",
    "dataset": "segkit_datasets",
    "metric": "segkit_metrics",
    "optimizer": "segkit_optimizers",
    "check": "segkit_checks",
    "command": "segkit_commands",
}
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("segkit_"))
EVENTS = tuple(name for name in HOOKS if name not in COMPONENT_HOOKS.values())


class Manager(pluggy.PluginManager):
    """Takes of a plugin the hooks that are right, and tells what is wrong with the others."""

    def __init__(self) -> None:
        super().__init__(hookspecs.PROJECT)
        self.add_hookspecs(hookspecs)
        self._mistakes: dict[str, str] = {}

    def take(self, plugin: object, name: str) -> dict[str, str]:
        """Register a plugin; what it got wrong, by the name of the hook."""
        self._mistakes = {}
        self.register(plugin, name)
        if not self._mistakes and not self.get_hookcallers(plugin):
            self._mistakes[""] = "it implements no hook; is this the right module?"
        return self._mistakes

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """What pluggy asks of each attribute of a plugin: how it implements a hook, or that it does not."""
        options = super().parse_hookimpl_opts(plugin, name)
        wrong = _mistake(plugin, name, options)
        if wrong:
            self._mistakes[name] = wrong
        return None if wrong else options

    def events(self, plugin: object) -> list[str]:
        """The events that a plugin listens to."""
        names = [caller.name for caller in self.get_hookcallers(plugin) or []]
        return [event for event in EVENTS if event in names]


def may_be_event(name: str) -> bool:
    """Whether somebody who wrote this name of a hook may have meant an event."""
    close = get_close_matches(name, HOOKS, n=1)
    return not close or close[0] in EVENTS


def _mistake(plugin: object, name: str, options: pluggy.HookimplOpts | None) -> str:
    """What is wrong with an attribute of a plugin as a hook; nothing where it is right, or none."""
    function = getattr(plugin, name, None)
    if options is None:
        unmarked = name in HOOKS and callable(function)
        return f"'{name}' is not marked with @segkit.hookimpl" if unmarked else ""
    hook = options["specname"] or name
    if hook not in HOOKS:
        return "" if options["optionalhook"] else f"there is no hook '{hook}'{did_you_mean(hook, HOOKS)}"
    if options["wrapper"] or options["hookwrapper"]:
        return f"'{hook}' is a wrapper: plugins add to what others do, they do not change it"
    if any(ask(function) for ask in (inspect.isgeneratorfunction, inspect.iscoroutinefunction)):
        return f"'{hook}' is a generator or async, and would never run; write a plain function"
    return _wrong_arguments(hook, function)


def _wrong_arguments(hook: str, function: Any) -> str:
    given = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    code = getattr(function, "__code__", None)
    place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    for parameter in needed:
        if parameter.kind is parameter.KEYWORD_ONLY:
            return f"{hook} asks for '{parameter.name}' by keyword alone; remove the *{place}"
        if parameter.name not in given and parameter.kind is not parameter.VAR_KEYWORD:
            return f"{hook} asks for '{parameter.name}'; it is given {', '.join(given) or 'nothing'}{place}"
    return ""
