"""A TOML file and overrides become a checked config; every problem is found before anything is built.

A config names components and gives their options; the options are checked against the components' own signatures. What
is wrong is reported all at once, with the path of the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from segkit.errors import ComponentNotFound, ConfigError, SegkitError, did_you_mean, reason
from segkit.options import Written, read_options, read_value
from segkit.plugins import unmet
from segkit.registry import Component, Registry, datasets, losses, metrics, models, optimizers, transforms
from segkit.settings import (
    RATES,
    RENAMED,
    TABLES,
    AugmentSettings,
    DataSettings,
    OutputSettings,
    Settings,
    TrainSettings,
)

BACKSLASH = "in double quotes a backslash begins an escape: write a path in single quotes, 'C:\\data', or with /"
MORE_MODELS = (
    " smp has many more, as options: model.name=smp model.architecture=... model.encoder=... (see show model smp)"
)
COMPONENTS = {"dataset": datasets, "model": models}
LISTS = {"loss": losses, "metric": metrics, "transform": transforms}

Overrides = Sequence[str] | Mapping[str, Any]
SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class Choice:
    """A component that a config names, with its options; ``scale`` is a loss's weight in the sum."""

    name: str
    component: Component
    options: Mapping[str, Any]
    scale: float = 1.0

    @property
    def short(self) -> str:
        """The name without the plugin's."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Config:
    """A checked config.

    Attributes:
        name: of the file, without its suffix; names the run folder.
        plugins: the distributions it needs, with their versions.
    """

    name: str
    plugins: tuple[str, ...]
    dataset: Choice
    model: Choice
    losses: tuple[Choice, ...]
    metrics: tuple[Choice, ...]
    data: DataSettings
    augment: AugmentSettings
    train: TrainSettings
    output: OutputSettings
    transforms: tuple[Choice, ...] = ()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.output.dir or Path("runs") / self.name).expanduser()

    def record(self) -> dict[str, Any]:
        """The config with every default written out, as it stands in ``run.json``."""
        chosen = {
            "plugins": list(self.plugins),
            "dataset": {"name": self.dataset.name, **self.dataset.options},
            "model": {"name": self.model.name, **self.model.options},
            "loss": [{"name": c.name, "scale": c.scale, **c.options} for c in self.losses],
            "metric": [{"name": c.name, **c.options} for c in self.metrics],
        }
        if self.transforms:
            chosen["transform"] = [{"name": c.name, **c.options} for c in self.transforms]
        return chosen | {name: getattr(self, name).model_dump() for name in TABLES}


def read_config(source: str | Path | Mapping[str, Any], overrides: Overrides = (), where: str = "") -> Config:
    """Read and check a config.

    Args:
        source: a TOML file, or its tables as a mapping.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``; ``loss.0.scale`` and ``loss.dice.scale`` reach
            into a list of tables. A component's ``name`` that is overridden clears the options it had in the file.
        where: what messages call it; left out: the file, or ``config``.

    Raises:
        ConfigError: with every problem found.
    """
    name, read = ("config", source) if isinstance(source, Mapping) else _read_file(Path(source))
    where = where or ("config" if isinstance(source, Mapping) else str(source))
    problems: list[str] = []
    tables = _copy(read, "", problems)
    problems += _apply(tables, overrides)
    problems += [f"plugins: {problem}" for problem in unmet(tables.get("plugins", []))]
    allowed = [*COMPONENTS, *LISTS, *TABLES, "plugins"]
    problems += [
        f"[{key}]: there is no such table{did_you_mean(key, allowed) or ';'} there are {', '.join(allowed)}"
        for key in tables
        if key not in allowed
    ]
    settings = {key: _settings(kind, key, tables.get(key, {}), problems) for key, kind in TABLES.items()}
    chosen = {key: _choice(registry, key, tables.get(key), problems) for key, registry in COMPONENTS.items()}
    lists = {key: _choices(registry, key, tables.get(key, []), problems) for key, registry in LISTS.items()}
    if problems:
        raise ConfigError(problems, where)
    return Config(
        name=name,
        plugins=tuple(tables.get("plugins", [])),
        dataset=chosen["dataset"],
        model=chosen["model"],
        losses=tuple(lists["loss"]),
        metrics=tuple(lists["metric"]),
        transforms=tuple(lists["transform"]),
        **settings,
    )


def settings_from(kind: type[SettingsT], key: str, values: Mapping[str, Any]) -> SettingsT:
    """One table of settings from plain values.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    result = _settings(kind, key, values, problems)
    if problems:
        raise ConfigError(problems)
    return result  # type: ignore[no-any-return]


