"""The command ``check-plugin``: the conformance checks of a component or of all that a plugin offers."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segkit.cli.output import add_output_options, messages, print_json
from segkit.cli.text import hanging
from segkit.discovery import PluginInfo
from segkit.errors import ComponentNotFound, ConfigError, SegkitError, did_you_mean
from segkit.foreign import cause
from segkit.hooks import COMPONENT_HOOKS, HOOKS
from segkit.overrides import Written, read_options
from segkit.plugins import table
from segkit.registry import REGISTRIES, Component
from segkit.testing.check import CheckFailed, Subject

_COLUMN = 45  # where it begins what came of a check
KINDS = ("loss", "model", "dataset", "metric")  # as segkit.testing.suite has them, which imports torch


class CheckPlugin:
    """Ask a component, or all components of a plugin, whether they keep the contract of their kind.

    The same checks run under pytest: see segkit.testing. The status is 1 when one fails, or where the plugin is broken.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Name, kind, options, and failures that are known."""
        parser.add_argument("name", help="of a component (dice) or of a plugin (losses)")
        parser.add_argument("--kind", choices=KINDS, help="where a name is of several kinds")
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an option of the component, in TOML, as gamma=2.0; of several components, of those that have it",
        )
        parser.add_argument(
            "--known",
            action="append",
            default=[],
            metavar="[COMPONENT:]CHECK=REASON",
            help="a failure that is expected, and why; the check then has to fail",
        )
        add_output_options(parser, document="broken plugins, components, of each its checks: name, state, seconds, why")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Check, and print a table; 1 where a check fails or the plugin is broken."""
        with messages(aside=arguments.json, quiet=arguments.quiet):
            broken, components = _found(arguments.name, arguments.kind)
            if not broken and not components:
                _nothing_to_check(arguments)
            known = _known(arguments.known, components)
            options = _options(arguments.option, components)
            for plugin in broken:
                print(f"plugin {plugin} is broken: {plugin.error}")
            told = []
            for component in components:
                print(component)
                wanted = {key: value for (name, key), value in known.items() if name in ("", *component.names)}
                told.append(_asked(component, options[component.names], wanted, arguments.quiet))
            states = ["FAILED"] * len(broken) + [state for each in told for state in each.states]
            failed, skipped = states.count("FAILED"), states.count("not asked")
            if states:
                count = f", {skipped} of {len(states)} not asked" if skipped else ""
                print(f"{failed or 'no'} failure{'s' * (failed != 1)}{count}")
        if arguments.json:
            plugins = [{"name": each.name, "distribution": each.distribution, "problem": each.error} for each in broken]
            print_json({"broken": plugins, "components": [each.document() for each in told]})
        return 1 if failed else 0


@dataclass
class _Told:
    """What became of a component: its checks as a document has them, or why it cannot be checked."""

    component: Component
    checks: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    @property
    def states(self) -> list[str]:
        return [*(check["state"] for check in self.checks), *(["FAILED"] if self.problem else [])]

    def document(self) -> dict[str, Any]:
        return {**vars(self.component), "problem": self.problem, "checks": self.checks}


def _asked(component: Component, options: dict[str, Any], known: dict[str, str], quiet: bool) -> _Told:
    """Ask every check of a component; what ends that is told too, as the next component may be sound."""
    told = _Told(component)
    try:
        _check(told, options, known, quiet)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = str(error) if isinstance(error, SegkitError) else cause(error)
        told.problem = said.replace(f"{component.names[-1]}: ", "")  # which the line above has named
        print(f"  cannot be checked: {told.problem}")
    return told


def _check(told: _Told, options: dict[str, Any], known: dict[str, str], quiet: bool) -> None:
    """Ask, and print a line each; where it is to be quiet, one of each failure."""
    from segkit.testing.suite import checks

    component = told.component
    seen: dict[tuple[type, str], str] = {}  # an error -> the first check that met it
    asked = checks(component.kind, component.names[-1], options, known)
    if options and not known and component.kind != "dataset":  # a dataset is built of its sample
        _refuse_what_it_refuses(asked[0].subject)
    for check in asked:
        began = time.perf_counter()
        answer = check.ask()
        seconds = time.perf_counter() - began
        why = answer.why
        if answer.state == "FAILED" and answer.error is not None:
            behind = answer.error.__cause__ or answer.error
            first = seen.setdefault((type(behind), str(behind)), check.name)
            why = why if first == check.name else f"as {first}"
        if answer.state == "FAILED" or not quiet:
            row = f"  {check.name:32} {seconds:6.2f} s  {answer.state}{f': {why}' if why else ''}"
            print("\n".join(hanging(line, _COLUMN) for line in row.split("\n")), flush=True)
        told.checks.append({"name": check.name, "state": answer.state, "seconds": seconds, "why": why})


