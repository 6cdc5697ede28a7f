"""The options of a component and the keys of a table: read from a signature, checked, and passed to the constructor.

The signature is the schema: the constructor gives names, type hints and defaults. Reading it imports the component.
"""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Required,  # pydantic needs this one before Python 3.12
    Union,
    get_args,
    get_origin,
)

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypedDict

from segkit.errors import ConfigError, PluginError, SegkitError, cause, did_you_mean
from segkit.registry import Component
from segkit.settings import FORMULAS, Settings

BACKSLASH = "in double quotes a backslash starts an escape: write a path in single quotes, 'C:\\data', or with /"
_GIVEN = {
    "dataset": ("split",),
    "optimizer": ("model", "settings"),
    "check": ("settings",),
    "reader": ("path",),
    "table": (),
}
_GIVEN_BY_THE_DATASET = ("num_classes", "ignore_index", "classes", "in_channels")
SCALE = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of a loss in the sum
_USUAL_NAMES = {**vars(typing), **vars(collections.abc), "Path": Path}  # modules may import these under TYPE_CHECKING


@dataclass(frozen=True)
class Option:
    """A parameter of a component, or a key of a table.

    Attributes:
        hint: its type; the source text if it cannot be evaluated; Any if there is none.
        default: the default value, of an enum's member its name; None also if the option is required.
        given: whether segkit provides the value, so that a config may not set it.
        required: whether it has no default.
    """

    name: str
    hint: Any
    default: object
    given: bool
    required: bool


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return _GIVEN.get(kind, _GIVEN_BY_THE_DATASET)


def options_of(owner: Component | type[Settings]) -> list[Option]:
    """The parameters of a component, without reserved names; or the keys of a table.

    Raises:
        PluginError: the component cannot be imported, or has no signature.
    """
    kind, target = (owner.kind, owner.load()) if isinstance(owner, Component) else ("table", owner)
    reserved = ("name", "scale") if kind == "loss" else ("name",)  # keys of its table that are not options
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner} has no readable signature: {cause(error)}") from error
    return [
        Option(
            name=each.name,
            hint=_hint(each, function),
            default=_default(each),
            given=each.name in given_names(kind),
            required=each.default is each.empty,
        )
        for each in parameters
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.name not in reserved
    ]


