"""The command ``completion``: shell completion with argcomplete.

The name of an argument selects its completer, in plugins' commands too; a command may also set argcomplete's
``completer`` attribute on an argument.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Iterable
from typing import Any

from segkit.plugins import installed
from segkit.registry import REGISTRIES

from .describe import summary


class Completion:
    """Show how to enable shell completion of commands, options, names of components, and a config's main keys."""

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


def _words(**_asked: Any) -> list[str]:
    """Return the kinds, the names of all components, tables and plugins."""
    from segkit.settings import TABLES

    kinds = [word for kind, registry in REGISTRIES.items() for word in (kind, registry.plural)]
    names = [name for registry in REGISTRIES.values() for name in registry]
    return [*kinds, *names, *TABLES, *(plugin.name for plugin in installed())]


def _overrides(prefix: str, **_asked: Any) -> Iterable[str]:
    """Return keys of a config or, after ``=``, their values; components are not imported for it."""
    from segkit.options import options_of, words_of
    from segkit.settings import TABLES

    keys = {f"{name}.{each.name}": words_of(each.hint) for name, table in TABLES.items() for each in options_of(table)}
    keys |= {f"{name}.name": list(REGISTRIES[name]) for name in ("dataset", "model")}
    path, equals, _ = prefix.partition("=")
    return [f"{path}={value}" for value in keys.get(path, ())] if equals else [f"{key}=" for key in keys]
