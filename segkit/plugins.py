"""Finds the plugins, keeps a broken one from harming the rest, and calls their hooks.

A plugin is a module named by an entry point of the group ``segkit``. Each is loaded in its own ``try``. A plugin that
cannot be loaded, or gets a hook wrong, offers nothing; its :class:`Plugin` says why, and it is named where that may
matter. With ``SEGKIT_STRICT=1`` in the environment the first problem is raised instead.

The name of the entry point is the plugin's name. Two distributions may use the same one: both are kept, and
``distribution:name`` tells them apart. (pluggy's own loader would drop one of them and say nothing.)
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from segkit import __version__, builtin, hookspecs
from segkit.errors import PluginError, SegkitError, cause, did_you_mean

KINDS = ("model", "loss", "dataset", "metric", "optimizer", "check", "reader", "transform", "observer", "command")
PLURALS = {kind: f"{kind}es" if kind.endswith("s") else f"{kind}s" for kind in KINDS}
"""Kinds of components. The hook ``segkit_models`` offers models, and so on; observers are plugins that hear events."""
EVENTS = ("segkit_run_prepared", "segkit_run_started", "segkit_epoch_ended", "segkit_run_ended")
_OFFERS = {f"segkit_{plural}": kind for kind, plural in PLURALS.items() if kind != "observer"}
_NAME = re.compile(r"(?!\d+$)\w[\w-]*")  # "/", ":" and "." separate names, and a number is a place in a list
_PLACE = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class Plugin:
    """Who a plugin is, what it offers, and what is wrong with it.

    Attributes:
        place: its module.
        error: why it is broken, and offers nothing; empty where nothing is wrong.
        offers: kind, name and place of its components; an observer's name and place are the plugin's.
        events: the events it listens to, with pluggy's records of the functions.
    """

    name: str
    distribution: str
    version: str
    place: str
    error: str = ""
    offers: Sequence[tuple[str, str, str]] = field(default=(), compare=False)
    events: Mapping[str, pluggy.HookImpl] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """The name that no other plugin has."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"


@functools.cache
def installed() -> Sequence[Plugin]:
    """All plugins, loaded on first use; the broken ones too."""
    manager = _manager()
    core = Plugin("core", hookspecs.PROJECT, __version__, builtin.__name__)
    plugins = [loaded(core, lambda: builtin, manager=manager)]
    # ours first, so that none can take a module of ours; then by name, for the order of sys.path must not matter
    found = [(str(each.dist.name), each.dist, each) for each in entry_points(group=hookspecs.PROJECT) if each.dist]
    for name, distribution, point in sorted(found, key=lambda each: (each[0] != hookspecs.PROJECT, each[0], each[2])):
        plugin = Plugin(point.name, name, distribution.version, point.value)
        plugins.append(loaded(plugin, point.load, distribution.requires or (), manager))
    return tuple(plugins)


def broken() -> list[Plugin]:
    """The plugins with an error."""
    return [plugin for plugin in installed() if plugin.error]


