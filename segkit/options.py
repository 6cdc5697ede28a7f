"""A component's options: read from its constructor's signature, checked against its type hints, turned into an object.

The signature is the schema: names, type hints and defaults are those of the constructor, the texts those of its
docstring's section ``Args:``. The component is imported for that; its first sentence alone is read from its source, by
:func:`summary_of`, so that ``list`` imports no torch.
"""

from __future__ import annotations

import ast
import collections.abc
import contextlib
import inspect
import re
import textwrap
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from segkit.errors import ConfigError, PluginError, SegkitError, cause, did_you_mean
from segkit.registry import Component

MISSING = inspect.Parameter.empty  # the default of a required option
FORMULAS = ("median_frequency", "sqrt_median_frequency", "inverse", "effective_number")  # of class_weights
_GIVEN = {
    "dataset": ("split",),
    "optimizer": ("model", "settings"),
    "check": ("settings", "augment"),
    "reader": ("path",),
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
_USUAL_NAMES = {**vars(typing), **vars(collections.abc), "Path": Path}  # which a module may import for type checkers


@dataclass(frozen=True)
class Option:
    """A parameter of a component.

    Attributes:
        annotation: its type hint as it is written; empty where there is none.
        hint: the same as a type; Any where it cannot be evaluated.
        default: MISSING where a config has to give it.
        text: from the docstring.
        given: whether segkit provides it, so that a config cannot.
    """

    name: str
    annotation: str
    hint: Any
    default: object
    text: str
    given: bool


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return _GIVEN.get(kind, _GIVEN_BY_THE_DATASET)


def reserved_names(kind: str) -> tuple[str, ...]:
    """The keys of a component's table that are not its options."""
    return ("name", "scale") if kind == "loss" else ("name",)


def options_of(component: Component) -> list[Option]:
    """The parameters of a component, but for those whose names are other keys of its table.

    Raises:
        PluginError: it cannot be imported, or has no signature.
    """
    target = component.load()
    function = inspect.unwrap(target.__init__) if inspect.isclass(target) else inspect.unwrap(target)
    try:
        parameters = () if component.kind == "observer" else inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"{component} does not say what options it has: {cause(error)}") from error
    documented = [target]
    if inspect.isclass(target):
        documented += [thing for cls in target.__mro__[:-1] for thing in (vars(cls).get("__init__"), cls)]
    texts: dict[str, str] = {}
    for thing in reversed(documented):  # the class's own words win over those of its bases
        texts |= _argument_texts(_docstring(thing))
    left_out = reserved_names(component.kind)
    return [
        Option(
            name=parameter.name,
            annotation=written_hint(parameter.annotation),
            hint=_hint(parameter, function),
            default=parameter.default,
            text=texts.get(parameter.name, ""),
            given=parameter.name in given_names(component.kind),
        )
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and parameter.name not in left_out
    ]


def read_options(
    component: Component, options: Mapping[str, object], where: str
) -> tuple[dict[str, object], list[str]]:
    """The options as :func:`read_value` reads them, and all that is wrong with them."""
    read: dict[str, object] = {name: read_value(value) for name, value in options.items()}
    try:
        known = {option.name: option for option in options_of(component)}
    except SegkitError as error:
        return read, [f"{where}: {error}"]
    settable = [option.name for option in known.values() if not option.given]
    problems = []
    for name, value in options.items():
        if name in given_names(component.kind):
            giver = "segkit itself" if component.kind == "dataset" else "the dataset"
            problems.append(f"'{name}' is given by {giver} and cannot be set; remove it")
        elif name not in known:
            keys = [*settable, *(each for each in reserved_names(component.kind) if each != "name")]  # scale, of a loss
            have = f"Its options: {', '.join(keys)}." if keys else "It has none."
            problems.append(f"{component.name} has no option '{name}'{did_you_mean(name, keys) or '.'} {have}")
        else:
            read[name] = read_value(value, known[name].hint)
            problems += converted(known[name], read[name])[1]
    for name in settable:
        if known[name].default is MISSING and name not in options:
            kind = f" ({known[name].annotation})" if known[name].annotation else ""
            problems.append(f"{component.name} needs '{name}'{kind}: {known[name].text}".removesuffix(": "))
    return read, [f"{where}: {problem}" for problem in problems]


