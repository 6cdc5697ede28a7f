"""The commands ``list`` and ``plugins``: installed components, and the plugins that provide them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from segkit.cli.output import add_output_options, hanging, print_json, table
from segkit.errors import ComponentNotFound, SegkitError, did_you_mean, one_line
from segkit.plugins import installed
from segkit.registry import REGISTRIES

from .describe import registry_of, summary

NO_TEXT = "no docstring found"


class List:
    """List the models, losses, datasets, metrics, optimizers, checks, observers and commands that are installed."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Kind and format."""
        parser.add_argument(
            "kind", nargs="?", help=f"only this kind: {', '.join(each.plural for each in REGISTRIES.values())}"
        )
        document = "a list of components: kind, name, place, plugin, distribution, version, use, summary"
        add_output_options(parser, document=document)
        parser.add_argument("--markdown", action="store_true", help="print a table in Markdown, for documents")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the list."""
        asked = [registry_of(arguments.kind)] if arguments.kind else list(REGISTRIES.values())
        listed = {each.plural: [document_of(component) for component in each.components()] for each in asked}
        if arguments.json:
            print_json([document for documents in listed.values() for document in documents])
        elif arguments.markdown:
            print("\n".join(["| kind | name | what it is |", "|---|---|---|", *_markdown(listed)]))
        else:
            for plural, documents in listed.items():
                rows = []
                for each in documents:
                    foreign = f" ({each['distribution']})" * (each["distribution"] != "segkit")
                    rows.append((each["use"], each["summary"] or NO_TEXT, each["plugin"] + foreign))
                print(f"{plural.capitalize()}\n{table(rows, flexible=1) or '  none'}\n")
            for plugin in [plugin for plugin in installed() if plugin.error]:
                print(hanging(f"Plugin {plugin} is broken: {plugin.error}"))
            if not arguments.quiet:
                print("`show KIND NAME` shows the options, and a table for a config.")
        return 0


class Plugins:
    """List the plugins: where each comes from, what it offers, and the cause if it is broken.

    All components are imported. The exit status is 1 if a plugin is broken or a component cannot be imported.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the name."""
        parser.add_argument("name", nargs="?", help="a plugin, or a distribution to list all its plugins")
        add_output_options(parser, document="a list of plugins: name, distribution, version, place, offers, problems")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the plugins."""
        found = installed()
        names = [name for plugin in found for name in (plugin.name, plugin.distribution)]
        if arguments.name and arguments.name not in names:
            raise ComponentNotFound(f"there is no plugin '{arguments.name}'{did_you_mean(arguments.name, names)}")
        asked = [plugin for plugin in found if arguments.name in (None, plugin.name, plugin.distribution)]
        listed = [_plugin_document(plugin) for plugin in asked]
        if arguments.json:
            print_json(listed)
        else:
            for document in listed:
                state = "broken" if document["problems"] else "ok"
                origin = f"{document['distribution']} {document['version']}, {document['place']}"
                print(one_line(f"{document['name']}: {state}, {origin}"))
                offers = [f"{kind}: {', '.join(names)}" for kind, names in document["offers"].items()]
                print("".join(f"{hanging(f'    {line}', 4)}\n" for line in [*offers, *document["problems"]]), end="")
        return 1 if any(document["problems"] for document in listed) else 0


def document_of(component: Any) -> dict[str, Any]:
    """Return the JSON document of a component for ``list --json`` and ``show --json``."""
    use = REGISTRIES[component.kind].shortest_name(component)
    return {**vars(component), "use": use, "summary": summary(component)}


def _markdown(listed: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield one table row per component, with its whole summary; only the first row of a kind names the kind."""
    for plural, components in listed.items():
        for number, document in enumerate(components):
            foreign = f" ({document['plugin']}, {document['distribution']})" * (document["distribution"] != "segkit")
            cells = ("" if number else plural, f"`{document['use']}`", (document["summary"] or NO_TEXT) + foreign)
            yield one_line("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def _plugin_document(plugin: Any) -> dict[str, Any]:
    """Return the JSON document of a plugin: components by their config names, observed events, and problems."""
    offers: dict[str, list[str]] = {}
    problems = [plugin.error] if plugin.error else []
    for kind, registry in REGISTRIES.items():
        for component in registry.components():
            if (component.distribution, component.plugin) == (plugin.distribution, plugin.name):
                if kind != "observer":
                    offers.setdefault(registry.plural, []).append(registry.shortest_name(component))
                try:
                    component.load()
                except SegkitError as error:
                    problems.append(str(error))
    if plugin.events:
        offers["events"] = list(plugin.events)
    who = {name: getattr(plugin, name) for name in ("name", "distribution", "version", "place")}
    return who | {"offers": offers, "problems": problems}
