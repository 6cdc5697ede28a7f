"""What every kind of component promises of its constructor: its signature is the schema of its options."""

from __future__ import annotations

import inspect

from segkit.build import given_names
from segkit.testing.check import Subject, require


def named_options(subject: Subject) -> None:
    """Every option has a name and a type hint, so that a config's typing errors are found."""
    given = given_names(subject.kind)
    for parameter in inspect.signature(subject.target).parameters.values():
        require(
            parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
            f"the constructor takes {parameter}: any option of a config would be accepted, misspelt ones too; "
            "name the options",
        )
        require(
            parameter.name in given or parameter.annotation is not parameter.empty,
            f"the option '{parameter.name}' has no type hint: a config's value cannot be checked; write "
            f"{parameter.name}: int, or what it is",
        )
