"""The options of a component and the keys of a table: read from a signature, checked, and passed to the constructor.

The signature is the schema: the constructor gives names, type hints and defaults, and the section ``Args:`` of the
docstring gives the descriptions. Reading them imports the component.
"""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import re
import textwrap
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from segkit.errors import ConfigError, PluginError, SegkitError, cause, did_you_mean
from segkit.registry import Component
from segkit.settings import FORMULAS, Settings

BACKSLASH = "in double quotes a backslash starts an escape: write a path in single quotes, 'C:\\data', or with /"
_GIVEN = {
    "dataset": ("split",),
    "optimizer": ("model", "settings"),
    "check": ("settings", "augment"),
    "reader": ("path",),
    "table": (),
}
_GIVEN_BY_THE_DATASET = ("num_classes", "ignore_index", "classes", "in_channels")
_PROMISED = {
    "model": ("forward", "parameters"),
    "loss": ("__call__",),
    "dataset": ("classes", "palette", "ignore_index", "__len__", "__getitem__"),
    "metric": ("update", "compute", "reset"),
    "transform": ("__call__",),
    "check": ("measure", "judge"),
}
_SECTION = re.compile(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+)(?: \([^)]*\))?:(.*(?:\n[ \t].*)*)", re.MULTILINE)
_NOT_KNOWN = (PydanticUserError, PydanticUndefinedAnnotation, PydanticSerializationError)
_USUAL_NAMES = {**vars(typing), **vars(collections.abc), "Path": Path}  # modules may import these under TYPE_CHECKING


@dataclass(frozen=True)
class Option:
    """A parameter of a component, or a key of a table.

    Attributes:
        hint: its type; the source text if it cannot be evaluated; Any if there is none.
        default: the default value; None also if the option is required.
        text: its description in the docstring.
        given: whether segkit provides the value, so that a config may not set it.
        required: whether it has no default.
    """

    name: str
    hint: Any
    default: object
    text: str
    given: bool
    required: bool

    @property
    def type(self) -> str:
        """Its type in Python syntax, such as ``Literal['a', 'b'] | None``; "" if any value is accepted."""
        return "" if self.hint is Any else _type_text(self.hint)

    def record(self) -> dict[str, Any]:
        """The option as ``show --json`` prints it."""
        record = {"name": self.name, "type": self.type, "default": self.default, "text": self.text}
        return {**record, "required": self.required and not self.given, "given": self.given}

    @property
    def words(self) -> list[str]:
        """The literal words that its type allows."""
        return _words(self.hint)


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return _GIVEN.get(kind, _GIVEN_BY_THE_DATASET)


def reserved_names(kind: str) -> tuple[str, ...]:
    """The keys of a component's table that are not its options."""
    return ("name", "scale") if kind == "loss" else ("name",)


def options_of(owner: Component | type[Settings]) -> list[Option]:
    """The parameters of a component, without reserved names; or the keys of a table.

    Raises:
        PluginError: the component cannot be imported, or has no signature.
    """
    kind, target = (owner.kind, owner.load()) if isinstance(owner, Component) else ("table", owner)
    function = inspect.unwrap(target.__init__) if inspect.isclass(target) else inspect.unwrap(target)
    try:
        parameters = () if kind == "observer" else inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner} has no readable signature: {cause(error)}") from error
    classes = target.__mro__[:-1] if inspect.isclass(target) else ()
    texts: dict[str, str] = {}
    for each in [target, *(thing for cls in classes for thing in (cls, vars(cls).get("__init__")))][::-1]:
        docstring = getattr(each, "__doc__", None)  # the docstring of a class takes precedence over those of its bases
        section = _SECTION.search(inspect.cleandoc(docstring)) if isinstance(docstring, str) else None
        entries = _ENTRY.findall(textwrap.dedent(section[1])) if section else ()
        texts |= {name: " ".join(text.split()) for name, text in entries}
    return [
        Option(
            name=each.name,
            hint=_hint(each, function),
            default=_default(each),
            text=texts.get(each.name, ""),
            given=each.name in given_names(kind),
            required=each.default is each.empty,
        )
        for each in parameters
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.name not in reserved_names(kind)
    ]


