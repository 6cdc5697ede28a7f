"""Reads a config from a TOML file and overrides, and checks all of it before anything is built.

A config names components and their options; the options are checked against the components' signatures. All problems
are reported together, each with the path of its key.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

from segkit.errors import ComponentNotFound, ConfigError, SegkitError, did_you_mean, reason
from segkit.options import BACKSLASH, create, read_options
from segkit.plugins import unmet_requirements
from segkit.registry import REGISTRIES, Component
from segkit.settings import TABLES, AugmentSettings, DataSettings, OutputSettings, Settings, TrainSettings

MORE_MODELS = (
    " smp has many more, as options: model.name=smp model.architecture=... model.encoder=... (see show model smp)"
)
LISTS = ("loss", "metric", "transform")  # tables that a config may have several times
NO_OVERRIDE = "{}: an override is written table.key=value, as in train.epochs=3"

Overrides = Sequence[str] | Mapping[str, Any]
SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class Choice:
    """A component that a config names, with its options; ``scale`` is the weight of a loss in the sum."""

    name: str
    component: Component
    options: Mapping[str, Any]
    scale: float = 1.0

    @property
    def short(self) -> str:
        """The component's name without its plugin's."""
        return self.name.rpartition("/")[2]

    def build(self, dataset: Any, **options: Any) -> Any:
        """Build the component with its options and these; the given parameters (classes, ...) come from the dataset."""
        classes = tuple(dataset.classes)
        given = {"num_classes": len(classes), "ignore_index": dataset.ignore_index, "classes": classes}
        given |= {"in_channels": len(dataset.channels)}
        return create(self.component, {**self.options, **options}, given)

    def record(self) -> dict[str, Any]:
        """The choice as a table of a config."""
        scale = {"scale": self.scale} if self.component.kind == "loss" else {}
        return {"name": self.name, **scale, **self.options}


@dataclass(frozen=True)
class Config:
    """A checked config: its tables, and two more attributes.

    Attributes:
        name: name of the file without its suffix; the default name of the run folder.
        plugins: the distributions that the config requires, with their versions.
    """

    name: str
    plugins: tuple[str, ...]
    dataset: Choice
    model: Choice
    loss: tuple[Choice, ...]
    metric: tuple[Choice, ...]
    transform: tuple[Choice, ...]
    data: DataSettings
    augment: AugmentSettings
    train: TrainSettings
    output: OutputSettings

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.output.dir or Path("runs") / self.name)

    def record(self) -> dict[str, Any]:
        """The config with all defaults written out, as stored in ``run.json``."""
        chosen = {"plugins": list(self.plugins), "dataset": self.dataset.record(), "model": self.model.record()}
        lists = {
            key: [each.record() for each in getattr(self, key)] for key in LISTS if key != "transform" or self.transform
        }
        return chosen | lists | {name: getattr(self, name).model_dump() for name in TABLES}


def read_config(source: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> Config:
    """Read and check a config.

    Args:
        source: a TOML file, or its tables as a mapping.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``; ``loss.0.scale`` and ``loss.dice.scale`` select
            one of a list of tables. Overriding a component's ``name`` removes the options that the file gives it.

    Raises:
        ConfigError: the config has problems; all of them are listed.
    """
    name, tables = ("config", copy.deepcopy(dict(source))) if isinstance(source, Mapping) else _read_file(Path(source))
    problems: list[str] = []

    def part(build: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return build(*arguments)
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    overrides = [overrides] if isinstance(overrides, str) else overrides
    pairs = overrides.items() if isinstance(overrides, Mapping) else filter(None, [part(_pair, t) for t in overrides])
    for path, value in sorted(pairs, key=lambda pair: not pair[0].endswith(".name")):  # a new name clears the options
        part(_override, tables, path, value)
    problems += [f"plugins: {problem}" for problem in unmet_requirements(tables.get("plugins", []))]
    allowed = ["dataset", "model", *LISTS, *TABLES, "plugins"]
    problems += [
        f"[{key}]: there is no such table{did_you_mean(key, allowed) or ';'} there are {', '.join(allowed)}"
        for key in tables
        if key not in allowed
    ]
    parts = {key: part(settings_from, kind, key, tables.get(key, {})) for key, kind in TABLES.items()}
    parts |= {key: part(_choice, key, tables.get(key), key) for key in ("dataset", "model")}
    for key in LISTS:
        rows = tables.get(key, [])
        if not isinstance(rows, list | tuple):
            problems.append(f"[{key}]: several are allowed, so it is written [[{key}]]")
        elif key == "loss" and not rows:
            problems.append(f"[[loss]] is missing; there are {', '.join(REGISTRIES['loss'])}")
        else:
            parts[key] = tuple(part(_choice, key, row, f"{key}[{number}]") for number, row in enumerate(rows))
    if problems:
        raise ConfigError(problems, "config" if isinstance(source, Mapping) else str(source))
    return Config(name=name, plugins=tuple(tables.get("plugins", [])), **parts)


def settings_from(kind: type[SettingsT], key: str, values: Any) -> SettingsT:
    """Make one table of settings from plain values.

    Raises:
        ConfigError: the table has problems; all of them are listed.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{key} = {values!r}: a table is needed, [{key}]")
    read, problems = read_options(kind, values, key)
    if isinstance(optimizer := read.get("optimizer"), str):
        try:
            found = REGISTRIES["optimizer"].find(optimizer)
            if "lr" not in read:
                read["lr"] = float(getattr(found.load(), "default_lr", kind.model_fields["lr"].default))
        except SegkitError as error:
            problems.append(f"{key}.optimizer: {error}")
    if problems:
        raise ConfigError(problems)
    return kind.model_validate(read)