def _read_file(path: Path) -> tuple[str, dict[str, Any]]:
    text = ""
    try:
        text = path.read_text("utf-8-sig")
        # of a file "...toml" the run folder would be "runs/.."
        return path.stem if path.stem.strip(".") else "config", tomllib.loads(text)
    except FileNotFoundError as error:
        near = [str(p) for p in path.parent.glob("*.toml") if p != path] if path.parent.is_dir() else []
        raise ConfigError(f"there is no config {path}{did_you_mean(str(path), near)}") from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = text.splitlines()[int(place[1]) - 1] if place else ""
        hint = f"; {BACKSLASH}" if re.search(r"\"[^\"]*\\", line) else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{hint}") from error
    except IsADirectoryError as error:
        of_run = "the folder of a run, which evaluate, predict and report take"
        what = of_run if (path / "run.json").is_file() else "a folder"
        raise ConfigError(f"{path} is {what}; a config is wanted, a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {reason(error)}") from error


def _copy(value: Any, place: str, problems: list[str]) -> Any:
    """A copy that may be changed; texts with control characters, which a backslash has made, are problems."""
    if isinstance(value, Mapping):
        return {str(key): _copy(each, f"{place}.{key}".lstrip("."), problems) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(each, f"{place}[{number}]", problems) for number, each in enumerate(value)]
    # "C:\new" holds a line break, and "\0" is in no file's name; what is a separator holds nothing else
    if isinstance(value, str) and value.strip() and (found := re.search(r"[\0-\x1f]", value)):
        problems.append(f"{place} = {value!r}: holds the control character {found[0]!r}; {BACKSLASH}")
    return value


def _apply(tables: dict[str, Any], overrides: Overrides) -> list[str]:
    """Apply overrides to the tables of a config, in place; what is wrong with them.

    What a command line says of an option stays :class:`Written` until the option's type is known.
    """
    pairs: list[tuple[str, Any]] = list(overrides.items()) if isinstance(overrides, Mapping) else []
    problems = []
    for text in () if isinstance(overrides, Mapping) else overrides:
        path, equals, value = (part.strip() for part in text.partition("="))
        keys = path.split(".")
        if equals and all(keys) and (len(keys) > 1 or path == "plugins"):
            pairs.append((path, Written(value)))
        else:
            problems.append(f"{path}: an override is written table.key=value, as in train.epochs=3")
    pairs.sort(key=lambda pair: not pair[0].endswith(".name"))  # first, as it clears what follows from the old name
    return problems + [problem for path, value in pairs if (problem := _override(tables, path, value))]


def _override(tables: dict[str, Any], path: str, value: Any) -> str:
    """Set one key; what is wrong with its path."""
    *above, key = path.split(".")
    place: Any = tables
    for depth, name in enumerate(above):
        if isinstance(place, list):
            rows = _rows(place, name)
            if not rows:
                return f"{path}: the config has no {above[0]}.{name}"
            if len(rows) > 1:
                rest = ".".join([*above[depth + 1 :], key])
                which = " or ".join(f"{above[0]}.{row}.{rest}=..." for row in rows)
                return f"{path}: {len(rows)} of them are called '{name}'; say which {above[0]}, as in {which}"
            place = place[rows[0]]
        elif isinstance(place, dict):
            place = place.setdefault(name, [] if not depth and name in LISTS else {})
    if isinstance(place, list):
        return f"{path}: say which {above[0]}, as in {above[0]}.0.{key}=..."
    if not isinstance(place, dict):
        return f"{path}: {'.'.join(above)} is {place!r} and holds no keys"
    if key == "name" and value != place.get("name"):  # another component has other options
        for other in [other for other in place if other != "scale"]:  # the weight in the sum of losses
            del place[other]
    is_option = len(above) == 1 + (above[:1] != [] and above[0] in LISTS)
    place[key] = value if is_option else read_value(value)
    return ""


