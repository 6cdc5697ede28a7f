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
    "transform": '```toml\n[[transform]]\nname = "$called"\n```',
    "reader": "A config need not name it: it reads the images and masks whose names end in `.$name`.",
    "observer": "A config need not name it: every run writes `$name.csv` into its folder.",
}
"""How the README says it is used, by kind."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class NewPlugin:
    """Write a package for a component of your own: a loss, a model, a dataset, a metric, a transform, a reader, ...

    It holds a working example to change, and its tests: the checks of the contract.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Name, kind and place."""
        parser.add_argument("name", help="lower case, as focal_tversky; a reader's is the ending of its files")
        parser.add_argument("--kind", required=True, choices=_USES, help="what it is")
        parser.add_argument("--output", default=".", metavar="DIR", help="where its folder segkit-NAME goes")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Write it, and say what to do next."""
        name, kind = arguments.name, arguments.kind
        _check_name(name, kind)
        folder = Path(arguments.output).expanduser() / f"segkit-{name.replace('_', '-')}"
        _write(folder, _package(name, kind, _called(name, kind)))
        print(f"{folder} holds the {kind} '{name}': change {_module(name, kind)}. Then, in that folder:\n")
        print('    python -m pip install -e ".[dev]"\n    python -m pytest')
        return 0


def _check_name(name: str, kind: str) -> None:
    """Refuse what cannot be the name of a component and of a package.

    Raises:
        ConfigError: saying what is allowed.
    """
    bare = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removeprefix("segkit_")
    if bare != name or not _NAME.fullmatch(name):
        close = f"; did you mean '{bare}'?" if _NAME.fullmatch(bare) else ""
        raise ConfigError(
            f"'{name}' is no name for a {kind}: allowed are lower-case letters, digits and single underscores, a "
            f"letter first; the package is called segkit-NAME by itself{close}"
        )
    own = {each.name for each in REGISTRIES["metric"].components() if each.plugin == "core"}
    if kind == "metric" and name in own | {"class", "class_iou", "floor", "lift", "loss", "losses", "predicted"}:
        raise ConfigError(f"'{name}' is what a score of segkit's own is called in every result: choose another name")
    found = find_spec(f"segkit_{name}")
    if found:
        where = found.origin or "a folder without __init__.py"
        raise ConfigError(f"there is a Python package segkit_{name} already ({where}): choose another name")


def _called(name: str, kind: str) -> str:
    """What a config calls it: by plugin and name where the name is taken, which is warned of."""
    taken = [each for each in REGISTRIES[kind].components() if each.name == name] if kind in REGISTRIES else []
    if not taken:
        return name
    print(f"warning: there is a {taken[0]}; a config has to say '{name}/{name}' for yours", file=sys.stderr)
    return f"{name}/{name}"


def _module(name: str, kind: str) -> str:
    """The file to change; an observer is the package itself."""
    return f"segkit_{name}/{'__init__' if kind == 'observer' else kind}.py"


def _package(name: str, kind: str, called: str) -> dict[str, str]:
    """Path -> text of every file."""
    words = {"name": name, "called": called, "kind": kind}
    words |= {"package": f"segkit_{name}", "distribution": f"segkit-{name.replace('_', '-')}"}
    suffix = kind.title()
    words["class_name"] = name.title().replace("_", "").removesuffix(suffix) + suffix
    words["member"] = "read" if kind == "reader" else words["class_name"]
    words |= {"plural": REGISTRIES[kind].plural, "version": segkit.__version__, "year": str(date.today().year)}
    words["use"] = Template(_USES[kind]).substitute(words)
    option = f" --option path=FILE.{name}" if kind == "reader" else ""
    checks = f"The checks of the contract, `python -m segkit check-plugin {called}{option}` runs them without pytest."
    words["test_note"] = "They train for two epochs." if kind == "observer" else checks
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
        ConfigError: the folder is there, or cannot be written.
    """
    try:
        if folder.exists() or folder.is_symlink():  # a link to nowhere is there too
            raise ConfigError(
                f"{folder} is there already, and nothing was changed; remove it, or give another --output"
            )
        for path, text in package.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {reason(error)}") from error
