"""What every kind of component promises of its constructor: its signature is the schema of its options."""

from __future__ import annotations

import inspect

from segkit.build import given_names
from segkit.testing.check import Subject, require

_RESERVED = {"loss": ("name", "scale")}  # what a config's table says itself; the others reserve the name alone


def named_options(subject: Subject) -> None:
    """Every option has a name of its own and a type hint, so that a config can set it and its errors are found."""
    given = given_names(subject.kind)
    for parameter in inspect.signature(subject.target).parameters.values():
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            require(
                subject.kind == "metric",  # torchmetrics' have them, and what is in them cannot be set
                f"the constructor takes {parameter}: any option of a config would be accepted, misspelt ones too; "
                "name the options",
            )
            continue
        require(
            parameter.kind != parameter.POSITIONAL_ONLY,
            f"'{name}' is positional-only: a config gives options by their names; take the / out of the signature",
        )
        require(
            name not in _RESERVED.get(subject.kind, ("name",)),
            f"the option '{name}' can never be set: in a config's table '{name}' is a key of segkit's own; rename it",
        )
        require(
            name in given or parameter.annotation is not parameter.empty,
            f"the option '{name}' has no type hint: a config's value cannot be checked; write "
            f"{name}: {_type_of(parameter.default)}",
        )


def _type_of(default: object) -> str:
    """What a default's type hint probably is."""
    if default is inspect.Parameter.empty:
        return "int, or what it is"
    return "int | None, or what it is" if default is None else type(default).__name__
