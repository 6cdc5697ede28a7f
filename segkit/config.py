"""A TOML file and overrides -> a checked config; every problem is found before anything is built.

A config names components and gives their options; the options are checked against the components' own
signatures. What is wrong is reported all at once, with the path of the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from segkit.build import check_options, option_that_takes
from segkit.errors import ComponentNotFound, ConfigError, SegkitError, did_you_mean, first_few, reason
from segkit.overrides import Overrides, Written, apply_overrides, read_options
from segkit.registry import Registry, datasets, losses, metrics, models, optimizers
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

_DEEPEST = 20
BACKSLASH = "in double quotes a backslash begins an escape: write a path in single quotes, 'C:\\data', or with /"
SettingsT = TypeVar("SettingsT", bound=Settings)

COMPONENTS = {"dataset": datasets, "model": models}
LISTS = {"loss": losses, "metric": metrics}


@dataclass(frozen=True)
class Choice:
    """A component that a config names, with its options; ``scale`` is a loss's weight in the sum."""

    name: str
    options: Mapping[str, Any]
    scale: float = 1.0


@dataclass(frozen=True)
class Config:
    """A checked config.

    Attributes:
        name: of the file, without its suffix; names the run folder.
        plugins: the distributions it needs, with their versions.
        tables: the config as it was written, overrides applied.
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
    tables: Mapping[str, Any]

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
        return chosen | {name: getattr(self, name).model_dump() for name in TABLES}


def read_config(source: str | Path | Mapping[str, Any], overrides: Overrides = (), where: str = "") -> Config:
    """Read and check a config.

    Args:
        source: a TOML file, or its tables as a mapping.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``; ``loss.0.scale`` and ``loss.dice.scale`` reach
            into a list of tables.
        where: what messages call it; left out: the file, or ``config``.

    Raises:
        ConfigError: with every problem found.
    """
    name, tables = ("config", _copy(source)) if isinstance(source, Mapping) else _read_file(Path(source))
    where = where or ("config" if isinstance(source, Mapping) else str(source))
    problems = apply_overrides(tables, overrides, LISTS)
    problems += _impossible(tables)
    if "plugins" in tables:
        from segkit.requirements import unmet  # takes a while, and most configs need none

        problems += [f"plugins: {problem}" for problem in unmet(tables["plugins"])]
    problems += _unknown_tables(tables)
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
        tables=tables,
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
    try:
        # of a file "...toml" the run folder would be "runs/.."
        return path.stem if path.stem.strip(".") else "config", tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        near = [str(p) for p in path.parent.glob("*.toml") if p != path] if path.parent.is_dir() else []
        raise ConfigError(f"there is no config {path}{did_you_mean(str(path), near)}") from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = path.read_text("utf-8-sig").splitlines()[int(place[1]) - 1] if place else ""
        hint = f"; {BACKSLASH}" if re.search(r"\"[^\"]*\\", line) else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{hint}") from error
    except IsADirectoryError as error:
        raise ConfigError(_no_config(path)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {reason(error)}") from error


def _no_config(folder: Path) -> str:
    """What to say of a folder in the place of a config."""
    if (folder / "run.json").is_file():
        return (
            f"{folder} is the folder of a run, and a config is wanted, a TOML file; evaluate, predict and report "
            "take the folder of a run"
        )
    files = [path.name for path in sorted(folder.glob("*.toml"))]
    there = f"; there are {first_few(files)} in it" if files else ""
    return (
        f"{folder} is a folder, and a config is wanted, a TOML file{there or '; '}"
        f"{'' if there else 'it names the data, as dataset.root does for the dataset folder (see show dataset folder)'}"
    )


def _impossible(tables: Mapping[str, Any]) -> list[str]:
    """Zero bytes, which no file's name may hold, and other control characters, which a backslash has made.

    Raises:
        ConfigError: tables in tables in tables: whoever looks at them by recursion would not come back.
    """
    problems = []
    waiting: list[tuple[str, Any, int]] = [("", tables, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ConfigError(f"{place[:40]}...: more than {_DEEPEST} tables and lists in one another")
        if isinstance(value, Mapping):
            waiting += [(f"{place}.{key}".lstrip("."), each, depth + 1) for key, each in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(f"{place}[{position}]", each, depth + 1) for position, each in enumerate(value)]
        elif isinstance(value, str) and "\0" in value:
            problems.append(f"{place} = {value!r}: a zero byte, which no file's name may hold")
        elif isinstance(value, str) and value.strip() and (found := re.search(r"[\x01-\x1f]", value)):
            # "C:\new" holds a line break; what is a separator holds nothing else
            problems.append(f"{place} = {value!r}: holds the control character {found[0]!r}; {BACKSLASH}")
    return problems


def _unknown_tables(tables: Mapping[str, Any]) -> list[str]:
    allowed = [*COMPONENTS, *LISTS, *TABLES, "plugins"]
    return [
        f"[{key}]: there is no such table{did_you_mean(key, allowed) or ';'} there are {', '.join(allowed)}"
        for key in tables
        if key not in allowed
    ]


def _settings(kind: type[Settings], key: str, values: Any, problems: list[str]) -> Any:
    if not isinstance(values, Mapping):
        problems.append(f"{key} = {values!r}: a table is needed, [{key}]")
        return kind()
    for option, value in values.items():
        if isinstance(value, Written) and isinstance(values, dict):
            values[option] = value.read(partial(_fits, kind, option))
    values = dict(values)
    if kind is TrainSettings:
        _complete_optimizer(values, problems)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for option, found in groupby(error.errors(), lambda problem: str((*problem["loc"], "")[0])):
            problems.append(_setting_problem(kind, key, option, list(found)))
        return None


def _complete_optimizer(train: dict[str, Any], problems: list[str]) -> None:
    """Look up ``train.optimizer``; where the learning rate is left out, it is the one that the optimizer asks for."""
    name = train.get("optimizer", "adamw")
    if isinstance(name, str) and not ("lr" in train and name in RATES):
        try:
            component = optimizers.find(name)
            if name not in RATES and "lr" not in train:
                train["lr"] = float(getattr(component.load(), "default_lr", RATES["adamw"]))
        except SegkitError as error:
            problems.append(f"train.optimizer: {error}")


def _fits(kind: type[Settings], key: str, value: Any) -> bool:
    """Whether a key of a table may have this value; what is no key is told elsewhere."""
    try:
        if key in kind.model_fields:
            annotation: Any = kind.model_fields[key].annotation
            TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _setting_problem(kind: type[Settings], table: str, key: str, found: Sequence[Any]) -> str:
    """What pydantic found wrong with one key, in one line; of a union it tells once for each branch."""
    first = found[0]
    if first["type"] == "extra_forbidden":
        if key == "plugins":
            return f"{table}.plugins: plugins = [...] stands at the top of the file, above the first table"
        if key in RENAMED.get(table, {}):
            new = RENAMED[table][key]
            return f"{table}.{key} is now {table}.{new}: {kind.model_fields[new].description}"
        allowed, words = list(kind.model_fields), key.replace("_", " ")
        said = kind.model_fields.items() if " " in words else ()  # a single word stands in too many descriptions
        told = [name for name, field in said if words in (field.description or "")]
        meant = did_you_mean(key, allowed) or "".join(f"; did you mean '{name}'?" for name in told[:1])
        return f"{table}.{key}: there is no such key{meant or '; there are ' + ', '.join(allowed)}"
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
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(registry)
        problems.append(f"{where}.name: which {registry.kind}? there are {known}")
        return None
    scale = options.pop("scale", 1.0) if key == "loss" else 1.0
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale < math.inf:
        problems.append(f"{where}.scale = {scale!r}: a number of 0 or more is needed")
        scale = 1.0
    try:
        component = registry.find(name)
    except ComponentNotFound as error:
        problems.append(f"{where}.name: {option_that_takes(registry, name) or error}")
        return None
    options = read_options(component, options)
    if isinstance(table, dict):
        table.update(options)
    problems += check_options(component, options, where)
    return Choice(name, options, float(scale))


def _choices(registry: Registry, key: str, rows: Any, problems: list[str]) -> list[Any]:
    if isinstance(rows, Mapping) or not isinstance(rows, Sequence) or isinstance(rows, str):
        problems.append(f"[{key}]: several are allowed, so it is written [[{key}]]")
        return []
    if key == "loss" and not rows:
        problems.append(f"[[loss]] is missing; there are {', '.join(registry)}")
    return [_choice(registry, key, row, problems, f"{key}[{place}]") for place, row in enumerate(rows)]


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, (list, tuple)) else value
