"""Finds the plugins and keeps a broken one from harming the rest.

A plugin is a module named by an entry point of the group ``segkit``. Each is loaded in its own
``try``; what went wrong is kept in its :class:`PluginInfo` and shown where it matters. With
``SEGKIT_STRICT=1`` in the environment the first problem is raised instead.

The name of the entry point is the plugin's name. Two distributions may use the same one: both are
kept, and ``distribution:name`` tells them apart.
"""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any

from segkit import __version__, builtin, discovery, source
from segkit.discovery import PluginInfo
from segkit.errors import PluginError, printable
from segkit.foreign import cause, off_stdout, strict
from segkit.hooks import COMPONENT_HOOKS, EVENTS, Manager, may_be_event

_NAME = re.compile(r"(?!\d+$)\w[\w-]*")  # "/", ":" and "." separate names, and a number is a place in a list
_PLACE = re.compile(r"(?!\d)\w+(\.(?!\d)\w+)*:(?!\d)\w+(\.(?!\d)\w+)*")


@dataclass(frozen=True)
class Table:
    """All plugins, and what they offer: for each kind (plugin, name, place) in the order found.

    An observer's name and place are those of its plugin.
    """

    manager: Manager
    plugins: list[PluginInfo]
    offers: dict[str, list[tuple[PluginInfo, str, str]]]

    @property
    def broken(self) -> list[PluginInfo]:
        """The plugins with an error; what they offer rightly can still be used."""
        return [plugin for plugin in self.plugins if plugin.error]


@functools.cache
def table() -> Table:
    """The one plugin table, loaded on first use."""
    found, damaged = discovery.installed()
    result = load(found)
    for plugin in damaged:
        _keep(result, plugin)
    return result


def load(found: Iterable[EntryPoint]) -> Table:
    """A table of the core and of the given entry points.

    Raises:
        PluginError: a plugin is broken and ``SEGKIT_STRICT=1`` is set.
    """
    result = Table(Manager(), [], {kind: [] for kind in [*COMPONENT_HOOKS, "observer"]})
    _add(result, PluginInfo("core", "segkit", __version__, builtin.__name__), lambda: builtin)
    for info, entry_point in discovery.in_order(found):
        if info.error:
            _keep(result, info)
        else:
            _add(result, info, entry_point.load, entry_point)
    return result


class Observers:
    """Tells the events of one run to every plugin that listens, and hands back what they answer.

    An observer that fails is named on stderr, once for each event, and stops neither the run nor the others; one that
    is broken and cannot listen is named when the run starts.
    """

    def __init__(self) -> None:
        self._failed: set[tuple[str, str]] = set()

    def __call__(self, event: str, **arguments: Any) -> list[str]:
        """Tell an event; the texts that observers return, in the order of the plugins.

        Raises:
            BaseException: what the plugin raised, if ``SEGKIT_STRICT=1`` is set.
        """
        if event == "segkit_run_started":
            for plugin in table().broken:
                if plugin.deaf:
                    _tell(f"plugin {plugin} is broken and may not hear of this run: {plugin.error}")
        answers: list[str] = []
        for implementation in reversed(getattr(table().manager.hook, event).get_hookimpls()):
            given = [arguments[name] for name in implementation.argnames]
            try:
                answer = implementation.function(*map(copy.deepcopy, given))
                if not isinstance(answer, str | None):
                    raise TypeError(f"it returned {answer!r:.60}; a text or nothing is needed")
                answers += [answer] if answer else []
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer that exits must not end the run
                if strict():
                    raise
                key = implementation.plugin_name
                if (key, event) not in self._failed:
                    self._failed.add((key, event))
                    plugin = next(plugin for plugin in table().plugins if plugin.key == key)
                    _tell(f"plugin {plugin} failed in {event}: {cause(error)}; the run goes on")
        return answers


def _tell(text: str) -> None:
    print(f"segkit: {printable(text)}", file=sys.stderr, flush=True)


def _add(result: Table, info: PluginInfo, import_it: Callable[[], Any], entry_point: EntryPoint | None = None) -> None:
    problems: list[str] = []
    failure: BaseException | None = None
    offered: list[tuple[str, str, str]] = []
    deaf = False
    manager = result.manager
    try:
        with off_stdout():
            plugin = import_it()
            if manager.is_registered(plugin):
                problems.append(f"'{info.place}' is already the plugin '{manager.get_name(plugin)}'")
            elif manager.has_plugin(info.key):
                problems.append(f"{info.distribution} has another plugin of this name")
            else:
                mistakes = manager.take(plugin, info.key)
                problems += mistakes.values()
                deaf = any(map(may_be_event, mistakes))
                offered += [("observer", info.name, info.place)] if manager.events(plugin) else []
                offered += _offers(manager, plugin, problems)
    except KeyboardInterrupt as error:
        error.add_note(f"while plugin {info} was imported")
        raise
    except BaseException as error:  # a plugin that exits on import must not end the command
        failure = error
        problems.append(cause(error))
        deaf = source.mentions(info.place, EVENTS)
    if problems and entry_point is not None:
        problems += discovery.newer_segkit_needed(entry_point)
    info = replace(info, error="; ".join(problems), deaf=deaf)
    _keep(result, info, failure)
    for kind, name, place in offered:
        result.offers[kind].append((info, name, place))


def _keep(result: Table, info: PluginInfo, failure: BaseException | None = None) -> None:
    if info.error and strict():
        raise PluginError(f"plugin {info}: {info.error}") from failure
    result.plugins.append(info)


def _offers(manager: Manager, plugin: object, problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """(kind, name, place) of all components that a plugin offers; what is no name or place goes to ``problems``."""
    for kind, hook in COMPONENT_HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                answer = implementation.function()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                problems.append(f"{hook} failed: {cause(error)}")
                continue
            if not isinstance(answer, Mapping):
                problems.append(f"{hook} must return a mapping of names to places, not {type(answer).__name__}")
                continue
            for name, place in answer.items():
                if _fits(_NAME, name) and _fits(_PLACE, place):
                    yield kind, name, place
                else:
                    wanted = "names and places like 'package.module:Class'"
                    problems.append(f"{hook} must return {wanted}, not {name!r}: {place!r}")


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
