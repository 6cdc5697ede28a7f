"""What ``show --json`` tells of a component, or of a table of a config that is none."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from segkit.options import MISSING, describe
from segkit.plugins import table
from segkit.registry import REGISTRIES, Component
from segkit.settings import Settings


def component_facts(component: Component) -> dict[str, Any]:
    """A component as ``list --json`` has it, with its text and options; of an observer its events too."""
    described = describe(component)
    facts: dict[str, Any] = {
        **vars(component),
        "use": REGISTRIES[component.kind].shortest_name(component),
        "summary": described.summary,
        "text": described.text,
        "options": [
            _option(o.name, o.annotation, None if o.default is MISSING else o.default, o.text)
            | {"required": o.default is MISSING and not o.given, "given": o.given}
            for o in described.options
            if o.given or o in described.settable
        ],
    }
    if component.kind == "observer":
        facts["events"] = table().events(f"{component.distribution}:{component.plugin}")
        facts["problems"] = []  # a broken plugin offers no observer
    return facts


def table_facts(name: str, kind: type[Settings]) -> dict[str, Any]:
    """A table of settings; its options are as those of a component."""
    options = [
        _option(key, written(field.annotation), field.default, field.description or "")
        | {"required": False, "given": False}
        for key, field in kind.model_fields.items()
    ]
    return {"kind": "table", "name": name, "text": (kind.__doc__ or "").replace("``", ""), "options": options}


def _option(name: str, type_: str, default: object, text: str) -> dict[str, Any]:
    return {"name": name, "type": type_, "default": default, "text": text}


def written(hint: Any) -> str:
    """A type hint as it is written, without what pydantic adds to it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return written(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(written, arguments))
    if origin is list:
        return f"list[{written(arguments[0])}]"
    return "None" if hint is NoneType else inspect.formatannotation(hint)
