"""Overrides of a config: ``table.key=value`` on the command line, or a mapping in Python."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, time
from functools import partial
from typing import Any

from segkit.build import describe
from segkit.errors import SegkitError
from segkit.options import checked
from segkit.registry import Component
from segkit.settings import TABLES, path_of

Overrides = Sequence[str] | Mapping[str, Any]


def apply_overrides(tables: dict[str, Any], overrides: Overrides, lists: Collection[str]) -> list[str]:
    """Apply overrides to the tables of a config, in place.

    Args:
        tables: as TOML gives them.
        overrides: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``.
        lists: the keys that hold a list of tables; a member is named by its number or its component's name.

    A component's ``name`` that is overridden clears the options it had in the file: they were another component's. What
    the command line says of an option stays :class:`Written` until the option's type is known.

    Returns:
        What is wrong with them.
    """
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else [_split(text) for text in overrides]
    pairs.sort(key=lambda pair: not pair[0].endswith(".name"))  # first, as it clears what follows from the old name
    problems = []
    for path, value in pairs:
        keys = path.split(".")
        if (len(keys) < 2 and path != "plugins") or not all(keys) or value is _NOTHING:  # plugins stands in no table
            meant = path_of(path) if len(keys) < 2 else path if keys[0] in {*TABLES, *tables} and all(keys) else ""
            told = "..." if value is _NOTHING else value
            example = f"{meant}={told}" if meant else "train.epochs=3"
            problems.append(f"{path}: an override is written table.key=value, as in {example}")
            continue
        place: Any = tables
        for depth, key in enumerate(keys[:-1]):
            place = _step(place, key, tables_only=depth > 0 or key not in lists)
            if place is None:
                problems.append(f"{path}: the config has no {'.'.join(keys[: depth + 1])}")
                break
        else:
            if not isinstance(place, list | dict):
                problems.append(f"{path}: {'.'.join(keys[:-1])} is {place!r} and holds no keys")
            elif isinstance(place, list):
                numbers = _named(tables[keys[0]], keys[1]) or [0]
                several = f"{len(numbers)} of them are called '{keys[1]}'; " if len(numbers) > 1 else ""
                rest = ".".join(keys[2:] or keys[1:])
                which = " or ".join(f"{keys[0]}.{number}.{rest}=..." for number in numbers)
                problems.append(f"{path}: {several}say which {keys[0]}, as in {which}")
            else:
                if isinstance(value, Written):
                    whole = len(keys) == 2 + isinstance(tables.get(keys[0]), list) and keys[-1] not in ("name", "scale")
                    value = value.beside(place.get(keys[-1])) if whole else value.read()
                if keys[-1] == "name" and value != place.get("name"):
                    _keep_only_scale(place)
                place[keys[-1]] = value
    return problems


def _keep_only_scale(table: dict[str, Any]) -> None:
    """Another component has other options; a loss's scale belongs to the sum."""
    for key in [key for key in table if key != "scale"]:
        del table[key]


class Written(str):
    """A value as a command line has it, still to be read: 2012 may be a number or, as of ``dataset.year``, a text."""

    def read(self, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """As TOML, unless text alone fits; a list may be one of texts."""
        value = read_value(self)
        found = [value]
        if isinstance(value, list) and all(type(each) in (int, str) for each in value):
            found.append([str(each) for each in value])
        return next((each for each in [*found, str(self)] if fits(each)), value)

    def beside(self, before: Any) -> str:
        """Itself; where the config has a text, a text too, whatever else could be read from it."""
        text = isinstance(before, str) and not isinstance(before, Written)  # an earlier override is no text yet
        return str(self) if text and not isinstance(read_value(self), str | list | dict) else self


_NOTHING = object()


def _split(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    return path.strip(), Written(value.strip()) if equals else _NOTHING


def _step(place: Any, key: str, tables_only: bool) -> Any:
    """The table under a key; in a list of tables a number or a component's name. What is missing is made."""
    if isinstance(place, list):
        if key.isdigit():
            if int(key) == len(place):  # one more, as in loss.1.name=dice
                place.append({})
            return place[int(key)] if int(key) < len(place) else None
        found = [place[number] for number in _named(place, key)]
        return found[0] if len(found) == 1 else found or None
    if not isinstance(place, dict):
        return None
    return place.setdefault(key, {} if tables_only else [])


def _named(rows: Sequence[Any], name: str) -> list[int]:
    """The places of the components with this name, which may stand there with its plugin's."""
    names = [str(row.get("name")) if isinstance(row, dict) else "" for row in rows]
    return [place for place, each in enumerate(names) if name in (each, each.rpartition("/")[2])]


def read_options(component: Component, options: Mapping[str, object]) -> dict[str, object]:
    """The options with what a command line has :class:`Written` read as their types want it."""
    if not any(isinstance(value, Written) for value in options.values()):
        return dict(options)
    try:
        known = {option.name: option for option in describe(component).options}
    except SegkitError:  # told by check_options
        known = {}

    def fits(name: str, value: object) -> bool:
        if name not in known:
            return True
        read, problems = checked(component, known[name], value)
        return not problems and isinstance(read, str) <= isinstance(value, str)  # 2012 is not yet the word

    return {
        name: value.read(partial(fits, name)) if isinstance(value, Written) else value
        for name, value in options.items()
    }


def read_value(text: str) -> Any:
    """TOML where it is TOML, else text; no option is a date, and a folder may be called as one."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        return str(text) if isinstance(value, date | time) else value
    except tomllib.TOMLDecodeError:  # a path of Windows in double quotes is no TOML: its backslashes are no escapes
        return str(text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text)