def create(component: Component, options: Mapping[str, object], given: Mapping[str, object]) -> Any:
    """Build a component from its options and those given values that its constructor asks for.

    Raises:
        ConfigError: an option does not fit, or the constructor refuses them.
        PluginError: the component cannot be imported, or is not what its kind promises.
    """
    where = f"{component.kind} '{component.name}'"
    target = component.load()
    read, problems = read_options(component, options, where)
    if problems:
        raise ConfigError(problems)
    known = {option.name: option for option in options_of(component)}
    arguments = {name: value for name, value in given.items() if name in known}
    arguments |= {name: converted(known[name], value)[0] for name, value in read.items()}
    try:
        built = target(**arguments)
    except ConfigError as error:
        raise ConfigError(error.problems, error.where or where) from error
    except (SegkitError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever somebody else's constructor may raise; if it exits, nothing was trained
        given_options = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise ConfigError(f"{component} refuses {given_options}: {cause(error)}") from error
    lacking = [name for name in _PROMISED.get(component.kind, ()) if not hasattr(built, name)]
    if lacking:
        raise PluginError(f"{component} is no {component.kind}: what it builds has no {', no '.join(lacking)}")
    return built


def without_pretrained(component: Component, options: Mapping[str, object]) -> dict[str, object]:
    """The options of a model whose weights a checkpoint replaces at once: nothing is to be fetched.

    Pretrained are ``weights``, by convention, and what begins so, as torchvision's ``weights_backbone``.
    """
    pretrained = [option for option in options_of(component) if option.name.startswith("weights")]
    none = {option.name: None for option in pretrained if NoneType in get_args(option.hint)}
    return {name: value for name, value in options.items() if not name.startswith("weights")} | none


class Written(str):
    """A value as a command line has it: 2012 may be a number or a text, which depends on its option."""


def read_value(value: object, hint: Any = Any) -> Any:
    """A value of a config for an option of this type.

    TOML has no None: the text "none" is None where the type allows it. What is :class:`Written` on a command line is
    TOML, or else the text as it stands: the first of these that the type allows.
    """
    for each in _readings(value) if isinstance(value, Written) else [value]:
        if each == "none" and NoneType in get_args(hint) and "none" not in words_of(hint):
            return None
        with contextlib.suppress(Exception):
            validated(hint, each)
            return each
    return next(_readings(value)) if isinstance(value, Written) else value


def _readings(written: Written) -> Iterator[Any]:
    """What a text may mean, as TOML first."""
    try:
        read = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:  # a path of Windows in double quotes is no TOML: its backslashes are no escapes
        read = str(written[1:-1] if len(written) > 1 and written[0] == written[-1] == '"' else written)
    if not isinstance(read, date | time):  # no option is a date, and a folder may be called as one
        yield read
    if isinstance(read, list):
        yield [str(each) for each in read]
    yield str(written)


def validated(hint: Any, value: object) -> Any:
    """A value as a type has it, by the rules for JSON, which suit TOML too: strict, but a list may become a tuple.

    Raises:
        ValueError: it is of another type.
        pydantic.PydanticUserError: the type is none that pydantic knows.
    """
    import pydantic  # takes a while, and `list` needs none
    import pydantic_core

    if isinstance(value, date | time):  # which JSON would write as another text than the file has
        raise ValueError("no option is a date")
    for kind in (hint, *get_args(hint)):
        if inspect.isclass(kind) and issubclass(kind, Enum) and value in kind.__members__:
            return kind[str(value)]
    text = pydantic_core.to_json(value, inf_nan_mode="constants")
    read = pydantic.TypeAdapter(hint).validate_json(text, strict=True)
    return list(read) if isinstance(read, collections.abc.Iterator) else read  # pydantic checks these as they are read


def converted(option: Option, value: object) -> tuple[Any, list[str]]:
    """A value as the option's type has it (a list as a tuple, text as a path), and what is wrong with it."""
    import pydantic
    import pydantic_core

    formulas = FORMULAS if option.name == "class_weights" else ()
    if isinstance(value, str) and value in formulas:
        return value, []
    words = [*words_of(option.hint), *formulas]
    if type(value) is int and str(value) in words:  # year = 2012, of '2007' or '2012'
        return str(value), []
    try:
        return validated(option.hint, value), []
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation, pydantic_core.PydanticSerializationError):
        return value, []  # a type of the component's own, or an object that no file can hold: its constructor knows
    except ValueError:
        close = did_you_mean(str(value), words)
        if isinstance(value, int | float | date | time):
            with contextlib.suppress(ValueError):
                validated(option.hint, str(value))
                close = f'; write it in quotes, "{value}"'
        shown = textwrap.shorten(repr(value), 60)
        # Literal['a', 'b'] | None is 'a' or 'b' or "none"
        allowed = re.sub(r"\bLiteral\[([^]]*)\]", lambda match: match[1].replace(", ", " or "), option.annotation)
        allowed = re.sub(r"\bNone\b", '"none"', allowed).replace(" | ", " or ")
        return value, [f"'{option.name}' must be {' or '.join([allowed, *map(repr, formulas)])}, not {shown}{close}"]


def words_of(hint: Any) -> list[str]:
    """The words among what a type allows: those of ``Literal["a", "b"] | bool`` are a, b, true and false."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return list(hint.__members__)
    return [word for part in get_args(hint) for word in words_of(part)]


def summary_of(component: Component) -> str:
    """The first sentence of a component's docstring, or nothing; imported only where its source does not show it."""
    module, _, name = component.place.partition(":")
    with contextlib.suppress(Exception):
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin).read_bytes() if spec and spec.origin else "")
        defined = [each for each in tree.body if isinstance(each, ast.ClassDef | ast.FunctionDef) and each.name == name]
        nodes = defined if name else [tree]
        return first_sentence((ast.get_docstring(nodes[-1]) if nodes else _docstring(component.load())) or "")
    return ""


def text_of(component: Component) -> str:
    """The docstring of a component without its section ``Args:``."""
    return _SECTION.sub("", _docstring(component.load())).strip()


def _docstring(thing: object) -> str:
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def written_hint(hint: Any) -> str:
    """A type hint as it is written, without what pydantic adds to it; empty where there is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return written_hint(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(written_hint, arguments))
    if origin is list:
        return f"list[{written_hint(arguments[0])}]"
    names = {inspect.Parameter.empty: "", NoneType: "None"}
    return hint if isinstance(hint, str) else names[hint] if hint in names else inspect.formatannotation(hint)


def _hint(parameter: inspect.Parameter, function: Any) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, {**_USUAL_NAMES, **function.__globals__})
    except Exception:  # a name that is there for type checkers alone
        return Any


def first_sentence(docstring: str) -> str:
    """What stands before the first full stop, but for that of an abbreviation."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z])|\.$", paragraph)[0]


def _argument_texts(docstring: str) -> dict[str, str]:
    """The text of each entry of a docstring's ``Args:`` section."""
    section = _SECTION.search(docstring)
    entries = _ENTRY.findall(textwrap.dedent(section[1])) if section else ()
    return {name: " ".join(text.split()) for name, text in entries}
