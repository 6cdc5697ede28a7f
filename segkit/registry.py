"""Registries: map names to components, whose classes are imported on first use.

A component has two names: ``dice``, and ``losses/dice`` with its plugin. A name that matches several components is an
error that lists them: installing a package can make the name in an old config ambiguous, but never changes its meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from segkit import plugins
from segkit.errors import ComponentNotFound, PluginError, SegkitError, cause, did_you_mean
from segkit.plugins import PLURALS


@dataclass(frozen=True)
class Component:
    """A named class with its import path and the plugin that offers it; an observer is its plugin's module."""

    kind: str
    name: str
    place: str
    plugin: str
    distribution: str
    version: str

    @property
    def names(self) -> tuple[str, str]:
        """The names that select this component, shortest first."""
        return self.name, f"{self.plugin}/{self.name}"

    def load(self) -> Any:
        """Import and return the class (or function), or an observer's module.

        Raises:
            PluginError: the component cannot be imported.
        """
        module, _, path = self.place.partition(":")
        try:
            return functools.reduce(getattr, filter(None, path.split(".")), import_module(module))
        except SegkitError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self} cannot be imported from '{self.place}': {cause(error)}") from error

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of plugin '{self.plugin}' ({self.distribution} {self.version})"


class Registry(Mapping[str, type[Any]]):
    """All components of one kind, by name. A look-up imports the class; listing the names imports nothing."""

    def __init__(self, kind: str) -> None:
        self.kind, self.plural = kind, PLURALS[kind]

    def components(self) -> list[Component]:
        """All components, sorted by name and plugin."""
        components = [
            Component(kind, name, place, plugin.name, plugin.distribution, plugin.version)
            for plugin in plugins.installed()
            for kind, name, place in plugin.offers
            if kind == self.kind
        ]
        return sorted(components, key=lambda component: component.names)

    def find(self, name: str) -> Component:
        """Return the component with this name, without importing its class.

        Raises:
            ComponentNotFound: none has this name, or several have it.
        """
        matches = self.matches(name)
        if len(matches) == 1:
            return matches[0]
        if matches:
            which = " or ".join(f"'{self.shortest_name(component)}'" for component in matches)
            raise ComponentNotFound(f"several plugins offer the {self.kind} '{name}'; say which: {which}")
        close = did_you_mean(name, [every for component in self.components() for every in component.names])
        there_are = f"There are: {', '.join(self)}." if len(self) else "There are none."
        message = f"there is no {self.kind} '{name}'{close or '.'} {there_are}"
        if not close:  # not a misspelt name
            message += " Its plugin may not be installed; `python -m segkit plugins` lists the installed plugins."
        broken = [f"plugin {plugin} is broken: {plugin.error}" for plugin in plugins.broken()]
        raise ComponentNotFound("\n".join([message, *broken]))

    def shortest_name(self, component: Component) -> str:
        """The shortest name that selects this component only."""
        return next((name for name in component.names if self.matches(name) == [component]), component.names[-1])

    def matches(self, name: object) -> list[Component]:
        """The components with this name; no plugin can make the name of one of segkit's own commands ambiguous."""
        matches = [component for component in self.components() if name in component.names]
        core = [each for each in matches if each.kind == "command" and each.distribution == "segkit"]
        return core or matches

    def __getitem__(self, name: str) -> type[Any]:
        return self.find(name).load()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter([self.shortest_name(component) for component in self.components()])

    def __len__(self) -> int:
        return len(self.components())


REGISTRIES = {kind: Registry(kind) for kind in PLURALS}
models, losses, datasets, metrics, optimizers, checks, readers, transforms, observers, commands = REGISTRIES.values()
