"""Finds the plugins and keeps a broken one from harming the rest.

A plugin is a module named by an entry point of the group ``segkit``. Each is loaded in its own
``try``; what went wrong is kept in :attr:`PluginInfo.error` and shown where it matters. With
``SEGKIT_STRICT=1`` in the environment the first problem is raised instead.

The name of the entry point is the plugin's name. Two distributions may use the same one: both are
kept, and ``distribution:name`` tells them apart (pluggy's own loader would silently drop one).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from segkit import __version__, builtin, hookspecs
from segkit.errors import PluginError, did_you_mean, printable

COMPONENT_HOOKS = {
    "model": "segkit_models",
    "loss": "segkit_losses",
    "dataset": "segkit_datasets",
    "metric": "segkit_metrics",
    "command": "segkit_commands",
}
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("segkit_"))
_NAME = re.compile(r"[\w.-]+")  # neither "/" nor ":", which separate the parts of a qualified name
_PLACE = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class PluginInfo:
    """Who a plugin is, and what is wrong with it (``error`` is empty if nothing is)."""

    name: str
    distribution: str
    version: str
    place: str
    error: str = ""

    @property
    def key(self) -> str:
        """The name that no other plugin has."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Table:
    """All plugins, and what they offer: for each kind (plugin, name, place) in the order found."""

    manager: pluggy.PluginManager
    plugins: list[PluginInfo]
    offers: dict[str, list[tuple[PluginInfo, str, str]]]

    @property
    def broken(self) -> list[PluginInfo]:
        """The plugins with an error; what they offer rightly can still be used."""
        return [plugin for plugin in self.plugins if plugin.error]


@functools.cache
def table() -> Table:
    """The one plugin table, loaded on first use."""
    return load(entry_points(group=hookspecs.PROJECT))


def load(found: Iterable[EntryPoint]) -> Table:
    """A table of the core and of the given entry points.

    Raises:
        PluginError: a plugin is broken and ``SEGKIT_STRICT=1`` is set.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    result = Table(manager, [], {kind: [] for kind in COMPONENT_HOOKS})
    _add(result, PluginInfo("core", "segkit", __version__, builtin.__name__), lambda: builtin)
    for entry_point in sorted(found, key=_order):
        distribution, version = _origin(entry_point)
        info = PluginInfo(entry_point.name, distribution, version, entry_point.value)
        _add(result, info, entry_point.load, entry_point)
    return result


class Observers:
    """Tells the events of one run to every plugin that listens.

    Each is given copies, so that none can change the run or what another is told. One that fails is named on stderr,
    once for each event, and stops neither the run nor the others.
    """

    def __init__(self) -> None:
        self._failed: set[tuple[str, str]] = set()

    def __call__(self, event: str, **arguments: Any) -> None:
        """Tell an event.

        Raises:
            Exception: what the plugin raised, if ``SEGKIT_STRICT=1`` is set.
        """
        for implementation in reversed(getattr(table().manager.hook, event).get_hookimpls()):
            try:
                implementation.function(*(copy.deepcopy(arguments[name]) for name in implementation.argnames))
            except (Exception, SystemExit) as error:  # an observer that exits must not end the run
                if strict():
                    raise
                key = implementation.plugin_name
                if (key, event) not in self._failed:
                    self._failed.add((key, event))
                    plugin = next(plugin for plugin in table().plugins if plugin.key == key)
                    told = f"plugin {plugin} failed in {event}: {cause(error)}; the run goes on"
                    print(f"segkit: {printable(told)}", file=sys.stderr, flush=True)


def strict() -> bool:
    """Whether problems of plugins are raised (``SEGKIT_STRICT=1``) rather than reported."""
    return os.environ.get("SEGKIT_STRICT", "") not in ("", "0")


def cause(error: BaseException) -> str:
    """An exception of somebody else's code in one line: type, message and, where known, file and line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _order(entry_point: EntryPoint) -> tuple[bool, str, str]:
    """Ours first, so that none can take a module of ours; then by name, for the order of sys.path must not matter."""
    distribution, _ = _origin(entry_point)
    return distribution != "segkit", distribution, entry_point.name


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """The distribution's name and version; a damaged one may know neither."""
    found = entry_point.dist
    return (found.name or "unknown", found.version or "unknown") if found else ("unknown", "unknown")


def _add(result: Table, info: PluginInfo, import_it: Callable[[], Any], entry_point: EntryPoint | None = None) -> None:
    problems: list[str] = []
    failure: BaseException | None = None
    offered: list[tuple[str, str, str]] = []
    try:
        plugin = import_it()
        if result.manager.is_registered(plugin):
            problems.append(f"'{info.place}' is already the plugin '{result.manager.get_name(plugin)}'")
        else:
            result.manager.register(plugin, info.key)
            problems += _mistaken_hooks(result.manager, plugin)
            offered += _offers(result.manager, plugin, problems)
    except (Exception, SystemExit) as error:  # a plugin that exits on import must not end the command
        failure = error
        problems.append(cause(error))
    if problems and entry_point is not None:
        problems += _newer_segkit_needed(entry_point)
    info = replace(info, error="; ".join(problems))
    if problems and strict():
        raise PluginError(f"plugin {info}: {info.error}") from failure
    result.plugins.append(info)
    for kind, name, place in offered:
        result.offers[kind].append((info, name, place))


def _mistaken_hooks(manager: pluggy.PluginManager, plugin: object) -> Iterator[str]:
    """Hooks that pluggy accepts in silence and never calls."""
    for caller in manager.get_hookcallers(plugin) or []:
        own = [i for i in caller.get_hookimpls() if i.plugin is plugin and not i.optionalhook]
        if own and not caller.has_spec():
            yield f"there is no hook '{caller.name}'{did_you_mean(caller.name, HOOKS)}"
        if any(i.wrapper or i.hookwrapper for i in own):
            yield f"'{caller.name}' is a wrapper: plugins add to what others do, they do not change it"
    for name in HOOKS:
        if callable(getattr(plugin, name, None)) and manager.parse_hookimpl_opts(plugin, name) is None:
            yield f"'{name}' is not marked with @segkit.hookimpl"


def _offers(manager: pluggy.PluginManager, plugin: object, problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """(kind, name, place) of all that a plugin offers; what is no name or place goes to ``problems``."""
    for kind, hook in COMPONENT_HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                answer = implementation.function()
            except Exception as error:
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


def _newer_segkit_needed(entry_point: EntryPoint) -> list[str]:
    """Names the versions of segkit that a plugin needs and this is none of: the likely cause of its problem."""
    from packaging.requirements import InvalidRequirement, Requirement  # nobody waits for it where all is well

    distribution = entry_point.dist
    if distribution is None:
        return []
    for text in distribution.requires or []:
        with contextlib.suppress(InvalidRequirement):
            needed = Requirement(text)
            applies = needed.name == "segkit" and (needed.marker is None or needed.marker.evaluate())
            if applies and not needed.specifier.contains(__version__, prereleases=True):
                advice = f"pip install --upgrade segkit {distribution.name}"
                return [f"it needs segkit{needed.specifier} and this is {__version__}: {advice}"]
    return []
