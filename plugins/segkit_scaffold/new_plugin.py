"""The command ``new-plugin``: writes a complete package for one component, which installs and passes its tests."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import date
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import segkit
from segkit.errors import ConfigError, reason
from segkit.registry import REGISTRIES

_USES = {
    "loss": '```toml\n[[loss]]\nname = "$called"\n```',
    "model": '```toml\n[model]\nname = "$called"\n```',
    "dataset": '```toml\n[dataset]\nname = "$called"\nroot = "data/$name"\n```',
    "metric": '```toml\n[[metric]]\nname = "$called"\n```',
    "observer": "A config need not name it: every run writes `$name.csv` into its folder.",
}
"""The section "Use" of the README, by kind."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class NewPlugin:
    """Write a plugin package for your own component: a loss, model, dataset, metric or observer.

    The package holds a working example to change, and tests that run the checks of its contract.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the name, kind and output folder."""
        parser.add_argument("name", help="in lower case, e.g. focal_tversky")
        parser.add_argument("--kind", required=True, choices=_USES, help="the kind of component")
        parser.add_argument("--output", default=".", metavar="DIR", help="create the folder segkit-NAME in DIR")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Write the package, and print the next steps."""
        name, kind = arguments.name, arguments.kind
        _check_name(name, kind)
        folder = Path(arguments.output).expanduser() / f"segkit-{name.replace('_', '-')}"
        _write(folder, _package(name, kind, _called(name, kind)))
        print(f"{folder} holds the {kind} '{name}': change {_module(name, kind)}. Then, in that folder:\n")
        print('    python -m pip install -e ".[dev]"\n    python -m pytest')
        return 0


def _check_name(name: str, kind: str) -> None:
    """Check that a name is valid for both the component and the package.

    Raises:
        ConfigError: the name is invalid, reserved or taken; the message says what is allowed.
    """
    bare = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("segkit_")
    if bare != name or not _NAME.fullmatch(name):
        close = f"; did you mean '{bare}'?" if _NAME.fullmatch(bare) else ""
        raise ConfigError(
            f"'{name}' is not a valid {kind} name: allowed are lower-case letters, digits and single underscores, "
            f"starting with a letter; the package is named segkit-NAME automatically{close}"
        )
    own = {each.name for each in REGISTRIES["metric"].components() if each.plugin == "core"}
    if kind == "metric" and name in own | {"class", "class_iou", "floor", "lift", "loss", "losses", "predicted"}:
        raise ConfigError(f"'{name}' is the name of a built-in entry of every result: choose another name")
    found = find_spec(f"segkit_{name}")
    if found:
        where = found.origin or "a folder without __init__.py"
        raise ConfigError(f"there is already a Python package segkit_{name} ({where}): choose another name")


def _called(name: str, kind: str) -> str:
    """Return the component's name in a config; if the name is taken, warn and return ``plugin/name``."""
    taken = [each for each in REGISTRIES[kind].components() if each.name == name]
    if not taken:
        return name
    print(f"warning: there is already a {taken[0]}; in a config, write '{name}/{name}' for yours", file=sys.stderr)
    return f"{name}/{name}"


def _module(name: str, kind: str) -> str:
    """Return the path of the component's module; an observer is in ``__init__.py``."""
    return f"segkit_{name}/{'__init__' if kind == 'observer' else kind}.py"


def _package(name: str, kind: str, called: str) -> dict[str, str]:
    """Return the text of every file by its path."""
    words = {"name": name, "called": called, "kind": kind}
    words |= {"package": f"segkit_{name}", "distribution": f"segkit-{name.replace('_', '-')}"}
    suffix = kind.title()
    words["class_name"] = name.title().replace("_", "").removesuffix(suffix) + suffix
    words |= {"plural": REGISTRIES[kind].plural, "version": segkit.__version__, "year": str(date.today().year)}
    words["use"] = Template(_USES[kind]).substitute(words)
    checks = f"To check the contract without pytest: `python -m segkit check-plugin {called}`."
    words["test_note"] = "The tests train for two epochs." if kind == "observer" else checks
    sources = {
        "pyproject.toml": "pyproject",
        "README.md": "readme",
        "LICENSE": "license",
        ".gitignore": "gitignore",
        f"segkit_{name}/__init__.py": "package",
        _module(name, kind): kind,
        f"tests/test_{name}.py": "tests" if kind in ("model", "dataset") else f"{kind}_tests",
    }
    templates = files("segkit_scaffold") / "templates"
    return {
        path: Template((templates / f"{source}.txt").read_text("utf-8")).substitute(words)
        for path, source in sources.items()
    }


def _write(folder: Path, package: dict[str, str]) -> None:
    """Write the files into a new folder.

    Raises:
        ConfigError: the folder exists already, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        for path, text in package.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except FileExistsError:
        raise ConfigError(
            f"{folder} exists already, nothing was changed; remove it, or give another --output"
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {reason(error)}") from error
