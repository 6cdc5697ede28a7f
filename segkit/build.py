"""A component's options: described, checked against its own signature, and turned into an object.

The signature is the schema. A config's table is compared with the names, type hints and defaults of
the constructor, read from the source (:mod:`segkit.source`), so that a typing error is found before
anything heavy is imported.
"""

from __future__ import annotations

import builtins
import collections.abc
import inspect
import pathlib
import re
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from segkit import source
from segkit.errors import ConfigError, SegkitError, did_you_mean
from segkit.registry import Component
from segkit.source import MISSING, Facts, Parameter

CLASS_WEIGHT_FORMULAS = ("median_frequency", "inverse", "effective_number")
_GIVEN = ("num_classes", "ignore_index", "classes")
_TYPING = {**vars(typing), **vars(collections.abc), **vars(builtins), "Path": pathlib.Path, "pathlib": pathlib}
_SECTION = re.compile(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"(\w+)(?: \([^)]*\))?:\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Option:
    """A parameter of a component: ``given`` ones come from the dataset, all others from the config."""

    name: str
    annotation: str
    default: object
    text: str
    given: bool


@dataclass(frozen=True)
class Description:
    """What a component says of itself: its first sentence, its docstring without ``Args:``, its options."""

    summary: str
    text: str
    options: tuple[Option, ...]


def summary(component: Component) -> str:
    """The first sentence of a component's docstring; empty where its source does not tell."""
    try:
        return _first_sentence(source.docstring(component.place))
    except source.Unclear:
        return ""


def describe(component: Component) -> Description:
    """What a component says of itself, from its source; it is imported only where that does not tell.

    Raises:
        PluginError: it had to be imported, and cannot be.
    """
    try:
        facts = source.read(component.place)
    except source.Unclear:
        facts = _imported_facts(component)
    texts: dict[str, str] = {}
    for docstring in reversed(facts.docstrings):  # the class's own words win over those of its bases
        texts |= _argument_texts(docstring)
    given = given_names(component.kind)
    options = (
        Option(*parameter, texts.get(parameter.name, ""), parameter.name in given) for parameter in facts.parameters
    )
    own = facts.docstrings[0]
    return Description(_first_sentence(own), _SECTION.sub("", own).strip(), tuple(options))


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return ("split",) if kind == "dataset" else _GIVEN


def check_options(component: Component, options: Mapping[str, object], where: str) -> list[str]:
    """The problems of a config's table for a component: unknown, given, missing and mistyped options."""
    try:
        described = describe(component).options
    except SegkitError as error:
        return [f"{where}: {error}"]
    known = {option.name: option for option in described}
    settable = [option.name for option in described if not option.given]
    problems = []
    for name, value in options.items():
        if name in given_names(component.kind):
            giver = "segkit itself" if component.kind == "dataset" else "the dataset"
            problems.append(f"'{name}' is given by {giver} and cannot be set; remove it")
        elif name not in known:
            have = f"Its options: {', '.join(settable)}." if settable else "It has none."
            problems.append(f"{component.name} has no option '{name}'{did_you_mean(name, settable) or '.'} {have}")
        else:
            problems += _checked(component, known[name], value)[1]
    for option in described:
        if option.default is MISSING and not option.given and option.name not in options:
            problems.append(f"{component.name} needs '{option.name}' ({option.annotation}): {option.text}".rstrip(": "))
    return [f"{where}: {problem}" for problem in problems]


def create(component: Component, options: Mapping[str, object], facts: Mapping[str, object]) -> Any:
    """Builds a component from its options and those facts that its constructor asks for.

    Raises:
        ConfigError: an option does not fit, or the constructor refuses them.
        PluginError: the component cannot be imported.
    """
    target = component.load()
    known = {option.name: option for option in describe(component).options}
    arguments = {name: fact for name, fact in facts.items() if name in known}
    problems = []
    for name, value in options.items():
        arguments[name], wrong = _checked(component, known[name], value) if name in known else (value, [])
        problems += wrong
    if problems:
        raise ConfigError(problems, where=f"{component.kind} '{component.name}'")
    try:
        return target(**arguments)
    except ConfigError as error:
        raise ConfigError(error.problems, where=error.where or f"{component.kind} '{component.name}'") from error
    except SegkitError:
        raise
    except Exception as error:  # whatever somebody else's constructor may raise
        written = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise ConfigError(f"{component.kind} '{component.name}' refuses {written}: {error}") from error


def _checked(component: Component, option: Option, value: object) -> tuple[Any, list[str]]:
    """A value as the option's type has it (a list as a tuple, text as a path), and what is wrong with it."""
    import pydantic
    import pydantic_core

    formulas = CLASS_WEIGHT_FORMULAS if option.name == "class_weights" else ()
    expected = _type(component, option)
    if expected is Any or (isinstance(value, str) and value in formulas):
        return value, []
    try:
        # The rules for JSON are those that a TOML file needs: strict, but a list may become a tuple.
        written = pydantic_core.to_json(value, inf_nan_mode="constants")
        return pydantic.TypeAdapter(expected).validate_json(written, strict=True), []
    except pydantic.ValidationError:
        allowed = " or ".join([_words(option.annotation), *map(repr, formulas)])
        close = did_you_mean(str(value), [*_literals(expected), *formulas])
        return value, [f"'{option.name}' must be {allowed}, not {textwrap.shorten(repr(value), 60)}{close}"]
    except (pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation, pydantic_core.PydanticSerializationError):
        return value, []  # a type of the component's own, or an object that no file can hold: its constructor knows


def _type(component: Component, option: Option) -> Any:
    """The type that an option's annotation means; ``Any`` where nobody can tell."""
    try:
        return eval(option.annotation or "Any", dict(_TYPING))
    except Exception:  # a name of the component's own module
        try:
            target = component.load()
            is_class = inspect.isclass(target)
            return typing.get_type_hints(target.__init__ if is_class else target)[option.name]
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


def _imported_facts(component: Component) -> Facts:
    target = component.load()
    docstrings = [target.__doc__ or ""]
    if inspect.isclass(target):
        documented = [thing for cls in target.__mro__[:-1] for thing in (vars(cls).get("__init__"), cls)]
        docstrings += [thing.__doc__ for thing in documented if thing is not None and thing.__doc__]
    parameters = [
        Parameter(
            parameter.name,
            _annotation_text(parameter.annotation),
            MISSING if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(target).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return Facts([inspect.cleandoc(text) for text in docstrings], parameters)


def _annotation_text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z])|\.$", paragraph)[0]


def _argument_texts(docstring: str) -> dict[str, str]:
    """The text of each entry of a docstring's ``Args:`` section."""
    section = _SECTION.search(docstring)
    entries: list[str] = []
    body = textwrap.dedent(section[1]) if section else ""
    for line in body.splitlines():
        if line.startswith((" ", "\t")) and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line.strip())
    return {match[1]: match[2].strip() for entry in entries if (match := _ENTRY.fullmatch(entry))}
