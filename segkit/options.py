"""A component's options: read from its constructor's signature, checked against its type hints, turned into an object.

The signature is the schema: names, type hints and defaults are those of the constructor, the texts those of its
docstring's section ``Args:``. The component is imported for that. What ``list`` and ``--help`` print of every component
is read from its source by :func:`glance`, so that these import no torch.
"""

from __future__ import annotations

import ast
import collections.abc
import contextlib
import inspect
import math
import re
import sys
import textwrap
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from segkit.errors import ConfigError, PluginError, SegkitError, cause, did_you_mean
from segkit.registry import Component

MISSING = inspect.Parameter.empty  # the default of a required option
FORMULAS = ("median_frequency", "sqrt_median_frequency", "inverse", "effective_number")  # of class_weights
_GIVEN = {
    "dataset": ("split",),
    "optimizer": ("model", "settings"),
    "check": ("settings",),
}
_GIVEN_BY_THE_DATASET = ("num_classes", "ignore_index", "classes", "in_channels")
_PROMISED = {
    "model": ("forward", "parameters"),
    "loss": ("__call__",),
    "dataset": ("classes", "palette", "ignore_index", "__len__", "__getitem__"),
    "metric": ("update", "compute", "reset"),
    "check": ("measure", "judge"),
}
_SECTION = re.compile(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"(\w+)(?: \([^)]*\))?:\s*(.*)", re.DOTALL)
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


@dataclass(frozen=True)
class Description:
    """What a component says of itself: its first sentence, its docstring without ``Args:``, its options.

    ``settable`` are those that a config may set.
    """

    summary: str
    text: str
    options: tuple[Option, ...]
    settable: tuple[Option, ...]


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return _GIVEN.get(kind, _GIVEN_BY_THE_DATASET)


def reserved_names(kind: str) -> tuple[str, ...]:
    """The keys of a component's table that are not its options."""
    return ("name", "scale") if kind == "loss" else ("name",)


def describe(component: Component) -> Description:
    """What a component says of itself.

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
    options = [
        Option(
            name=parameter.name,
            annotation=_written(parameter.annotation),
            hint=_hint(parameter, function),
            default=parameter.default,
            text=texts.get(parameter.name, ""),
            given=parameter.name in given_names(component.kind),
        )
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    settable = [each for each in options if not each.given and each.name not in reserved_names(component.kind)]
    own = _docstring(target)
    return Description(_first_sentence(own), _SECTION.sub("", own).strip(), tuple(options), tuple(settable))


def read_options(
    component: Component, options: Mapping[str, object], where: str
) -> tuple[dict[str, object], list[str]]:
    """The options, what a command line has :class:`Written` read as their types want it; and all that is wrong."""
    read: dict[str, object] = {name: written(value) for name, value in options.items()}
    try:
        described = describe(component)
    except SegkitError as error:
        return read, [f"{where}: {error}"]
    known = {option.name: option for option in described.options}
    settable = [option.name for option in described.settable]
    problems = [
        f"the option '{name}' of {component} has to be renamed: in a config this name means something else"
        for name in known
        if name in reserved_names(component.kind)
    ]
    for name, value in options.items():
        if name in given_names(component.kind):
            giver = "segkit itself" if component.kind == "dataset" else "the dataset"
            which = " (3: pictures are read as RGB)" if name == "in_channels" else ""
            problems.append(f"'{name}' is given by {giver}{which} and cannot be set; remove it")
        elif name not in known:
            have = f"Its options: {', '.join(settable)}." if settable else "It has none."
            problems.append(f"{component.name} has no option '{name}'{did_you_mean(name, settable) or '.'} {have}")
        else:
            read[name] = written(value, known[name].hint)
            problems += converted(known[name], read[name])[1]
    missing = [option for option in described.settable if option.default is MISSING and option.name not in options]
    if component.kind == "loss" and "logits" in settable:
        problems.append(f"'{component.place}' is the loss itself; a class, or a function that returns it, is needed")
    elif missing:
        problems += [f"{component.name} needs {_wanted(option)}" for option in missing]
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
    known = {option.name: option for option in describe(component).options}
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


class Written(str):
    """A value as a command line has it: 2012 may be a number or a text, which depends on its option."""


def written(value: object, hint: Any = Any) -> Any:
    """A :class:`Written` value as TOML, unless its type wants a text, or a list of texts; any other value as it is."""
    if not isinstance(value, Written):
        return value
    try:
        read = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:  # a path of Windows in double quotes is no TOML: its backslashes are no escapes
        read = str(value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value)
    if isinstance(read, date | time):  # no option is a date, and a folder may be called as one
        return str(value)
    texts = [[str(each) for each in read]] if isinstance(read, list) else []
    for each in (read, *texts, str(value)):
        with contextlib.suppress(Exception):
            validated(hint, each)
            return each
    return read


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
    try:
        return validated(option.hint, value), []
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation, pydantic_core.PydanticSerializationError):
        return value, []  # a type of the component's own, or an object that no file can hold: its constructor knows
    except ValueError:
        words = [*words_of(option.hint), *formulas]
        if type(value) is int and str(value) in words:  # year = 2012, of '2007' or '2012'
            return str(value), []
        close = did_you_mean(str(value), words)
        if isinstance(value, int | float | date | time):
            with contextlib.suppress(ValueError):
                validated(option.hint, str(value))
                close = f'; write it in quotes, "{value}"'
        shown = textwrap.shorten(repr(value), 60)
        allowed = " or ".join([_in_words(option.annotation), *map(repr, formulas)])
        return value, [f"'{option.name}' must be {allowed}, not {shown}{close}"]


def words_of(hint: Any) -> list[str]:
    """The words among what a type allows: those of ``Literal["a", "b"] | bool`` are a, b, true and false."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return [word for part in get_args(hint) for word in words_of(part)]


