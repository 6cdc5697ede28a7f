"""``plugins``: who provides what, and what is wrong with the broken ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from segkit.cli.output import add_output_options, print_json
from segkit.cli.text import paragraph
from segkit.errors import ComponentNotFound, SegkitError, did_you_mean, one_line
from segkit.plugins import PluginInfo, Table, table
from segkit.registry import PLURALS, REGISTRIES, Component


class Plugins:
    """List the plugins: where each comes from, what it offers, and the cause if it is broken.

    The status is 1 where one is broken, or offers a class that is not there.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""
        parser.add_argument("name", nargs="?", help="only this plugin, or those of this distribution")
        add_output_options(parser, document="a list; of each its name, distribution, version, place, offers, problems")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Prints the plugins."""
        found = table()
        names = [name for plugin in found.plugins for name in (plugin.name, plugin.distribution)]
        if arguments.name and arguments.name not in names:
            raise ComponentNotFound(f"there is no plugin '{arguments.name}'{did_you_mean(arguments.name, names)}")
        asked = [each for each in found.plugins if arguments.name in (None, each.name, each.distribution)]
        listed = [_facts(found, plugin) for plugin in asked]
        if arguments.json:
            print_json(listed)
        else:
            for facts in listed:
                _print(facts)
        return 1 if any(facts["problems"] for facts in listed) else 0


def _facts(found: Table, plugin: PluginInfo) -> dict[str, Any]:
    return {
        **{name: getattr(plugin, name) for name in ("name", "distribution", "version", "place")},
        "offers": _offers(found, plugin),
        "problems": [*([plugin.error] if plugin.error else []), *_absent(plugin)],
    }


def _print(facts: dict[str, Any]) -> None:
    state = "broken" if facts["problems"] else "ok"
    print(one_line(f"{facts['name']}: {state}, {facts['distribution']} {facts['version']}, {facts['place']}"))
    for line in [*(f"{kind}: {', '.join(names)}" for kind, names in facts["offers"].items()), *facts["problems"]]:
        print(paragraph(line, "    "))


def _absent(plugin: PluginInfo) -> Iterator[str]:
    """What a plugin offers and does not have: each component is imported."""
    for component in _components(plugin):
        try:
            component.load()
        except SegkitError as error:
            yield str(error)


def _components(plugin: PluginInfo) -> list[Component]:
    everything = [component for registry in REGISTRIES.values() for component in registry.components()]
    return [each for each in everything if (each.distribution, each.plugin) == (plugin.distribution, plugin.name)]


def _offers(found: Table, plugin: PluginInfo) -> dict[str, list[str]]:
    """What a plugin offers, by the names that a config or a command line has for it, and the events it listens to."""
    offers = {}
    for kind, registry in REGISTRIES.items():
        names = [registry.shortest_name(each) for each in _components(plugin) if each.kind == kind != "observer"]
        if names:
            offers[PLURALS[kind]] = names
    events = found.events(plugin.key)
    return offers | ({"events": events} if events else {})
