"""The command ``check-plugin``: the conformance checks of a component or of all that a plugin offers."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from segkit.errors import ComponentNotFound, ConfigError, did_you_mean
from segkit.plugins import table
from segkit.registry import REGISTRIES, Component


class CheckPlugin:
    """Ask a component, or all components of a plugin, whether they keep the contract of their kind.

    The same checks run under pytest: see segkit.testing. The status is 1 when one fails.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Name, kind, and failures that are known."""
        parser.add_argument("name", help="of a component (dice) or of a plugin (losses)")
        parser.add_argument("--kind", help="loss, model, dataset or metric, where a name is of several")
        parser.add_argument(
            "--known", action="append", default=[], metavar="CHECK=REASON", help="a failure that is expected"
        )

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Check, and print a table; 1 where a check fails."""
        from segkit.testing.suite import checks

        known = dict(each.partition("=")[::2] for each in arguments.known)
        failed = 0
        for component in _components(arguments.name, arguments.kind):
            print(component)
            asked = checks(component.kind, component.names[-1])
            unknown = [name for name in known if name not in [check.name for check in asked]]
            if unknown:
                raise ConfigError(f"--known {unknown[0]}: there is no such check")
            for check in checks(component.kind, component.names[-1], known_failures=known):
                began = time.perf_counter()
                try:
                    check()
                    told = f"known: {check.known}" if check.known else "ok"
                except AssertionError as error:
                    failed += 1
                    told = f"FAILED: {error}"
                print(f"  {check.name:32} {time.perf_counter() - began:6.2f} s  {told}", flush=True)
        print(f"{failed or 'no'} failure{'s' * (failed != 1)}")
        return 1 if failed else 0


def _components(name: str, kind: str | None) -> Iterator[Component]:
    """The components of a name, or of the plugin of that name.

    Raises:
        ComponentNotFound: neither is there.
    """
    kinds = ("loss", "model", "dataset", "metric")
    everything = [each for one in kinds if kind in (None, one) for each in REGISTRIES[one].components()]
    found = [each for each in everything if name in each.names] or [each for each in everything if each.plugin == name]
    if not found:
        names = [*(each.name for each in everything), *(plugin.name for plugin in table().plugins)]
        raise ComponentNotFound(f"there is no component and no plugin '{name}'{did_you_mean(name, names) or ''}")
    yield from found
