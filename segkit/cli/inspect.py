"""The commands ``list``, ``show`` and ``plugins``: what is installed, what it is called and how a config has it."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from segkit.cli.output import add_output_options, fitted, paragraph, print_json, table
from segkit.errors import ComponentNotFound, SegkitError, did_you_mean, one_line
from segkit.options import MISSING, Description, Option, describe, glance
from segkit.plugins import PluginInfo
from segkit.plugins import table as plugin_table
from segkit.registry import PLURALS, REGISTRIES, Component, registry_of

_HEADINGS = {"model": "[model]", "loss": "[[loss]]", "dataset": "[dataset]", "metric": "[[metric]]"}
_LONGEST = 120  # characters of a default


class List:
    """List the models, losses, datasets, metrics, optimizers, checks, observers and commands that are installed."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Kind and format."""
        parser.add_argument("kind", nargs="?", help=f"only this kind: {', '.join(PLURALS.values())}")
        group = parser.add_mutually_exclusive_group()
        document = "a list; of each its kind, name, place, plugin, distribution, version, use, summary"
        add_output_options(group, document=document, quiet=False)
        group.add_argument("--markdown", action="store_true", help="print a table in Markdown, for documents")
        add_output_options(parser)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the list."""
        kinds = [registry_of(arguments.kind).kind] if arguments.kind else list(PLURALS)
        listed = {kind: [_document(component) for component in REGISTRIES[kind].components()] for kind in kinds}
        if arguments.json:
            print_json([document for kind in kinds for document in listed[kind]])
        elif arguments.markdown:
            print("\n".join(["| kind | name | what it is |", "|---|---|---|", *_markdown(listed)]))
        else:
            for kind in kinds:
                rows = [(f["use"], f["summary"] or "no docstring found", _provider(f)) for f in listed[kind]]
                print(f"{PLURALS[kind].capitalize()}\n{table(rows, flexible=1) or '  none'}\n")
            for plugin in plugin_table().broken:
                print(paragraph(f"Plugin {plugin} is broken: {plugin.error}", ""))
            if not arguments.quiet:
                print("`show KIND NAME` tells more, and prints a table for a config.")
        return 0


class Show:
    """Show a component's docstring, its options, and a table to paste into a config."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Kind and name."""
        parser.add_argument("kind", nargs="?", help=f"{', '.join(PLURALS)}; may be left out if the name is of one kind")
        parser.add_argument("name", help="as `list` prints it; or a table of a config: data, augment, train, output")
        document = "as list --json, with text and options: name, type, default, text, required, given"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the component."""
        from segkit.settings import TABLES  # pydantic takes a while

        if arguments.kind is None and arguments.name in TABLES:
            component, described = None, _described_table(arguments.name)
        else:
            registry = registry_of(arguments.kind) if arguments.kind else None
            component = registry.find(arguments.name) if registry else _of_any_kind(arguments.name)
            described = describe(component)
        document = _document(component, described) if component else {"kind": "table", "name": arguments.name}
        events = plugin_table().events(f"{component.distribution}:{component.plugin}") if component else []
        if arguments.json:
            listed = [_json(each) for each in described.options if each.given or each in described.settable]
            document |= {"text": described.text, "options": listed}
            observed = {"events": events, "problems": []} if document["kind"] == "observer" else {}
            print_json(document | observed)
            return 0
        text = fitted(described.text) or "It has no docstring."
        print(f"{component}\n{document['place']}\n\n{text}\n" if component else f"{text}\n")
        if document["kind"] == "command":
            if not arguments.quiet:
                print(f"`{document['name']} --help` tells its options.")
        elif document["kind"] == "observer":
            print(fitted(f"It observes every run by itself, and listens to {', '.join(events)}."))
        else:
            heading, end = (["Options"], _in_a_config(component, described)) if component else ([], ())
            print("\n".join([*heading, *(list(_options(described.settable)) or ["  none"]), *end]))
        return 0


class Plugins:
    """List the plugins: where each comes from, what it offers, and the cause if it is broken.

    All that they offer is imported. The status is 1 where a plugin is broken, or offers what cannot be imported.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Name."""
        parser.add_argument("name", nargs="?", help="only this plugin, or those of this distribution")
        add_output_options(parser, document="a list; of each its name, distribution, version, place, offers, problems")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the plugins."""
        found = plugin_table().plugins
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
                for line in [*offers, *document["problems"]]:
                    print(paragraph(line, "    "))
        return 1 if any(document["problems"] for document in listed) else 0


def _document(component: Component, described: Description | None = None) -> dict[str, Any]:
    summary = described.summary if described else glance(component)[0]
    return {**vars(component), "use": REGISTRIES[component.kind].shortest_name(component), "summary": summary}


def _provider(document: dict[str, Any]) -> str:
    foreign = document["distribution"] != "segkit"
    return f"{document['plugin']} ({document['distribution']})" if foreign else str(document["plugin"])


