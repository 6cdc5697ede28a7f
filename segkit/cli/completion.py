"""What a shell offers at the Tab key, by argcomplete: commands, options, components, keys and values of a config.

An argument is completed by what it is called; a plugin's command has that for nothing, or sets a ``completer`` of its
own, as argcomplete has it.
"""

from __future__ import annotations

import argparse
import os
import tomllib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from segkit.config import COMPONENTS, LISTS
from segkit.options import describe, glance
from segkit.plugins import table
from segkit.registry import PLURALS, REGISTRIES, commands
from segkit.settings import TABLES

Completer = Callable[..., Iterable[str]]
LOSS_SCALE = "scale"  # the one key of a component that is the config's own


def complete() -> None:
    """Answer the shell, and end the process; without argcomplete there is nothing to offer."""
    try:
        import argcomplete
        from argcomplete.lexers import split_line
    except ModuleNotFoundError:
        os._exit(1)
    warnings.simplefilter("ignore")
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    before = split_line(line, point)[3][int(os.environ["_ARGCOMPLETE"]) :]  # words between the program and the cursor
    argcomplete.autocomplete(parser(before), always_complete_options=False)
    os._exit(1)  # not reached: autocomplete leaves


def parser(before: Iterable[str]) -> argparse.ArgumentParser:
    """All commands; the arguments of that which is written already, as only its plugin is imported."""
    chosen = next((word for word in before if not word.startswith("-")), None)
    whole = argparse.ArgumentParser("segkit")
    whole.add_argument("--version", action="store_true")
    parsers = whole.add_subparsers()
    for component in commands.components():
        one = parsers.add_parser(commands.shortest_name(component), help=glance(component)[0])
        if chosen in component.names:
            component.load().add_arguments(one)
            for action in one._actions:
                if action.nargs == "*":
                    action.nargs = (
                        "+"  # else argparse takes it to be over at the first option, as after `run CONFIG --resume`
                    )
                found = _COMPLETERS.get(action.dest)
                if found and not action.option_strings and not hasattr(action, "completer"):
                    action.completer = found  # type: ignore[attr-defined]
    return whole


def _configs(**asked: Any) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    return FilesCompleter(["toml"])(**asked)


def _files(**asked: Any) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    return FilesCompleter()(**asked)


def _folders(**asked: Any) -> Iterable[str]:
    from argcomplete.completers import DirectoriesCompleter

    return DirectoriesCompleter()(**asked)


def _kinds(parsed_args: argparse.Namespace, **_asked: Any) -> Iterable[str]:
    return [] if _chosen(parsed_args) else [*PLURALS, *PLURALS.values()]


def _names(parsed_args: argparse.Namespace, **_asked: Any) -> Iterable[str]:
    """Of components, of the kind that is written before, and of plugins or the tables of a config."""
    kinds = _chosen(parsed_args)
    names = [name for kind in kinds or REGISTRIES for name in REGISTRIES[kind]]
    return names if kinds else [*names, *TABLES, *(plugin.name for plugin in table().plugins)]


def _chosen(parsed_args: argparse.Namespace) -> list[str]:
    """The kind that is written already; where it is the first of two arguments argparse takes it for the name."""
    written = {getattr(parsed_args, "kind", None), getattr(parsed_args, "name", None)}
    return [kind for kind in REGISTRIES if written & {kind, PLURALS[kind]}]


def _overrides(prefix: str, parsed_args: argparse.Namespace, **_asked: Any) -> Iterable[str]:
    """Keys of the config, and after ``=`` their values."""
    path, equals, begun = prefix.partition("=")
    choices = dict(_keys(_tables(getattr(parsed_args, "config", None))))
    if not equals:
        return [f"{key}=" for key in choices]
    return [f"{path}={value}" for value in choices.get(path) or _files(prefix=begun)]


def _tables(config: str | None) -> dict[str, Any]:
    """Those of the config that is written already; none where it cannot be read."""
    try:
        return tomllib.loads(Path(config or "").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _keys(tables: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Each key that may be given, and its values where there is a list of them."""
    for name, settings in TABLES.items():
        for key, field in settings.model_fields.items():
            yield f"{name}.{key}", _allowed(field.annotation)
    for name, registry in COMPONENTS.items():
        yield from _component(name, registry, tables.get(name))
    for name, registry in LISTS.items():
        rows = tables.get(name)
        for number, row in enumerate(rows if isinstance(rows, list) else []):
            chosen = str(row.get("name", number)) if isinstance(row, dict) else str(number)
            yield from _component(f"{name}.{chosen}", registry, row)
            if name == "loss":
                yield f"{name}.{chosen}.{LOSS_SCALE}", []


def _component(place: str, registry: Any, chosen: Any) -> Iterable[tuple[str, list[str]]]:
    yield f"{place}.name", list(registry)
    found = registry.matches(chosen.get("name")) if isinstance(chosen, dict) else []
    for option in describe(found[0]).settable if len(found) == 1 else []:
        yield f"{place}.{option.name}", ["true", "false"] if option.annotation == "bool" else []


def _allowed(hint: Any) -> list[str]:
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [text for part in get_args(hint) for text in _allowed(part)]


_COMPLETERS: dict[str, Completer] = {
    "config": _configs,
    "run": _files,  # a folder, or a file of it
    "runs": _folders,
    "images": _files,
    "overrides": _overrides,
    "kind": _kinds,
    "name": _names,
}
