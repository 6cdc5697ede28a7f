"""``plugins``: who provides what, and what is wrong with the broken ones."""

from __future__ import annotations

import argparse

from segkit.cli.text import paragraph
from segkit.errors import one_line
from segkit.plugins import COMPONENT_HOOKS, HOOKS, PluginInfo, Table, table
from segkit.registry import PLURALS


class Plugins:
    """List the plugins: where each comes from, what it offers, and the cause if it is broken."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds no arguments."""

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Prints the plugins."""
        found = table()
        for plugin in found.plugins:
            state = "broken" if plugin.error else "ok"
            print(one_line(f"{plugin.name}: {state}, {plugin.distribution} {plugin.version}, {plugin.place}"))
            for line in [*_offers(found, plugin), *([plugin.error] if plugin.error else [])]:
                print(paragraph(line, "    "))
        return 0


def _offers(found: Table, plugin: PluginInfo) -> list[str]:
    lines = []
    for kind, offers in found.offers.items():
        names = [name for owner, name, _ in offers if owner is plugin]
        if names:
            lines.append(f"{PLURALS[kind]}: {', '.join(names)}")
    callers = found.manager.get_hookcallers(found.manager.get_plugin(plugin.key)) or []
    events = [c.name for c in callers if c.name in HOOKS and c.name not in COMPONENT_HOOKS.values()]
    return [*lines, f"events: {', '.join(events)}"] if events else lines
