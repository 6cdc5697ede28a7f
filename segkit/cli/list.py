"""``list``: every component that is installed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from segkit import plugins
from segkit.cli.output import add_output_options, print_json
from segkit.cli.text import columns, paragraph
from segkit.errors import one_line
from segkit.options import glance
from segkit.registry import PLURALS, Component, Registry, registry_of

_NO_SUMMARY = "no docstring found"
"""For an empty column: a source may also not tell, where nothing is imported."""


class List:
    """List the models, losses, datasets, metrics, observers and commands that are installed."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""
        parser.add_argument("kind", nargs="?", help=f"only this kind: {', '.join(PLURALS.values())}")
        group = parser.add_mutually_exclusive_group()
        document = "a list; of each its kind, name, place, plugin, distribution, version, use, summary"
        add_output_options(group, document=document, quiet=False)
        group.add_argument("--markdown", action="store_true", help="print a table in Markdown, for documents")
        add_output_options(parser)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Prints the list."""
        registries = [registry_of(kind) for kind in ([arguments.kind] if arguments.kind else PLURALS)]
        if arguments.json:
            print_json([_facts(r, component) for r in registries for component in r.components()])
            return 0
        if arguments.markdown:
            lines = ["| kind | name | what it is |", "|---|---|---|", *map(_line, _cells(registries))]
            print("\n".join(map(one_line, lines)))
            return 0
        for registry in registries:
            print(PLURALS[registry.kind].capitalize())
            print(columns([_row(registry, component) for component in registry.components()], flexible=1) or "  none")
            print()
        for plugin in plugins.table().broken:
            print(paragraph(f"Plugin {plugin} is broken: {plugin.error}", ""))
        if not arguments.quiet:
            print("`show KIND NAME` tells more, and prints a table for a config.")
        return 0


def _row(registry: Registry, component: Component) -> tuple[str, str, str]:
    foreign = component.distribution != "segkit"
    provider = f"{component.plugin} ({component.distribution})" if foreign else component.plugin
    return registry.shortest_name(component), glance(component)[0] or _NO_SUMMARY, provider


def _cells(registries: Sequence[Registry]) -> Iterator[tuple[str, str, str]]:
    """A row a component, its sentence in full; the kind stands in the first row of its components only."""
    for registry in registries:
        kind = PLURALS[registry.kind]
        for component in registry.components():
            foreign = component.distribution != "segkit"
            provider = f" ({component.plugin}, {component.distribution})" if foreign else ""
            yield kind, f"`{registry.shortest_name(component)}`", (glance(component)[0] or _NO_SUMMARY) + provider
            kind = ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _facts(registry: Registry, component: Component) -> dict[str, Any]:
    return {**vars(component), "use": registry.shortest_name(component), "summary": glance(component)[0]}