def read_options(
    owner: Component | type[Settings], values: Mapping[str, object], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Check the values of a table with :func:`read_value`; return them, and all problems."""
    try:
        known = {option.name: option for option in options_of(owner)}
    except SegkitError as error:
        return dict(values), [f"{where}: {error}"]
    name, kind = (owner.name, owner.kind) if isinstance(owner, Component) else (f"[{where}]", "table")
    read, problems = dict(values), []
    for key, value in values.items():
        try:
            if key in known and not known[key].given:
                read[key] = read_value(value, known[key].hint)[0]
            elif key in given_names(kind):
                giver = "segkit itself" if kind == "dataset" else "the dataset"
                problems.append(f"{where}.{key} is given by {giver} and cannot be set; remove it")
            else:
                keys = [each for each, option in known.items() if not option.given]
                keys += [each for each in reserved_names(kind) if each != "name"]  # scale, of a loss
                close = did_you_mean(key, keys) or f"; there are {', '.join(keys) or 'none'}"
                if key == "plugins":
                    close = "; plugins = [...] belongs at the top of the file, above the tables"
                problems.append(f"{where}.{key}: {name} has no such key{close}")
        except ValueError as error:
            problems.append(f"{where}.{key} = {error}")
    for option in known.values():
        if option.required and not option.given and option.name not in values:
            kind = f" ({option.type})" if option.type else ""
            problems.append(f"{where}.{option.name}{kind} is needed: {option.text}".removesuffix(": "))
    return read, problems


def create(component: Component, options: Mapping[str, object], given: Mapping[str, object]) -> Any:
    """Build a component from its options and those given values that its constructor has as parameters.

    Raises:
        ConfigError: an option is invalid, or the constructor refuses the options.
        PluginError: the component cannot be imported, or lacks a member that its kind requires.
    """
    where = f"{component.kind} '{component.name}'"
    target = component.load()
    read, problems = read_options(component, options, component.name)
    if problems:
        raise ConfigError(problems)
    known = {option.name: option for option in options_of(component)}
    arguments = {name: value for name, value in given.items() if name in known}
    arguments |= {name: read_value(value, known[name].hint)[1] for name, value in read.items()}
    try:
        built = target(**arguments)
    except ConfigError as error:
        raise ConfigError(error.problems, error.where or where) from error
    except (SegkitError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plugin's constructor may raise anything, even SystemExit
        given_options = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise ConfigError(f"{component} refuses {given_options}: {cause(error)}") from error
    lacking = [name for name in _PROMISED.get(component.kind, ()) if not hasattr(built, name)]
    if lacking:
        raise PluginError(f"{component} is not a {component.kind}: the object it builds has no {', no '.join(lacking)}")
    return built


def without_pretrained(component: Component, options: Mapping[str, object]) -> dict[str, object]:
    """The options of a model without pretrained weights, which need no download where a checkpoint replaces them.

    By convention, options whose names begin with ``weights`` choose them, such as torchvision's ``weights_backbone``.
    """
    pretrained = [option for option in options_of(component) if option.name.startswith("weights")]
    none = {option.name: None for option in pretrained if NoneType in get_args(option.hint)}
    return {name: value for name, value in options.items() if not name.startswith("weights")} | none


class UnparsedValue(str):
    """A value from the command line: whether 2012 is a number or a text depends on the option's type."""


def read_value(value: object, hint: Any = Any) -> tuple[Any, Any]:
    """Check a value against a type; return it as a config holds it, and converted: a list to a tuple, a text to a path.

    pydantic's strict rules for JSON apply, which suit TOML too: a list may become a tuple. TOML has no None, so the
    text "none" is None where the type allows it. An :class:`UnparsedValue` is read as TOML, or else as the plain text:
    the first of these that the type allows.

    Raises:
        ValueError: the type does not allow the value; the message quotes the value and what is allowed.
    """
    for each in value if isinstance(value, list) else [value]:
        # "C:\new" holds a line break, and no file name holds "\0"; a text of white space alone may be a separator
        if isinstance(each, str) and each.strip() and (found := re.search(r"[\0-\x1f]", each)):
            raise ValueError(f"{each!r}: holds the control character {found[0]!r}; {BACKSLASH}")
        if isinstance(each, date | time):  # no option is a date; a folder named like one needs quotes
            raise ValueError(f'{each}: is a date; write it in quotes, "{each}"')
    words, readings = _words(hint), [value]
    if isinstance(value, UnparsedValue):
        readings = _readings(value)
    elif type(value) is int and str(value) in words:  # year = 2012, of '2007' or '2012'
        readings = [value, str(value)]
    errors = []
    for each in readings:
        if each == "none" and NoneType in get_args(hint) and "none" not in words:
            return None, None
        try:
            read = TypeAdapter(hint).validate_json(to_json(each, inf_nan_mode="constants"), strict=True)
            # pydantic checks an iterable's elements as they are read
            return each, list(read) if isinstance(read, collections.abc.Iterator) else read
        except _NOT_KNOWN:  # a class of the component, or an object that no file can hold: the constructor checks it
            return each, each
        except ValidationError as error:
            errors.append(error)
    close = did_you_mean(str(readings[0]), words)
    if type(value) in (int, float):
        with contextlib.suppress(ValueError):
            read_value(str(value), hint)
            close = f'; write it in quotes, "{value}"'
    raise ValueError(f"{readings[0]!r:.60}: {describe_errors(errors[0].errors())}{close}")


def describe_errors(errors: Sequence[Any]) -> str:
    """pydantic's errors for one value as one line; for a union there is an error for each branch."""
    messages = dict.fromkeys(each["msg"].removeprefix("Input ").removeprefix("Value error, ") for each in errors)
    return ", or ".join(messages).replace("valid array", "valid list")  # as TOML calls it


def _readings(text: UnparsedValue) -> list[Any]:
    """All values that a text may stand for, its value as TOML first."""
    try:
        read = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # a Windows path in double quotes: its backslashes are not TOML escapes
        read = str(text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text)
    texts = [[str(each) for each in read], str(text)] if isinstance(read, list) else [str(text)]
    return texts if isinstance(read, date | time) else [read, *texts]  # a folder may be named like a date


def _words(hint: Any) -> list[str]:
    """The literal words that a type allows: a, b, true and false for ``Literal["a", "b"] | bool``."""
    if hint is bool:
        return ["true", "false"]
    parts = get_args(hint)
    return [str(word) for word in parts] if get_origin(hint) is Literal else [w for part in parts for w in _words(part)]


def _type_text(hint: Any) -> str:
    """A type in Python syntax, without pydantic's annotations."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type_text(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_type_text, parts))
    if origin is list:
        return f"list[{_type_text(parts[0])}]"
    text = hint if isinstance(hint, str) else "None" if hint is NoneType else inspect.formatannotation(hint)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def _hint(parameter: inspect.Parameter, function: Any) -> Any:
    """A parameter's type; enums become the names of their members, and class weights also accept formulas."""
    hint = Any if parameter.annotation is parameter.empty else parameter.annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, {**_USUAL_NAMES, **function.__globals__})
        except Exception:  # a name that is imported under TYPE_CHECKING only
            return hint
    return Union[FORMULAS, hint] if parameter.name == "class_weights" else _enum_names(hint)  # noqa: UP007


def _default(parameter: inspect.Parameter) -> object:
    """A parameter's default, with an enum's member as its name; None if there is no default."""
    value = None if parameter.default is parameter.empty else parameter.default
    return value.name if isinstance(value, Enum) else value


def _enum_names(hint: Any) -> Any:
    """The type with each enum replaced by the names of its members."""
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(map(_enum_names, get_args(hint)))]  # noqa: UP007
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return Annotated[Literal[tuple(hint.__members__)], AfterValidator(hint.__getitem__)]
    return hint
