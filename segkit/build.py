"""A component's options: described, checked against its own signature, and turned into an object.

The signature is the schema. A config's table is compared with the names, type hints and defaults of
the constructor, read from the source (:mod:`segkit.source`), so that a typing error is found before
anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from segkit import source
from segkit.errors import ConfigError, PluginError, SegkitError, cause, did_you_mean
from segkit.options import Option, checked
from segkit.registry import Component, Registry
from segkit.source import MISSING, Facts, Parameter

_GIVEN = ("num_classes", "ignore_index", "classes", "in_channels")
_GIVEN_TO = {"dataset": ("split",), "optimizer": ("model", "settings"), "check": ("settings",)}
_PROMISED = {
    "model": ("forward", "parameters"),
    "loss": ("__call__",),
    "dataset": ("classes", "palette", "ignore_index", "__len__", "__getitem__"),
    "metric": ("update", "compute", "reset"),
    "check": ("measure", "judge"),
}
_SECTION = re.compile(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"(\w+)(?: \([^)]*\))?:\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Description:
    """What a component says of itself: its first sentence, its docstring without ``Args:``, its options."""

    summary: str
    text: str
    options: tuple[Option, ...]

    @property
    def settable(self) -> list[Option]:
        """The options that a config may set."""
        return [option for option in self.options if not (option.given or option.reserved)]


def summary(component: Component) -> str:
    """The first sentence of a component's docstring; empty where its source does not tell."""
    try:
        return _first_sentence(source.docstring(component.place))
    except source.Absent as error:
        return f"cannot be imported: {error}"
    except source.Unclear:
        return ""


def place_in_help(command: Component) -> float:
    """The number ``first`` that a command's class declares; infinite where it declares none."""
    try:
        return source.number(command.place, "first") or math.inf
    except source.Unclear:
        return math.inf


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
    given, reserved = given_names(component.kind), reserved_names(component.kind)
    options = (
        Option(*parameter, texts.get(parameter.name, ""), parameter.name in given, parameter.name in reserved)
        for parameter in facts.parameters
    )
    own = facts.docstrings[0]
    return Description(_first_sentence(own), _SECTION.sub("", own).strip(), tuple(options))


def option_that_takes(registry: Registry, name: str) -> str:
    """What to say of a name that is no component's and a value of a component's option: ``deeplabv3plus`` of smp's.

    An option's values are the quoted words of its text in the docstring.
    """
    for component in registry.components():
        with contextlib.suppress(SegkitError):
            for option in describe(component).settable:
                words = re.findall(r'"([\w-]+)"', option.text)
                kin = [word for word in words if _stem(word) == _stem(name.lower())]  # resnet50 beside resnet34
                close = get_close_matches(name.lower(), words, n=1, cutoff=0.7)
                if kin or close:
                    value = name if kin else close[0]
                    short = registry.shortest_name(component)
                    table = {"loss": "loss.0", "metric": "metric.0"}.get(component.kind, component.kind)
                    return (
                        f"there is no {component.kind} '{name}'; {short} has it, by its option {option.name}: "
                        f"{table}.name={short} {table}.{option.name}={value}"
                    )
    return ""


def _stem(word: str) -> str:
    found = re.match(r"[a-z]{4,}", word)
    return found[0] if found else word


def given_names(kind: str) -> tuple[str, ...]:
    """The parameters that segkit provides for a kind of component, and that a config may not set."""
    return _GIVEN_TO.get(kind, _GIVEN)


def reserved_names(kind: str) -> tuple[str, ...]:
    """The keys of a component's table that are not its options."""
    return ("name", "scale") if kind == "loss" else ("name",)


def check_options(component: Component, options: Mapping[str, object], where: str) -> list[str]:
    """The problems of a config's table for a component: unknown, given, missing and mistyped options."""
    try:
        description = describe(component)
    except SegkitError as error:
        return [f"{where}: {error}"]
    described = description.options
    known = {option.name: option for option in described}
    settable = [option.name for option in description.settable]
    problems = [
        f"the option '{option.name}' of {component} has to be renamed: in a config this name means something else"
        for option in described
        if option.reserved
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
            problems += checked(component, known[name], value)[1]
    missing = [o for o in description.settable if o.default is MISSING and o.name not in options]
    if component.kind == "loss" and "logits" in settable:
        problems.append(f"'{component.place}' is the loss itself; a class, or a function that returns it, is needed")
    elif missing:
        problems += [f"{component.name} needs {_wanted(option)}" for option in missing]
    return [f"{where}: {problem}" for problem in problems]


def _wanted(option: Option) -> str:
    kind = f" ({option.annotation})" if option.annotation else ""
    return f"'{option.name}'{kind}: {option.text}".rstrip(": ")


def create(component: Component, options: Mapping[str, object], facts: Mapping[str, object]) -> Any:
    """Builds a component from its options and those facts that its constructor asks for.

    Raises:
        ConfigError: an option does not fit, or the constructor refuses them.
        PluginError: the component cannot be imported, or is not what its kind promises.
    """
    target = component.load()
    known = {option.name: option for option in describe(component).options}
    arguments = {name: fact for name, fact in facts.items() if name in known}
    problems = []
    for name, value in options.items():
        arguments[name], wrong = checked(component, known[name], value) if name in known else (value, [])
        problems += wrong
    if problems:
        raise ConfigError(problems, where=f"{component.kind} '{component.name}'")
    try:
        built = target(**arguments)
    except ConfigError as error:
        problems, where = getattr(error, "problems", [str(error)]), getattr(error, "where", "")
        raise ConfigError(problems, where=where or f"{component.kind} '{component.name}'") from error
    except (SegkitError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever somebody else's constructor may raise; if it exits, nothing was trained
        written = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise ConfigError(f"{component} refuses {written}: {cause(error)}") from error
    lacking = [name for name in _PROMISED.get(component.kind, ()) if not hasattr(built, name)]
    if lacking:
        raise PluginError(f"{component} is no {component.kind}: what it builds has no {', no '.join(lacking)}")
    return built


def _imported_facts(component: Component) -> Facts:
    target = component.load()
    documented = [target]
    if inspect.isclass(target):
        documented += [thing for cls in target.__mro__[:-1] for thing in (vars(cls).get("__init__"), cls)]
    texts = [getattr(thing, "__doc__", None) for thing in documented]
    docstrings = [inspect.cleandoc(text) if isinstance(text, str) else "" for text in texts]
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{component} does not say what options it has: {cause(error)}") from error
    parameters = [
        Parameter(
            parameter.name,
            _annotation_text(parameter.annotation),
            MISSING if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return Facts(docstrings, parameters)


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