def read_options(
    owner: Component | type[Settings], values: Mapping[str, object], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Check the values of a table, whose path is ``where``; return them as a config holds them, and all problems.

    pydantic's strict rules for JSON apply, which suit TOML too: a list may become a tuple. TOML has no None, so the
    text "none" is None where the type allows it; a whole number is a text where the type allows only the text.
    """
    try:
        options = options_of(owner)
    except SegkitError as error:
        return dict(values), [f"{where}: {error}"]
    kind, name = (owner.kind, owner.name) if isinstance(owner, Component) else ("table", f"[{where}]")
    hints = {each.name: each.hint for each in options if not each.given} | ({"scale": SCALE} if kind == "loss" else {})
    read, problems = {}, []
    for key, value in values.items():
        try:
            read[key] = from_json(to_json(value, inf_nan_mode="constants"))  # as a file would hold it
        except PydanticSerializationError as error:
            problems.append(f"{where}.{key} = {value!r:.60}: TOML has no such value ({error})")
        # "C:\new" holds a line break, and no file name holds "\0"; a text of white space alone may be a separator
        if isinstance(value, str) and value.strip() and (found := re.search(r"[\0-\x1f]", value)):
            problems.append(f"{where}.{key} = {value!r:.60}: holds the control character {found[0]!r}; {BACKSLASH}")
        if value == "none" and NoneType in get_args(hints.get(key)) and "none" not in words_of(hints[key]):
            read[key] = None
    table = _table(owner, owner.load() if isinstance(owner, Component) else owner)
    refused = _refused(table, read)
    texts = {key: _text(read[key]) for key in refused.keys() & read.keys()}
    still_refused = _refused(table, read | texts)
    for key, errors in refused.items():
        if not key:
            problems.append(f"{where}: {_describe(errors)}")
        elif key in texts and key not in still_refused:
            read[key] = texts[key]
        elif key in texts and key in hints:
            close = did_you_mean(read[key], words_of(hints[key]))
            problems.append(f"{where}.{key} = {read[key]!r:.60}: {_describe(errors)}{close}")
        elif key in hints:
            problems += [] if key in values else [f"{where}.{key} is needed; `show {kind} {name}` describes it"]
        elif key in given_names(kind):
            problems.append(f"{where}.{key} is given by segkit and cannot be set; remove it")
        else:
            close = did_you_mean(key, hints) or f"; there are {', '.join(hints) or 'none'}"
            problems.append(f"{where}.{key}: {name} has no such key{close}")
    return read, problems


def create(component: Component, options: Mapping[str, object], given: Mapping[str, object]) -> Any:
    """Build a component from its options and those given values that its constructor has as parameters.

    Raises:
        ConfigError: an option is invalid, or the constructor refuses the options.
        PluginError: the component cannot be imported.
    """
    where = f"{component.kind} '{component.name}'"
    target = component.load()
    read, problems = read_options(component, options, component.name)
    if problems:
        raise ConfigError(problems)
    known = options_of(component)
    arguments = {each.name: given[each.name] for each in known if each.name in given}
    arguments |= _table(component, target).validate_json(to_json(read, inf_nan_mode="constants"))
    try:
        return target(**arguments)
    except ConfigError as error:
        raise ConfigError(error.problems, error.where or where) from error
    except SegkitError:
        raise
    except Exception as error:
        given_options = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise ConfigError(f"{component} refuses {given_options}: {cause(error)}") from error


def without_pretrained(component: Component, options: Mapping[str, object]) -> dict[str, object]:
    """The options of a model without pretrained weights, which need no download where a checkpoint replaces them.

    By convention, options whose names begin with ``weights`` choose them, such as torchvision's ``weights_backbone``.
    """
    pretrained = [option for option in options_of(component) if option.name.startswith("weights")]
    none = {option.name: None for option in pretrained if NoneType in get_args(option.hint)}
    return {name: value for name, value in options.items() if not name.startswith("weights")} | none


def words_of(hint: Any) -> list[str]:
    """The literal words that a type allows: a, b, true and false for ``Literal["a", "b"] | bool``."""
    if hint is bool:
        return ["true", "false"]
    parts = get_args(hint)
    return (
        [str(word) for word in parts] if get_origin(hint) is Literal else [w for part in parts for w in words_of(part)]
    )


@functools.cache  # building it takes milliseconds, and init asks some twenty times; a module read anew has a new target
def _table(owner: Component | type[Settings], target: Any) -> TypeAdapter[Any]:
    """What checks and converts the values of a table; a type that pydantic does not know is left to the constructor."""
    if not isinstance(owner, Component):
        return TypeAdapter(owner)
    fields = {
        each.name: Required[_known(each.hint)] if each.required else _known(each.hint)
        for each in options_of(owner)
        if not each.given
    } | ({"scale": SCALE} if owner.kind == "loss" else {})
    table = TypedDict(owner.name, fields, total=False)  # type: ignore[misc]
    return TypeAdapter(with_config(ConfigDict(extra="forbid", strict=True))(table))


def _known(hint: Any) -> Any:
    with contextlib.suppress(ValidationError):
        try:
            TypeAdapter(hint).validate_json("null")
        except (PydanticUserError, PydanticUndefinedAnnotation):
            return Any
    return hint


def _refused(table: TypeAdapter[Any], values: Mapping[str, object]) -> dict[str, list[Any]]:
    """pydantic's errors by key, those of the whole table by ""."""
    errors: dict[str, list[Any]] = {}
    try:
        table.validate_json(to_json(values, inf_nan_mode="constants"))
    except ValidationError as error:
        for each in error.errors():
            errors.setdefault(str(each["loc"][0]) if each["loc"] else "", []).append(each)
    return errors


def _text(value: Any) -> Any:
    """A value with texts in place of whole numbers."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    return str(value) if type(value) is int else value


def _describe(errors: Sequence[Any]) -> str:
    """pydantic's errors for one value as one line; for a union there is an error for each branch."""
    messages = dict.fromkeys(each["msg"].removeprefix("Input ").removeprefix("Value error, ") for each in errors)
    return ", or ".join(messages).replace("valid array", "valid list")  # as TOML calls it


def _hint(parameter: inspect.Parameter, function: Any) -> Any:
    """A parameter's type; enums become the names of their members, and class weights also accept formulas."""
    hint = Any if parameter.annotation is parameter.empty else parameter.annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, {**_USUAL_NAMES, **function.__globals__})
        except Exception:  # a name that is imported under TYPE_CHECKING only
            return hint
    return Union[FORMULAS, hint] if parameter.name == "class_weights" else _readable(hint)  # noqa: UP007


def _default(parameter: inspect.Parameter) -> object:
    value = None if parameter.default is parameter.empty else parameter.default
    return value.name if isinstance(value, Enum) else value


def _readable(hint: Any) -> Any:
    """The type with an enum as the names of its members, and Iterable, which pydantic reads once, as Sequence."""
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(map(_readable, get_args(hint)))]  # noqa: UP007
    if get_origin(hint) is collections.abc.Iterable:
        return Sequence[get_args(hint)]  # type: ignore[misc]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return Annotated[Literal[tuple(hint.__members__)], AfterValidator(hint.__getitem__)]
    return hint
