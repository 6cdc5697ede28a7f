"""Finds and loads the plugins, isolates broken ones, and calls their hooks.

A plugin is a module named by an entry point of the group ``segkit``. A plugin that cannot be loaded, or implements a
hook wrongly, offers nothing; its :class:`Plugin` holds the error, which is reported where it may matter. With
``SEGKIT_STRICT=1`` in the environment the first error is raised instead.

The name of the entry point is the plugin's name; of two plugins with the same name the second is broken.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from segkit import __version__, builtin, hookspecs
from segkit.errors import PluginError, SegkitError, cause, did_you_mean

KINDS = ("model", "loss", "dataset", "metric", "optimizer", "check", "reader", "transform", "observer", "command")
PLURALS = {kind: f"{kind}es" if kind.endswith("s") else f"{kind}s" for kind in KINDS}
"""Kinds of components. The hook ``segkit_models`` offers models, and so on; observers are plugins that get events."""
EVENTS = ("segkit_run_prepared", "segkit_run_started", "segkit_epoch_ended", "segkit_run_ended")
_OFFERS = {f"segkit_{plural}": kind for kind, plural in PLURALS.items() if kind != "observer"}
_PIN = re.compile(r"(\w[\w.-]*)((?:[ ,]*[<>=!~]=? *\w[\w.*+-]*)*)")  # users paste it into a shell, so nothing else


@dataclass(frozen=True)
class Plugin:
    """A plugin: where it comes from, what it offers, and its error if it is broken.

    Attributes:
        place: its module.
        error: why the plugin is broken and offers nothing; "" if it is not broken.
        offers: kind, name and import path of its components; an observer has the plugin's name and module.
        events: the events it handles, with pluggy's records of the functions.
    """

    name: str
    distribution: str
    version: str
    place: str
    error: str = ""
    offers: Sequence[tuple[str, str, str]] = field(default=(), compare=False)
    events: Mapping[str, pluggy.HookImpl] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"


@functools.cache
def installed() -> Sequence[Plugin]:
    """All plugins, including broken ones; loaded on first use."""
    manager = _manager()
    core = Plugin("core", hookspecs.PROJECT, __version__, builtin.__name__)
    plugins = [load_plugin(core, lambda: builtin, manager=manager)]
    # ours first, so that no other plugin can claim our modules; then by name, independent of the order of sys.path
    points = [(*_named(each.dist), each) for each in entry_points(group=hookspecs.PROJECT) if each.dist]
    for name, number, point in sorted(points, key=lambda each: (each[0] != hookspecs.PROJECT, each[0], each[2])):
        plugin = Plugin(point.name, name, number, point.value)
        plugins.append(load_plugin(plugin, point.load, point.dist, manager))
    return tuple(plugins)


@functools.cache
def _named(distribution: Distribution) -> tuple[str, str]:
    """The name and version; the attributes of a distribution parse its metadata anew each time."""
    metadata = distribution.metadata
    return str(metadata["Name"]), str(metadata["Version"])


def broken() -> list[Plugin]:
    """The plugins with an error."""
    return [plugin for plugin in installed() if plugin.error]


def load_plugin(
    plugin: Plugin,
    load: Callable[[], Any],
    distribution: Distribution | None = None,
    manager: pluggy.PluginManager | None = None,
) -> Plugin:
    """Load a plugin; return it with its offers and events, or with its error.

    Args:
        plugin: the plugin, without offers.
        load: imports and returns its module.
        distribution: its distribution, whose requirements may explain why it is broken.
        manager: holds the modules of the plugins loaded so far; the new module must be another one.

    Raises:
        PluginError: the plugin is broken and ``SEGKIT_STRICT=1`` is set.
    """
    manager = manager or _manager()
    offers: list[tuple[str, str, str]] = []
    events: dict[str, pluggy.HookImpl] = {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a program may parse the standard output of the command
            module = load()
            manager.register(module, plugin.name)
            callers = manager.get_hookcallers(module) or ()
            if not callers:
                raise PluginError("it has no function that is marked with @segkit.hookimpl; is this the right module?")
            for name, hook in [(each.name, hook) for each in callers for hook in each.get_hookimpls()]:
                if hook.plugin is not module:
                    continue
                if name in _OFFERS:
                    offered: Any = hook.function()
                    offers += [(_OFFERS[name], str(each), str(place)) for each, place in offered.items()]
                elif name in EVENTS:
                    events[name] = hook
                elif not hook.optionalhook:  # pluggy would accept it and never call it
                    raise PluginError(f"there is no hook '{name}'{did_you_mean(name, [*_OFFERS, *EVENTS])}")
            offers += [("observer", plugin.name, plugin.place)] if events else []
            return replace(plugin, offers=offers, events={event: events[event] for event in EVENTS if event in events})
    except (Exception, SystemExit) as error:
        own_message = isinstance(error, PluginError | pluggy.PluginValidationError)
        text = " ".join(str(error).split()) if own_message else cause(error)
        plugin = replace(plugin, error=text + _another_segkit_needed(plugin, distribution))
        if strict():
            raise PluginError(f"plugin {plugin}: {plugin.error}") from error
        return plugin


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def notify(event: str, **arguments: Any) -> list[str]:
    """Send an event of a run to every plugin that handles it; return the texts that these observers return.

    Each observer receives the read-only run itself and copies of the other arguments. A failing observer is reported
    on stderr, and stops neither the run nor the others; broken plugins are reported when a run starts.

    Raises:
        Exception: what the plugin raised, if ``SEGKIT_STRICT=1`` is set.
    """
    for plugin in broken() if event == "segkit_run_started" else ():
        _warn(f"plugin {plugin} is broken: {plugin.error}")
    texts: list[str] = []
    for plugin, listener in _listeners(event):
        values = [arguments[key] if key == "run" else copy.deepcopy(arguments[key]) for key in listener.argnames]
        try:
            answer = listener.function(*values)
            if not isinstance(answer, str | None):
                raise TypeError(f"it returned {answer!r:.60}; a text or nothing is needed")
            texts += [answer] if answer else []
        except Exception as error:
            if strict():
                raise
            _warn(f"plugin {plugin} failed in {event}: {cause(error)}; the run continues")
    return texts


def prepared(inputs: Any, processes: int) -> dict[str, Any]:
    """Collect the numbers that plugins choose for a run, see :func:`segkit.hookspecs.segkit_run_prepared`.

    Raises:
        SegkitError: a plugin refuses the run.
        PluginError: a plugin failed, or chose an invalid number.
    """
    chosen: dict[str, Any] = {}
    for plugin, listener in _listeners("segkit_run_prepared"):
        try:
            values = {"inputs": inputs, "processes": processes}
            answer: Any = listener.function(*(values[name] for name in listener.argnames)) or {}
            inputs, chosen = inputs.with_auto(answer), {**chosen, **answer}
        except SegkitError:
            raise
        except Exception as error:
            raise PluginError(f"plugin {plugin} failed in segkit_run_prepared: {cause(error)}") from error
    return chosen


def _listeners(event: str) -> list[tuple[Plugin, pluggy.HookImpl]]:
    """The plugins that handle an event with their functions, those marked tryfirst first and trylast last."""
    listeners = [(plugin, plugin.events[event]) for plugin in reversed(installed()) if event in plugin.events]
    return sorted(listeners, key=lambda each: each[1].trylast - each[1].tryfirst)


def strict() -> bool:
    """Whether errors of plugins are raised (``SEGKIT_STRICT=1``) rather than reported."""
    return os.environ.get("SEGKIT_STRICT", "") not in ("", "0")


def _warn(text: str) -> None:
    print(f"segkit: {text}", file=sys.stderr, flush=True)


def _another_segkit_needed(plugin: Plugin, distribution: Distribution | None) -> str:
    """A hint, if a plugin requires another version of segkit: the likely cause of its error."""
    from packaging.requirements import Requirement  # slow to import, and only needed for a broken plugin

    for needed in map(Requirement, distribution.requires or () if distribution else ()):
        if needed.name == hookspecs.PROJECT and not needed.specifier.contains(__version__, prereleases=True):
            advice = f"update segkit, or install an older {plugin.distribution}"
            return f"; it needs segkit{needed.specifier} and this is {__version__}: {advice}"
    return ""


def unmet_requirements(needed: Any) -> list[str]:
    """What is missing of a config's ``plugins = ["segkit-poly>=0.1"]``: distributions and versions in pip's syntax."""
    problems = []
    for text in needed if isinstance(needed, list | tuple) else [needed]:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # slow to import

        pin = _PIN.fullmatch(str(text).strip())
        try:
            if not pin or isinstance(needed, str):
                raise InvalidSpecifier
            name, wanted, install = pin[1], SpecifierSet(pin[2]), f'pip install "{pin[0]}"'
            if not wanted.contains(found := version(name), prereleases=True):
                problems.append(f"{name} {found} is installed; {wanted} is needed: {install}")
        except InvalidSpecifier:
            problems.append(f"{text!r}: a list of distributions and versions is needed, such as ['segkit-poly>=0.1']")
        except PackageNotFoundError:
            problems.append(f"{name} is not installed: {install}")
    return problems