def _rows(rows: list[Any], name: str) -> list[int]:
    """The rows of a list of tables that a number or a component's name means; loss.1.name=dice may add one."""
    if name == str(len(rows)):
        rows.append({})
    names = [str(row.get("name")) if isinstance(row, dict) else "" for row in rows]
    return [row for row, each in enumerate(names) if name in (str(row), each, each.rpartition("/")[2])]


def _settings(kind: type[Settings], key: str, values: Any, problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        problems.append(f"{key} = {values!r}: a table is needed, [{key}]")
        return None
    fields = kind.model_fields
    values = {
        name: read_value(value, fields[name].annotation if name in fields else Any) for name, value in values.items()
    }
    if kind is TrainSettings:
        _look_up_optimizer(values, problems)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for option, found in groupby(error.errors(), lambda problem: str((*problem["loc"], "")[0])):
            problems.append(_setting_problem(kind, key, option, list(found)))
        return None


def _look_up_optimizer(train: dict[str, Any], problems: list[str]) -> None:
    """Refuse an optimizer that there is not; a learning rate that is left out is what the optimizer asks for."""
    name = train.get("optimizer", "adamw")
    try:
        component = optimizers.find(name) if isinstance(name, str) else None
        if component and "lr" not in train:
            train["lr"] = RATES.get(name) or float(getattr(component.load(), "default_lr", RATES["adamw"]))
    except SegkitError as error:
        problems.append(f"train.optimizer: {error}")


def _setting_problem(kind: type[Settings], table: str, key: str, found: Sequence[Any]) -> str:
    """What pydantic found wrong with one key, in one line; of a union it has an error for each branch."""
    first = found[0]
    if first["type"] == "extra_forbidden":
        if key == "plugins":
            return f"{table}.plugins: plugins = [...] stands at the top of the file, above the first table"
        if key in RENAMED.get(table, {}):
            new = RENAMED[table][key]
            return f"{table}.{key} is now {table}.{new}: {kind.model_fields[new].description}"
        there_are = f"; there are {', '.join(kind.model_fields)}"
        return f"{table}.{key}: there is no such key{did_you_mean(key, kind.model_fields) or there_are}"
    if first["type"] == "value_error":
        return f"{table}: {first['ctx']['error']}"
    messages = dict.fromkeys(problem["msg"].removeprefix("Input ") for problem in found)
    return f"{table}.{key} = {first['input']!r}: {', or '.join(messages)}"


def _choice(registry: Registry, key: str, table: Any, problems: list[str], where: str = "") -> Any:
    where = where or key
    header = f"[[{key}]]" if key in LISTS else f"[{key}]"
    if not isinstance(table, Mapping):
        problems.append(
            f"{header} is missing" if table is None else f"{where} = {table!r}: a table is needed, {header}"
        )
        return None
    options = dict(table)
    name, scale = options.pop("name", None), 1.0
    if not isinstance(name, str):
        problems.append(f"{where}.name: which {registry.kind}? there are {', '.join(registry)}")
        return None
    if key == "loss":
        scale = read_value(options.pop("scale", 1.0), float)
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale < math.inf:
            problems.append(f"{where}.scale = {scale!r}: a number of 0 or more is needed")
            scale = 1.0
    try:
        component = registry.find(str(name))
    except ComponentNotFound as error:
        problems.append(f"{where}.name: {error}{MORE_MODELS if registry is models else ''}")
        return None
    options, wrong = read_options(component, options, where)
    problems += wrong
    return Choice(str(name), component, options, float(scale))


def _choices(registry: Registry, key: str, rows: Any, problems: list[str]) -> list[Any]:
    if isinstance(rows, Mapping) or not isinstance(rows, Sequence) or isinstance(rows, str):
        problems.append(f"[{key}]: several are allowed, so it is written [[{key}]]")
        return []
    if key == "loss" and not rows:
        problems.append(f"[[loss]] is missing; there are {', '.join(registry)}")
    return [_choice(registry, key, row, problems, f"{key}[{place}]") for place, row in enumerate(rows)]