def _read_file(path: Path) -> tuple[str, dict[str, Any]]:
    text = ""
    try:
        text = path.read_text("utf-8-sig")
        # a file named "...toml" would give the run folder "runs/.."
        return path.stem if path.stem.strip(".") else "config", tomllib.loads(text)
    except FileNotFoundError as error:
        near = [str(p) for p in path.parent.glob("*.toml") if p != path] if path.parent.is_dir() else []
        raise ConfigError(f"there is no config {path}{did_you_mean(str(path), near)}") from error
    except tomllib.TOMLDecodeError as error:
        hint = f"; {BACKSLASH}" if "\\" in text else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{hint}") from error
    except IsADirectoryError as error:
        of_run = "a run folder, which is for evaluate, predict and report"
        what = of_run if (path / "run.json").is_file() else "a folder"
        raise ConfigError(f"{path} is {what}; give a config, a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {reason(error)}") from error


def _pair(text: str) -> tuple[str, Any]:
    """Split an override into path and value, which is TOML where it can be read as TOML, else a text.

    Raises:
        ConfigError: the override is not of the form table.key=value.
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise ConfigError(NO_OVERRIDE.format(path))
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:  # a text, perhaps a Windows path in double quotes
        return path, value.strip('"')
    return path, value if isinstance(read, date | time) else read  # a folder may be named like a date


def _override(tables: dict[str, Any], path: str, value: Any) -> None:
    """Set one key of a config's tables, in place.

    Raises:
        ConfigError: the path selects no table, or several.
    """
    *above, key = path.split(".")
    if not all((*above, key)) or not (above or key in (*LISTS, "plugins")):
        raise ConfigError(NO_OVERRIDE.format(path))
    place: Any = tables
    for depth, name in enumerate(above):
        if isinstance(place, list):
            place = _row(place, name, path)
        elif isinstance(place, dict):
            place = place.setdefault(name, [] if not depth and name in LISTS else {})
    place = _row(place, "", path) if isinstance(place, list) else place
    if not isinstance(place, dict):
        raise ConfigError(f"{path}: {'.'.join(above)} is {place!r} and holds no keys")
    if key == "name" and value != place.get("name"):  # another component has other options
        for other in [other for other in place if other != "scale"]:  # the weight in the sum of losses stays
            del place[other]
    place[key] = value


def _row(rows: list[Any], name: str, path: str) -> Any:
    """The table of a list that a number or a component's name selects; loss.1.name=dice may append one.

    Raises:
        ConfigError: no table matches, or several match.
    """
    if name == str(len(rows)):
        rows.append({})
    names = [str(row.get("name")) if isinstance(row, dict) else "" for row in rows]
    found = [row for row, each in enumerate(names) if name in (str(row), each, each.rpartition("/")[2])]
    if len(found) != 1:
        there = ", ".join(f"{path.partition('.')[0]}.{row} ({each})" for row, each in enumerate(names))
        raise ConfigError(f"{path}: say which one; there are {there or 'none'}")
    return rows[found[0]]


def _choice(key: str, table: Any, where: str) -> Choice:
    """The component that a table names, with its checked options.

    Raises:
        ConfigError: the table has problems; all of them are listed.
    """
    header, registry = f"[[{key}]]" if key in LISTS else f"[{key}]", REGISTRIES[key]
    if not isinstance(table, Mapping):
        wrong = f"{header} is missing" if table is None else f"{where} = {table!r}: a table is needed, {header}"
        raise ConfigError(wrong)
    name = table.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{where}.name: which {key}? there are {', '.join(registry)}")
    try:
        component = registry.find(name)
    except ComponentNotFound as error:
        raise ConfigError(f"{where}.name: {error}{MORE_MODELS if key == 'model' else ''}") from error
    options, problems = read_options(component, {each: table[each] for each in table if each != "name"}, where)
    if problems:
        raise ConfigError(problems)
    scale = float(options.pop("scale", 1.0)) if key == "loss" else 1.0
    return Choice(name, component, options, scale)