def _markdown(listed: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """A row a component, its sentence in full; the kind stands in the first row of its components only."""
    for kind, components in listed.items():
        for number, document in enumerate(components):
            foreign = document["distribution"] != "segkit"
            provider = f" ({document['plugin']}, {document['distribution']})" if foreign else ""
            text = (document["summary"] or "no docstring found") + provider
            cells = ("" if number else PLURALS[kind], f"`{document['use']}`", text)
            yield one_line("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


def _plugin_document(plugin: PluginInfo) -> dict[str, Any]:
    """What a plugin offers, by the names that a config has for it, the events it listens to, and what is wrong."""
    offers: dict[str, Sequence[str]] = {}
    problems = [plugin.error] if plugin.error else []
    for kind, registry in REGISTRIES.items():
        own = [c for c in registry.components() if (c.distribution, c.plugin) == (plugin.distribution, plugin.name)]
        if own and kind != "observer":
            offers[PLURALS[kind]] = [registry.shortest_name(component) for component in own]
        for component in own:
            try:
                component.load()
            except SegkitError as error:
                problems.append(str(error))
    events = plugin_table().events(plugin.key)
    who = {name: getattr(plugin, name) for name in ("name", "distribution", "version", "place")}
    return who | {"offers": offers | ({"events": events} if events else {}), "problems": problems}


def _of_any_kind(name: str) -> Component:
    kinds = [kind for kind, registry in REGISTRIES.items() if registry.matches(name)]
    if len(kinds) == 1:
        return REGISTRIES[kinds[0]].find(name)
    if kinds:
        which = " or ".join(f"'show {kind} {name}'" for kind in kinds)
        raise ComponentNotFound(f"'{name}' is the name of several components; say which: {which}")
    from segkit.settings import TABLES

    if name in PLURALS:
        raise ComponentNotFound(f"'{name}' is a kind of component; `list {PLURALS[name]}` prints those there are")
    first = name.partition(".")[0]
    if first in TABLES:
        raise ComponentNotFound(f"'{name}' is no component; `show {first}` tells the keys of the table [{first}]")
    known = [*TABLES, *PLURALS, *(known for registry in REGISTRIES.values() for known in registry)]
    close = did_you_mean(name, known) or "."
    raise ComponentNotFound(f"there is no component '{name}'{close} `list` prints them all.")


def _described_table(name: str) -> Description:
    """A table of a config that is no component: its keys as options."""
    from segkit.settings import TABLES

    text = (TABLES[name].__doc__ or "").replace("``", "")
    options = tuple(
        Option(key, _written(field.annotation), field.annotation, field.default, field.description or "", given=False)
        for key, field in TABLES[name].model_fields.items()
    )
    return Description(text, text, options, options)


def _written(hint: Any) -> str:
    """A type hint as it is written, without what pydantic adds to it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _written(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_written, arguments))
    if origin is list:
        return f"list[{_written(arguments[0])}]"
    return "None" if hint is NoneType else inspect.formatannotation(hint)


def _json(option: Option) -> dict[str, Any]:
    required = option.default is MISSING
    return {
        "name": option.name,
        "type": option.annotation,
        "default": None if required else option.default,
        "text": option.text,
        "required": required and not option.given,
        "given": option.given,
    }


def _options(options: Sequence[Option]) -> Iterator[str]:
    """The options of a component or a table, with types, defaults and texts."""
    for option in options:
        kind = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " | "), option.annotation) or "any"
        default = "(left out)" if option.default is None else _shown(option.default)
        yield paragraph(f"{option.name}: {kind}{' (required)' if option.default is MISSING else f' = {default}'}", "  ")
        yield from [paragraph(option.text, "      ")] if option.text else []


def _in_a_config(component: Component, described: Description) -> Iterator[str]:
    """What is given, and a table to paste into a config."""
    given = [option.name for option in described.options if option.given]
    name = REGISTRIES[component.kind].shortest_name(component)
    yield from ["", f"Given, not set: {', '.join(given)}"] if given else []
    if component.kind == "optimizer":
        yield from ["", "In a config", "", "[train]", f'optimizer = "{name}"']
    elif component.kind in _HEADINGS:
        yield from ["", "In a config", "", _HEADINGS[component.kind], f'name = "{name}"']
        yield from map(_line, described.settable)


def _line(option: Option) -> str:
    if option.default is MISSING:
        is_text = {"str", "Path"} & set(option.annotation.split(" | "))
        wanted = option.annotation or "any"
        return f'{option.name} = "..."  # required' if is_text else f"# {option.name} =   # required: {wanted}"
    if option.default is None:
        return f"# {option.name} = ..."  # TOML has no None: left out is what it means
    text = _toml(option.default)
    return f"{option.name} = {text}" if text else f"# {option.name} = {_shown(option.default)}"


def _toml(value: object) -> str:
    """A value as TOML has it, which is as JSON has it for all but objects; empty where no file can hold it."""
    if isinstance(value, Enum):
        return _toml(value.value) if isinstance(value.value, bool | int | float | str) else ""
    try:
        text = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=os.fspath)
        tomllib.loads(f"value = {text}")
    except (TypeError, ValueError):  # tomllib's error is a ValueError
        return ""
    return text


def _shown(value: object) -> str:
    """A value in a line."""
    text = _toml(value) or (str(value) if isinstance(value, Enum) else repr(value))
    return textwrap.shorten(text, _LONGEST)
