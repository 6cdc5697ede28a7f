"""One option of a component: its value checked against its type hint, and made what the hint says."""

from __future__ import annotations

import builtins
import collections.abc
import inspect
import pathlib
import re
import textwrap
import typing
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Literal, get_args, get_origin

from segkit.errors import did_you_mean
from segkit.registry import Component

CLASS_WEIGHT_FORMULAS = ("median_frequency", "sqrt_median_frequency", "inverse", "effective_number")
_TYPING = {**vars(typing), **vars(collections.abc), **vars(builtins), "Path": pathlib.Path, "pathlib": pathlib}
_TYPING["Iterable"] = list  # pydantic's own iterable is unchecked and can be read once


@dataclass(frozen=True)
class Option:
    """A parameter of a component: ``given`` ones come from the dataset, all others from the config.

    A ``reserved`` one cannot be set: its name means something else in a config.
    """

    name: str
    annotation: str
    default: object
    text: str
    given: bool
    reserved: bool = False


def checked(component: Component, option: Option, value: object) -> tuple[Any, list[str]]:
    """A value as the option's type has it (a list as a tuple, text as a path), and what is wrong with it."""
    import pydantic
    import pydantic_core

    formulas = CLASS_WEIGHT_FORMULAS if option.name == "class_weights" else ()
    expected = _type(component, option)
    if expected is Any or (isinstance(value, str) and value in formulas):
        return value, []
    try:
        return _read(expected, value), []
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation, pydantic_core.PydanticSerializationError):
        return value, []  # a type of the component's own, or an object that no file can hold: its constructor knows
    except ValueError:
        words = [word for word in _literals(expected) if type(value) is int and word == str(value)]
        if words:  # year = 2012, of '2007' or '2012'
            return words[0], []
        allowed = " or ".join([_words(option.annotation), *map(repr, formulas)])
        close = did_you_mean(str(value), [*_literals(expected), *formulas])
        if isinstance(value, int | float | date | time):
            with suppress(ValueError):
                _read(expected, str(value))
                close = f'; write it in quotes, "{value}"'
        return value, [f"'{option.name}' must be {allowed}, not {textwrap.shorten(repr(value), 60)}{close}"]


def _read(expected: Any, value: object) -> Any:
    """The value as a type has it, by the rules for JSON, which suit TOML too: strict, but a list may become a tuple.

    Raises:
        ValueError: it is of another type.
    """
    import pydantic
    import pydantic_core

    if isinstance(value, date | time):  # which JSON would write as another text than the file has
        raise ValueError("no option is a date")
    written = pydantic_core.to_json(value, inf_nan_mode="constants")
    read = pydantic.TypeAdapter(expected).validate_json(written, strict=True)
    return list(read) if isinstance(read, collections.abc.Iterator) else read


def _type(component: Component, option: Option) -> Any:
    """The type that an option's annotation means; ``Any`` where nobody can tell."""
    try:
        return eval(option.annotation or "Any", dict(_TYPING))
    except Exception:  # a name of the component's own module; others there may be unknown to everybody
        try:
            target = component.load()
            function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
            hint = function.__annotations__[option.name]
            return eval(hint, {**_TYPING, **function.__globals__}) if isinstance(hint, str) else hint
        except Exception:
            return Any


def _literals(expected: Any) -> list[str]:
    """The words among what a type allows: those of ``Literal["a", "b"] | int`` are a and b."""
    if get_origin(expected) is Literal:
        return [str(word) for word in get_args(expected)]
    return [word for part in get_args(expected) for word in _literals(part)]


def _words(annotation: str) -> str:
    """An annotation as a message has it: ``Literal['a', 'b'] | None`` is ``'a' or 'b'``, for a file has no None."""
    listed = re.sub(r"\bLiteral\[([^]]*)\]", lambda match: match[1].replace(", ", " or "), annotation)
    return listed.removesuffix(" | None").removeprefix("None | ").replace(" | ", " or ")
