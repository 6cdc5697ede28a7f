"""The command ``check-plugin``: checks one component, or all components of a plugin, against their contract."""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ComponentNotFound, ConfigError, SegkitError, did_you_mean
from segkit.plugins import installed
from segkit.registry import REGISTRIES

_COLUMN = 45  # the column of a check's state


class CheckPlugin:
    """Check whether a component, or all components of a plugin, keep the contract of their kind.

    segkit.testing runs the same checks under pytest. The exit status is 1 if a check fails or the plugin is broken.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the name, kind and options."""
        from segkit.testing.suite import KINDS  # slow to import

        parser.add_argument("name", help="a component (dice) or a plugin (losses)")
        parser.add_argument("--kind", choices=KINDS, help="required if components of several kinds have the name")
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="set an option in TOML syntax, e.g. gamma=2.0, for every checked component that has it",
        )
        add_output_options(parser, document="broken plugins, and components with checks: name, state, seconds, why")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Run the checks and print a table; return 1 if a check fails or the plugin is broken."""
        plugins, components = _find(arguments.name, arguments.kind)
        broken = [plugin for plugin in plugins if plugin.error]
        options = _assigned(arguments.option, components)
        for plugin in broken:
            print(f"plugin {plugin} is broken: {plugin.error}")
        documents = [_ask(each, options[each], arguments.quiet) for each in components]
        states = [check["state"] for document in documents for check in document["checks"]]
        failed = states.count("FAILED") + len(broken) + sum(bool(document["problem"]) for document in documents)
        skipped = states.count("not asked")
        if broken or components:
            count = f", {skipped} of {len(states)} not asked" if skipped else ""
            print(f"{failed or 'no'} failure{'s' * (failed != 1)}{count}")
        else:
            print(f"plugin {plugins[0]}: nothing to check; `plugins {arguments.name}` shows what it offers")
        if arguments.json:
            named = [{"name": each.name, "distribution": each.distribution, "problem": each.error} for each in broken]
            print_json({"broken": named, "components": documents})
        return 1 if failed else 0


def _ask(component: Any, options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Check a component and return its JSON document; print a line per check (with ``quiet`` for failures only)."""
    from segkit.testing.suite import checks

    document: dict[str, Any] = {**vars(component), "problem": None, "checks": []}
    print(component)
    try:
        asked = checks(component.kind, component.names[-1], options)
    except SegkitError as error:
        document["problem"] = str(error).replace(f"{component.names[-1]}: ", "")  # already printed above
        print(f"  cannot be checked: {document['problem']}")
        return document
    first_with: dict[tuple[type, str], str] = {}  # error -> the first check that raised it
    for check in asked:
        began = time.perf_counter()
        answer = check.ask()
        seconds = time.perf_counter() - began
        why = answer.why
        if answer.state == "FAILED" and answer.error is not None:
            behind = answer.error.__cause__ or answer.error
            first = first_with.setdefault((type(behind), str(behind)), check.name)
            why = why if first == check.name else f"as {first}"
        if answer.state == "FAILED" or not quiet:
            row = f"  {check.name:32} {seconds:6.2f} s  {answer.state}{f': {why}' if why else ''}"
            print("\n".join(hanging(line, _COLUMN) for line in row.split("\n")), flush=True)
        document["checks"].append({"name": check.name, "state": answer.state, "seconds": seconds, "why": why})
    return document


def _find(name: str, kind: str | None) -> tuple[list[Any], list[Any]]:
    """Return the plugins with this name, and the components with this name, or else those of these plugins.

    Raises:
        ComponentNotFound: nothing has the name, or no component of the kind has it.
    """
    from segkit.testing.suite import KINDS

    everything = [each for one in KINDS for each in REGISTRIES[one].components()]
    plugins = [plugin for plugin in installed() if name == plugin.name]
    named = [each for each in everything if name in each.names]
    named = named or [each for each in everything if name == each.plugin]
    found = [each for each in named if kind in (None, each.kind)]
    if named and not found:
        kinds = " and ".join(sorted({f"a {each.kind}" for each in named}))
        raise ComponentNotFound(f"there is no {kind} '{name}'; '{name}' is {kinds}")
    if not named and not plugins:
        names = [*(each.name for each in everything), *(plugin.name for plugin in installed())]
        raise ComponentNotFound(f"there is no component and no plugin '{name}'{did_you_mean(name, names)}")
    return plugins, found


def _assigned(given: Sequence[str], components: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Parse the KEY=VALUE arguments of ``--option`` for each component that has the key.

    Raises:
        ConfigError: the syntax is wrong, or no component has the key.
        PluginError: no component has the key, and one of them cannot be imported.
    """
    from segkit.options import options_of

    names: dict[Any, list[str]] = {component: [] for component in components}
    for component in components:
        with suppress(SegkitError):  # one that cannot be imported is reported when it is checked
            names[component] = [option.name for option in options_of(component)]
    chosen: dict[Any, dict[str, Any]] = {component: {} for component in components}
    for text in given:
        key, _, value = (part.strip() for part in text.partition("="))
        if not key or not value:
            raise ConfigError(f"--option {text}: write KEY=VALUE, e.g. gamma=2.0")
        having = [each for each in components if key in names[each]]
        if not having:
            for each in components:
                each.load()  # a failed import is the more useful error
            there = dict.fromkeys(name for each in components for name in names[each])
            close = f"{did_you_mean(key, there) or ';'} there are {', '.join(there) or 'none'}"
            raise ConfigError(f"--option {text}: there is no '{key}' in any checked component{close}")
        read: Any = value
        with suppress(tomllib.TOMLDecodeError):  # otherwise the value is a string
            read = tomllib.loads(f"value = {value}")["value"]
        for component in having:
            chosen[component][key] = read
    return chosen