def loaded(
    plugin: Plugin,
    load: Callable[[], Any],
    requires: Sequence[str] = (),
    manager: pluggy.PluginManager | None = None,
) -> Plugin:
    """A plugin with what it offers, or with its error.

    Args:
        plugin: who it is.
        load: imports and returns its module.
        requires: the requirements of its distribution, which may explain why it is broken.
        manager: knows the modules of other plugins, of which none may be this one's.

    Raises:
        PluginError: it is broken and ``SEGKIT_STRICT=1`` is set.
    """
    manager = manager or _manager()
    offers: list[tuple[str, str, str]] = []
    events: dict[str, pluggy.HookImpl] = {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a program may read what the command prints
            module = load()
            manager.register(module, plugin.key)
            callers = manager.get_hookcallers(module) or ()
            if not callers:
                raise PluginError("it has no function that is marked with @segkit.hookimpl; is this the right module?")
            for name, hook in [(each.name, hook) for each in callers for hook in each.get_hookimpls()]:
                if hook.plugin is not module:
                    continue
                if name in _OFFERS:
                    offers += [(_OFFERS[name], *offer) for offer in _checked(name, hook.function())]
                elif name in EVENTS:
                    events[name] = hook
                elif not hook.optionalhook:  # pluggy would take it and never call it
                    raise PluginError(f"there is no hook '{name}'{did_you_mean(name, [*_OFFERS, *EVENTS])}")
            offers += [("observer", plugin.name, plugin.place)] if events else []
            return replace(plugin, offers=offers, events={event: events[event] for event in EVENTS if event in events})
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin that exits on import must not end the command
        said_by_us = isinstance(error, PluginError | pluggy.PluginValidationError)
        text = " ".join(str(error).split()) if said_by_us else cause(error)
        plugin = replace(plugin, error=text + _another_segkit_needed(plugin, requires))
        if strict():
            raise PluginError(f"plugin {plugin}: {plugin.error}") from error
        return plugin


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


class Observers:
    """Tells the events of one run to every plugin that listens, and hands back what they answer.

    Each is given the read-only run itself, and copies of the rest. One that fails is named on stderr, once for each
    event, and stops neither the run nor the others; a plugin that is broken is named when the run starts.
    """

    def __init__(self) -> None:
        self._failed: set[tuple[str, str]] = set()

    def __call__(self, event: str, **arguments: Any) -> list[str]:
        """Tell an event; the texts that observers return.

        Raises:
            BaseException: what the plugin raised, if ``SEGKIT_STRICT=1`` is set.
        """
        for plugin in broken() if event == "segkit_run_started" else ():
            _warn(f"plugin {plugin} is broken: {plugin.error}")
        texts: list[str] = []
        for plugin, listener in _listeners(event):
            given = [arguments[each] if each == "run" else copy.deepcopy(arguments[each]) for each in listener.argnames]
            try:
                answer = listener.function(*given)
                if not isinstance(answer, str | None):
                    raise TypeError(f"it returned {answer!r:.60}; a text or nothing is needed")
                texts += [answer] if answer else []
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer that exits must not end the run
                if strict():
                    raise
                if (plugin.key, event) not in self._failed:
                    self._failed.add((plugin.key, event))
                    _warn(f"plugin {plugin} failed in {event}: {cause(error)}; the run goes on")
        return texts


def prepared(inputs: Any, processes: int) -> dict[str, Any]:
    """The settings that plugins choose for a run, see :func:`segkit.hookspecs.segkit_run_prepared`.

    Raises:
        SegkitError: a plugin refuses the run.
        PluginError: a plugin failed, or chose what cannot be.
    """
    chosen: dict[str, Any] = {}
    for plugin, listener in _listeners("segkit_run_prepared"):
        try:
            given = {"inputs": inputs, "scan": inputs.scan, "precision": inputs.precision, "processes": processes}
            answer: Any = listener.function(*(given[name] for name in listener.argnames)) or {}
            inputs, chosen = inputs.with_settings(answer), {**chosen, **answer}
        except SegkitError:
            raise
        except Exception as error:
            raise PluginError(f"plugin {plugin} failed in segkit_run_prepared: {cause(error)}") from error
    return chosen


def _listeners(event: str) -> list[tuple[Plugin, pluggy.HookImpl]]:
    """Who hears an event, those marked tryfirst first and trylast last."""
    found = [(plugin, plugin.events[event]) for plugin in reversed(installed()) if event in plugin.events]
    return sorted(found, key=lambda each: each[1].trylast - each[1].tryfirst)


def strict() -> bool:
    """Whether problems of plugins are raised (``SEGKIT_STRICT=1``) rather than reported."""
    return os.environ.get("SEGKIT_STRICT", "") not in ("", "0")


def _warn(text: str) -> None:
    print(f"segkit: {text}", file=sys.stderr, flush=True)


def _checked(hook: str, answer: object) -> Iterator[tuple[str, str]]:
    """The names and places that a hook returned.

    Raises:
        PluginError: it is no mapping of names to places.
    """
    if not isinstance(answer, Mapping):
        raise PluginError(f"{hook} must return a mapping of names to places, not {type(answer).__name__}")
    for name, place in answer.items():
        if not (_NAME.fullmatch(str(name)) and _PLACE.fullmatch(str(place))):
            wanted = "names and places like 'package.module:Class'"
            raise PluginError(f"{hook} must return {wanted}, not {name!r}: {place!r}")
        yield name, place


def _another_segkit_needed(plugin: Plugin, requires: Sequence[str]) -> str:
    """The versions of segkit that a plugin needs, where this is none of them: the likely cause of its problem."""
    from packaging.requirements import Requirement  # nobody waits for it where all is well

    for needed in map(Requirement, requires):
        if needed.name == hookspecs.PROJECT and not needed.specifier.contains(__version__, prereleases=True):
            advice = f"update segkit, or install an older {plugin.distribution}"
            return f"; it needs segkit{needed.specifier} and this is {__version__}: {advice}"
    return ""


def unmet(needed: object) -> list[str]:
    """What is wrong with the requirements of a config: they are no list, or something is missing, too old or broken.

    ``plugins = ["segkit-poly>=0.1"]`` names distributions and their versions as pip does.
    """
    if not isinstance(needed, (list, tuple)):
        return [f"{needed!r} is no list; several are allowed, as in ['segkit-poly>=0.1']"]
    if not needed:
        return []
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    problems = []
    for text in needed:
        try:
            wanted = Requirement(text if isinstance(text, str) else "")
            name, install = canonicalize_name(wanted.name), f'pip install "{wanted}"'
            # "===" takes any text, and ours goes to a shell
            if str(wanted) != f"{wanted.name}{wanted.specifier}" or "===" in str(wanted):
                raise InvalidRequirement("it is more than that")
            if not wanted.specifier.contains(found := version(name), prereleases=True):
                problems.append(f"{name} {found} is installed; {wanted.specifier} is needed: {install}")
        except InvalidRequirement as error:
            advice = "a distribution and its versions are needed, and nothing else, as in 'segkit-poly>=0.1'"
            problems.append(f"{text!r}: {str(error).splitlines()[0]}; {advice}")
        except PackageNotFoundError:
            meant = [plugin.distribution for plugin in installed() if canonicalize_name(plugin.name) == name]
            if meant:  # who knows what the package index has under the plugin's own name
                advice = f"write its distribution, '{meant[0]}{wanted.specifier}'"
                problems.append(f"'{wanted.name}' is a plugin; {advice}")
            else:
                problems.append(f"{wanted.name} is not installed: {install}")
        else:
            problems += [
                f"plugin {p} is broken: {p.error}" for p in broken() if canonicalize_name(p.distribution) == name
            ]
    return problems
