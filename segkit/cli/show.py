"""``show``: one component in full, with a table for a config."""

from __future__ import annotations

import argparse
import json
import re
import textwrap
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING

from segkit.cli.output import add_output_options, print_json
from segkit.cli.text import fitted, paragraph
from segkit.errors import ComponentNotFound, did_you_mean, printable
from segkit.options import MISSING, Description, Option, describe, option_that_takes
from segkit.plugins import table
from segkit.registry import PLURALS, REGISTRIES, Component, registry_of

if TYPE_CHECKING:
    from segkit.settings import Settings

LONGEST = 120  # letters of a default
_HEADINGS = {"model": "[model]", "loss": "[[loss]]", "dataset": "[dataset]", "metric": "[[metric]]"}


class Show:
    """Show a component's docstring, its options, and a table to paste into a config."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""
        parser.add_argument("kind", nargs="?", help=f"{', '.join(PLURALS)}; may be left out if the name is of one kind")
        parser.add_argument("name", help="as `list` prints it; or a table of a config: data, augment, train, output")
        document = "as list --json, with text and options: name, type, default, text, required, given"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Prints the component."""
        from segkit.settings import TABLES  # pydantic takes a while

        if arguments.kind is None and arguments.name in TABLES:
            if arguments.json:
                from segkit.cli.facts import table_facts

                print_json(table_facts(arguments.name, TABLES[arguments.name]))
            else:
                print("\n".join(_settings(TABLES[arguments.name])))
            return 0
        component = registry_of(arguments.kind).find(arguments.name) if arguments.kind else _of_any_kind(arguments.name)
        if arguments.json:
            from segkit.cli.facts import component_facts

            print_json(component_facts(component))
            return 0
        described = describe(component)
        text = fitted(described.text) or "It has no docstring."
        print(printable(f"{component}\n{component.place}\n\n{text}\n"))
        if component.kind == "command":
            if not arguments.quiet:
                print(f"`{component.name} --help` tells its options.")
            return 0
        if component.kind == "observer":
            events = table().events(f"{component.distribution}:{component.plugin}")
            print(fitted(f"It observes every run by itself, and listens to {', '.join(events)}."))
            return 0
        print(printable("\n".join([*_options(described), *_table(component, described)])))
        return 0


def _settings(kind: type[Settings]) -> list[str]:
    """A table of a config that is no component: its keys, defaults and what they mean."""
    from segkit.cli.facts import written

    lines = [fitted((kind.__doc__ or "").replace("``", "")), ""]
    for key, field in kind.model_fields.items():
        default = "(left out)" if field.default is None else _toml(field.default)
        lines.append(paragraph(f"{key}: {_choices(written(field.annotation))} = {default}", "  "))
        lines += [paragraph(field.description, "      ")] if field.description else []
    return lines


def _choices(annotation: str) -> str:
    """``Literal['adamw', 'sgd']`` as ``'adamw' | 'sgd'``."""
    return re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " | "), annotation)


def _of_any_kind(name: str) -> Component:
    kinds = [kind for kind, registry in REGISTRIES.items() if registry.matches(name)]
    if len(kinds) == 1:
        return REGISTRIES[kinds[0]].find(name)
    if kinds:
        which = " or ".join(f"'show {kind} {name}'" for kind in kinds)
        raise ComponentNotFound(f"'{name}' is the name of several components; say which: {which}")
    from segkit.settings import TABLES

    known = [*TABLES, *PLURALS, *(known for registry in REGISTRIES.values() for known in registry)]
    if name in PLURALS:
        raise ComponentNotFound(f"'{name}' is a kind of component; `list {PLURALS[name]}` prints those there are")
    first = name.partition(".")[0]
    if first in TABLES:
        raise ComponentNotFound(f"'{name}' is no component; `show {first}` tells the keys of the table [{first}]")
    if option := option_that_takes(REGISTRIES["model"], name):
        raise ComponentNotFound(option)
    raise ComponentNotFound(f"there is no component '{name}'{did_you_mean(name, known) or '.'} `list` prints them all.")


def _options(described: Description) -> list[str]:
    lines = ["Options"]
    settable = described.settable
    for option in settable:
        value = " (required)" if option.default is MISSING else f" = {_shown(option.default)}"
        lines.append(f"  {option.name}: {_choices(option.annotation) or 'any'}{value}")
        lines += [paragraph(option.text, "      ")] if option.text else []
    given = [option.name for option in described.options if option.given]
    return [
        *lines,
        *([] if settable else ["  none"]),
        "",
        *([f"Given, not set: {', '.join(given)}", ""] if given else []),
    ]


def _shown(default: object) -> str:
    """A default in a line; a member of an enum that a file cannot hold by its name, as its value may be anything."""
    return textwrap.shorten(str(default) if _is_object(default) else repr(default), LONGEST)


def _is_object(default: object) -> bool:
    return isinstance(default, Enum) and not isinstance(default.value, bool | int | float | str)


def _table(component: Component, described: Description) -> list[str]:
    name = REGISTRIES[component.kind].shortest_name(component)
    if component.kind == "optimizer":
        return ["In a config", "", "[train]", f'optimizer = "{name}"']
    return ["In a config", "", _HEADINGS[component.kind], f'name = "{name}"', *map(_line, described.settable)]


def _line(option: Option) -> str:
    if option.default is MISSING:
        is_text = {"str", "Path"} & set(option.annotation.split(" | "))
        wanted = option.annotation or "any"
        return f'{option.name} = "..."  # required' if is_text else f"# {option.name} =   # required: {wanted}"
    if option.default is None:
        return f"# {option.name} = ..."  # TOML has no None: left out is what it means
    line = f"{option.name} = {_toml(option.default)}"
    if _is_object(option.default):
        return f"# {option.name} = {_shown(option.default)}"
    try:
        tomllib.loads(line)
    except tomllib.TOMLDecodeError:  # a default that no file can hold
        return f"# {option.name} = {_shown(option.default)}"
    return line


def _toml(value: object) -> str:
    if isinstance(value, Enum):
        return _toml(value.value)
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(str(key))} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | str | PurePath):
        return json.dumps(str(value) if isinstance(value, PurePath) else value, ensure_ascii=False)
    return repr(value)
