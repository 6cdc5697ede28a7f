"""The command ``completion``: shell completion with argcomplete.

The name of an argument selects its completer, in plugins' commands too; a command may also set argcomplete's
``completer`` attribute on an argument.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from segkit.errors import SegkitError
from segkit.options import options_of, words_of
from segkit.plugins import installed
from segkit.registry import REGISTRIES
from segkit.settings import TABLES

from .describe import summary


class Completion:
    """Show how to enable shell completion of commands, options, components, and a config's keys and values."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add no arguments."""

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Print the setup; or, called by a shell, complete and exit (status 1 if argcomplete is not installed)."""
        if "_ARGCOMPLETE" not in os.environ:
            print('pip install argcomplete\neval "$(register-python-argcomplete segkit)"')
            return 0
        with contextlib.suppress(ModuleNotFoundError):
            import argcomplete

            warnings.simplefilter("ignore")
            argcomplete.autocomplete(parser_of(os.environ["COMP_LINE"].split()), always_complete_options=False)
        os._exit(1)


def parser_of(words: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser of all commands; only commands among ``words`` are imported and have their arguments."""
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    completers: dict[str, Any] = {"config": FilesCompleter(["toml"]), "runs": DirectoriesCompleter()}
    completers |= {"run": FilesCompleter(), "images": FilesCompleter(), "overrides": _overrides}
    completers |= {"kind": _words, "name": _words}
    whole = argparse.ArgumentParser("segkit")
    whole.add_argument("--version", action="store_true")
    parsers, commands = whole.add_subparsers(), REGISTRIES["command"]
    for component in commands.components():
        one = parsers.add_parser(commands.shortest_name(component), help=summary(component))
        if not set(component.names) & set(words):
            continue
        component.load().add_arguments(one)
        for action in one._actions:
            if action.nargs == "*":  # argparse would end it at the first option, as in `run CONFIG --resume`
                action.nargs = "+"
            if action.dest in completers and not action.option_strings and not hasattr(action, "completer"):
                action.completer = completers[action.dest]  # type: ignore[attr-defined]
    return whole


def _words(parsed_args: argparse.Namespace, **_asked: Any) -> Iterable[str]:
    """Return the names of the kind already typed; otherwise kinds, all names, plugins and config tables."""
    # argparse parses a kind as the name while the second argument is missing
    written = {vars(parsed_args).get("kind"), vars(parsed_args).get("name")}
    kinds = [registry for kind, registry in REGISTRIES.items() if written & {kind, registry.plural}]
    names = [name for registry in kinds or REGISTRIES.values() for name in registry]
    plugins = [plugin.name for plugin in installed()]
    return names if kinds else [*REGISTRIES, *(each.plural for each in REGISTRIES.values()), *names, *TABLES, *plugins]


def _overrides(prefix: str, parsed_args: argparse.Namespace, **_asked: Any) -> Iterable[str]:
    """Return keys of the config or, after ``=``, their values."""
    from argcomplete.completers import FilesCompleter

    path, equals, begun = prefix.partition("=")
    tables: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):  # some keys do not depend on the config
        tables = tomllib.loads(Path(parsed_args.config).read_text("utf-8"))
    keys = dict(_keys(path, tables))
    if not equals:
        return [f"{key}=" for key in keys]
    return [f"{path}={value}" for value in keys.get(path) or FilesCompleter()(prefix=begun)]


def _keys(path: str, tables: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each allowed key with its known values; only the component that ``path`` names is imported."""
    for name, settings in TABLES.items():
        for option in options_of(settings):
            yield f"{name}.{option.name}", words_of(option.hint)
    chosen = [(name, REGISTRIES[name], tables.get(name)) for name in ("dataset", "model")]
    for name in ("loss", "metric", "transform"):
        registry, rows = REGISTRIES[name], tables.get(name)
        chosen += [(f"{name}.{row['name']}", registry, row) for row in rows if "name" in row] if rows else []
    for place, registry, row in chosen:
        yield f"{place}.name", list(registry)
        if place.startswith("loss."):
            yield f"{place}.scale", []
        if path.startswith(f"{place}.") and isinstance(row, dict):
            with contextlib.suppress(SegkitError):
                for option in options_of(registry.find(str(row.get("name")))):
                    yield f"{place}.{option.name}", words_of(option.hint)