def glance(component: Component) -> tuple[str, float]:
    """The first sentence of a component's docstring, and the number that a command's class gives as ``first``.

    Both are read from the source, and nothing is imported: "" and infinity where the source does not say.
    """
    module, _, name = component.place.partition(":")
    with contextlib.suppress(Exception):  # source that a program wrote, that is broken, or that lies in no file
        node = _definition(module, name)
        first = math.inf
        for item in node.body:
            if isinstance(item, ast.Assign) and ast.unparse(item).startswith("first = "):
                first = float(ast.literal_eval(item.value))
        return _first_sentence(ast.get_docstring(node) or ""), first
    return "", math.inf


def _definition(module: str, name: str) -> ast.Module | ast.ClassDef | ast.FunctionDef:
    """Where a name is defined: in a module, or in the one that it is imported from.

    Raises:
        LookupError: that is not plain to see.
    """
    spec: Any = None
    for part in accumulate(module.split("."), "{}.{}".format):  # as `import` finds it, but importing no parent of it
        path = spec and spec.submodule_search_locations
        spec = next(filter(None, (finder.find_spec(part, path) for finder in sys.meta_path)))
    tree = ast.parse(Path(spec.origin).read_bytes())
    for node in reversed(tree.body) if name else ():  # of two definitions the last one counts
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name and isinstance(node, ast.ImportFrom):
                package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
                return _definition(resolve_name("." * node.level + (node.module or ""), package), alias.name)
    if name:
        raise LookupError(name)
    return tree


def _docstring(thing: object) -> str:
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _written(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _hint(parameter: inspect.Parameter, function: Any) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, {**_USUAL_NAMES, **function.__globals__})
    except Exception:  # a name that is there for type checkers alone
        return Any


def _wanted(option: Option) -> str:
    kind = f" ({option.annotation})" if option.annotation else ""
    return f"'{option.name}'{kind}: {option.text}".rstrip(": ")


def _in_words(annotation: str) -> str:
    """An annotation as a message has it: ``Literal['a', 'b'] | None`` is ``'a' or 'b'``, for a file has no None."""
    listed = re.sub(r"\bLiteral\[([^]]*)\]", lambda match: match[1].replace(", ", " or "), annotation)
    return listed.removesuffix(" | None").removeprefix("None | ").replace(" | ", " or ")


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z])|\.$", paragraph)[0]


def _argument_texts(docstring: str) -> dict[str, str]:
    """The text of each entry of a docstring's ``Args:`` section."""
    section = _SECTION.search(docstring)
    entries: list[str] = []
    for line in textwrap.dedent(section[1]).splitlines() if section else ():
        if line.startswith((" ", "\t")) and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line.strip())
    return {match[1]: match[2].strip() for entry in entries if (match := _ENTRY.fullmatch(entry))}
