"""The command ``show``: the docstring and options of a component or config table, and how to use it in a config."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ComponentNotFound, did_you_mean
from segkit.registry import REGISTRIES

from .describe import ARGUMENTS, descriptions, registry_of, type_text
from .listing import document_of

_HEADINGS = {"model": "[model]", "loss": "[[loss]]", "dataset": "[dataset]", "metric": "[[metric]]"}
_LONGEST = 120  # characters of a default


class Show:
    """Show a component's docstring, its options, and a table to paste into a config."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Kind and name."""
        parser.add_argument(
            "kind", nargs="?", help=f"{', '.join(REGISTRIES)}; may be left out if the name is of one kind"
        )
        parser.add_argument("name", help="as `list` prints it; or a table of a config: data, augment, train, output")
        document = "the fields of list --json, text, and options: name, type, default, text, required, given"
        add_output_options(parser, document=document)

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the component."""
        from segkit.settings import TABLES

        kind, name = arguments.kind, arguments.name
        component: Any = None
        if kind or name not in TABLES:
            component = registry_of(kind).find(name) if kind else _any_kind(name)
        target = component.load() if component else TABLES[name]
        docstring = target.__doc__ if isinstance(target.__doc__, str) else ""
        text = ARGUMENTS.sub("", inspect.cleandoc(docstring)).replace("``", "").strip()
        document = document_of(component) if component else {"kind": "table", "name": name}
        options = [] if document["kind"] == "observer" else _options(component or TABLES[name], descriptions(target))
        heading = f"{component}\n{component.place}\n\n" if component else ""
        if arguments.json:
            print_json({**document, "text": text, "options": options})
            return 0
        print(f"{heading}{hanging(text) or 'It has no docstring.'}\n")
        if document["kind"] == "command":
            print("" if arguments.quiet else f"`{document['name']} --help` shows its options.\n", end="")
        elif document["kind"] == "observer":
            print(hanging(f"It observes every run by itself; `plugins {document['plugin']}` shows its events."))
        else:
            lines = [line for option in options if not option["given"] for line in _option(option)] or ["  none"]
            print("\n".join(["Options", *lines, *_in_a_config(component, options)] if component else lines))
        return 0


def _options(owner: Any, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    from segkit.options import options_of

    return [
        {
            "name": each.name,
            "type": type_text(each.hint),
            "default": each.default,
            "text": texts.get(each.name, ""),
            "required": each.required and not each.given,
            "given": each.given,
        }
        for each in options_of(owner)
    ]


def _any_kind(name: str) -> Any:
    """Return the component of any kind with this name.

    Raises:
        ComponentNotFound: no component has the name, or components of several kinds have it.
    """
    from segkit.settings import TABLES

    kinds = [kind for kind, registry in REGISTRIES.items() if registry.matches(name)]
    if len(kinds) == 1:
        return REGISTRIES[kinds[0]].find(name)
    if kinds:
        which = " or ".join(f"'show {kind} {name}'" for kind in kinds)
        raise ComponentNotFound(f"'{name}' is the name of several components; say which: {which}")
    known = [*TABLES, *(known for registry in REGISTRIES.values() for known in registry)]
    close = did_you_mean(name.partition(".")[0], known) or "."
    raise ComponentNotFound(f"there is no component '{name}'{close} `list` prints them all.")


def _option(option: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of an option: name, type, default and text."""
    kind = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " | "), option["type"]) or "any"
    value = option["default"]
    default = "(left out)" if value is None else textwrap.shorten(_toml(value) or repr(value), _LONGEST)
    yield hanging(f"  {option['name']}: {kind}{' (required)' if option['required'] else f' = {default}'}", 2)
    yield from [hanging(f"      {option['text']}", 6)] if option["text"] else []


def _in_a_config(component: Any, options: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the parameters that segkit sets itself, and a table to paste into a config."""
    given = [option["name"] for option in options if option["given"]]
    name = REGISTRIES[component.kind].shortest_name(component)
    yield from ["", f"Set by segkit, not in a config: {', '.join(given)}"] if given else []
    if component.kind == "optimizer":
        yield from ["", "In a config", "", "[train]", f'optimizer = "{name}"']
    elif component.kind in _HEADINGS:
        yield from ["", "In a config", "", _HEADINGS[component.kind], f'name = "{name}"']
        yield from (_line(option) for option in options if not option["given"])


def _line(option: Mapping[str, Any]) -> str:
    name, kind, default = option["name"], option["type"], option["default"]
    if option["required"]:
        is_text = {"str", "Path"} & set(kind.split(" | "))
        return f'{name} = "..."  # required' if is_text else f"# {name} =   # required: {kind or 'any'}"
    if default is None:
        return f"# {name} = ..."  # TOML has no null: leaving the key out means None
    text = _toml(default)
    return f"{name} = {text}" if text else f"# {name} = {default!r}"


def _toml(value: object) -> str:
    """Format a value as TOML, which equals JSON except for objects; "" if TOML cannot express it."""
    try:
        text = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=os.fspath)
        tomllib.loads(f"value = {text}")
    except (TypeError, ValueError):  # tomllib's error is a ValueError
        return ""
    return text
