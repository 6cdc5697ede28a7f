"""``plugins``: who provides what, and what is wrong with the broken ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from segkit import source
from segkit.cli.text import paragraph
from segkit.discovery import PluginInfo
from segkit.errors import ComponentNotFound, did_you_mean, one_line
from segkit.plugins import Table, table
from segkit.registry import PLURALS, REGISTRIES, Component


class Plugins:
    """List the plugins: where each comes from, what it offers, and the cause if it is broken.

    The status is 1 where one is broken, or offers a class that is not there.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the command's argument."""
        parser.add_argument("name", nargs="?", help="only this plugin, or those of this distribution")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Prints the plugins."""
        found = table()
        names = [name for plugin in found.plugins for name in (plugin.name, plugin.distribution)]
        if arguments.name and arguments.name not in names:
            raise ComponentNotFound(f"there is no plugin '{arguments.name}'{did_you_mean(arguments.name, names)}")
        status = 0
        for plugin in found.plugins:
            if arguments.name in (None, plugin.name, plugin.distribution):
                problems = [*([plugin.error] if plugin.error else []), *_absent(plugin)]
                status = 1 if problems else status
                state = "broken" if problems else "ok"
                print(one_line(f"{plugin.name}: {state}, {plugin.distribution} {plugin.version}, {plugin.place}"))
                for line in [*_offers(found, plugin), *problems]:
                    print(paragraph(line, "    "))
        return status


def _absent(plugin: PluginInfo) -> Iterator[str]:
    """What a plugin offers and does not have, as far as its source tells: nothing is imported."""
    for component in _components(plugin):
        try:
            source.docstring(component.place)
        except source.Absent as error:
            yield f"{component.kind} '{component.name}' cannot be imported: {error}"
        except source.Unclear:
            pass


def _components(plugin: PluginInfo) -> list[Component]:
    everything = [component for registry in REGISTRIES.values() for component in registry.components()]
    return [each for each in everything if (each.distribution, each.plugin) == (plugin.distribution, plugin.name)]


def _offers(found: Table, plugin: PluginInfo) -> list[str]:
    """What a plugin offers, by the names that a config or a command line has for it."""
    lines = []
    for kind, registry in REGISTRIES.items():
        names = [registry.shortest_name(each) for each in _components(plugin) if each.kind == kind != "observer"]
        if names:
            lines.append(f"{PLURALS[kind]}: {', '.join(names)}")
    events = found.manager.events(found.manager.get_plugin(plugin.key))
    return [*lines, f"events: {', '.join(events)}"] if events else lines