def _refuse_what_it_refuses(subject: Subject) -> None:
    """Build it once: a value that its constructor refuses is told once, and not by every check.

    Raises:
        SegkitError: it cannot be built.
    """
    names = tuple(f"class {index}" for index in range(3))
    try:
        subject.build(num_classes=3, ignore_index=255, classes=names)
    except CheckFailed as error:
        raise ConfigError(str(error)) from error


def _found(name: str, kind: str | None) -> tuple[list[PluginInfo], list[Component]]:
    """The broken plugins of a name, and the components of that name or of the plugins.

    Raises:
        ComponentNotFound: neither is there, or not of that kind.
    """
    everything = [each for one in KINDS for each in REGISTRIES[one].components()]
    plugins = [plugin for plugin in table().plugins if name in (plugin.name, plugin.key)]
    broken = [plugin for plugin in plugins if plugin.error]
    named = [each for each in everything if name in each.names]
    named = named or [each for each in everything if f"{each.distribution}:{each.plugin}" in [p.key for p in plugins]]
    found = [each for each in named if kind in (None, each.kind)]
    if found or broken:
        return broken, found
    if named:
        those = " and ".join(sorted({f"a {each.kind}" for each in named}))
        raise ComponentNotFound(f"there is no {kind} '{name}'; '{name}' is {those}")
    if not plugins:
        names = [*(each.name for each in everything), *(plugin.name for plugin in table().plugins)]
        raise ComponentNotFound(f"there is no component and no plugin '{name}'{did_you_mean(name, names) or ''}")
    return [], []


def _nothing_to_check(arguments: argparse.Namespace) -> None:
    """Say what plugins without components do.

    Raises:
        ConfigError: an option or a known failure is given, which nothing would look at.
    """
    given = [f"--option {text}" for text in arguments.option] + [f"--known {text}" for text in arguments.known]
    if given:
        raise ConfigError(f"{given[0]}: of '{arguments.name}' there is nothing to check; leave it out")
    for plugin in table().plugins:
        if arguments.name in (plugin.name, plugin.key):
            print(f"plugin {plugin}: nothing to check; it {_does(plugin)}")


def _does(plugin: PluginInfo) -> str:
    """What a plugin without components does, in words."""
    manager = table().manager
    callers = manager.get_hookcallers(manager.get_plugin(plugin.key)) or []
    events = [each.name for each in callers if each.name in HOOKS and each.name not in COMPONENT_HOOKS.values()]
    commands = [name for owner, name, _ in table().offers["command"] if owner is plugin]
    parts = [f"listens to {', '.join(events)}"] * bool(events)
    parts += [f"brings the command{'s' * (len(commands) != 1)} {', '.join(commands)}"] * bool(commands)
    return " and ".join(parts) or "offers nothing"


def _options(given: Sequence[str], components: Sequence[Component]) -> dict[tuple[str, ...], dict[str, Any]]:
    """``--option`` by component; of several components each gets those that it has.

    Raises:
        ConfigError: an option that is not written KEY=VALUE, or that no component has.
    """
    from segkit.build import describe

    values: dict[str, Written] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--option {text}: write KEY=VALUE, as in --option gamma=2.0")
        values[key.strip()] = Written(value.strip())
    if len(components) == 1:  # which says itself what it has
        return {components[0].names: read_options(components[0], values)}
    have: dict[tuple[str, ...], set[str]] = {}
    for component in components:
        try:
            have[component.names] = {option.name for option in describe(component).options}
        except SegkitError:
            have[component.names] = set()
    for key in values:
        everything = set().union(*have.values())
        if key not in everything and components:
            raise ConfigError(f"--option {key}: no component has it{did_you_mean(key, everything)}")
    return {
        each.names: read_options(each, {key: value for key, value in values.items() if key in have[each.names]})
        for each in components
    }


def _known(given: Sequence[str], components: Sequence[Component]) -> dict[tuple[str, str], str]:
    """``--known`` as (component, check) -> reason; the component is empty where one alone has such a check.

    Raises:
        ConfigError: a check without a reason, one that there is not, or one that several components have.
    """
    known = {}
    for text in given if components else ():
        left, _, reason = text.partition("=")
        owner, _, check = left.strip().rpartition(":")
        if not reason.strip():
            raise ConfigError(f"--known {text}: give a reason, CHECK=REASON")
        having = [each for each in components if check in _rules(each.kind)]
        if owner:
            having = [each for each in having if owner in each.names]
        if not having:
            rules = dict.fromkeys(rule for each in components for rule in _rules(each.kind))
            close = did_you_mean(check, rules) or ";"
            if check in rules:
                raise ConfigError(f"--known {text}: none of the components is '{owner}' and has that check")
            raise ConfigError(f"--known {text}: there is no check '{check}'{close} there are {', '.join(rules)}")
        if len(having) > 1:
            which = " or ".join(f"{each.name}:{check}" for each in having)
            raise ConfigError(f"--known {text}: say of which component, {which}")
        known[having[0].names[-1], check] = reason.strip()
    return known


def _rules(kind: str) -> Sequence[str]:
    from segkit.testing.suite import rules_of

    return list(rules_of(kind))
