"""What ``show`` and ``list`` say about a component: its first sentence, and the text and type of each option."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from segkit.errors import ComponentNotFound, did_you_mean
from segkit.registry import REGISTRIES

ARGUMENTS = re.compile(r"^Args:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.MULTILINE)  # of a docstring
_UP_TO_DOCSTRING = re.compile(r'.*?""".*?"""', re.DOTALL)
_ENTRY = re.compile(r"^(\w+)(?: \([^)]*\))?:(.*(?:\n[ \t].*)*)", re.MULTILINE)


def registry_of(kind: str) -> Any:
    """The registry of a kind, which may be given in the plural.

    Raises:
        ComponentNotFound: there is no such kind.
    """
    for registry in REGISTRIES.values():
        if kind in (registry.kind, registry.plural):
            return registry
    close = did_you_mean(kind, [word for each in REGISTRIES.values() for word in (each.kind, each.plural)])
    raise ComponentNotFound(f"there is no kind '{kind}'{close or '.'} Kinds: {', '.join(REGISTRIES)}.")


def descriptions(target: Any) -> dict[str, str]:
    """The texts of the section ``Args:`` by option; a class's docstring takes precedence over those of its bases."""
    classes = target.__mro__[:-1] if inspect.isclass(target) else ()
    texts: dict[str, str] = {}
    for each in [target, *(thing for cls in classes for thing in (cls, vars(cls).get("__init__")))][::-1]:
        docstring = getattr(each, "__doc__", None)
        section = ARGUMENTS.search(inspect.cleandoc(docstring)) if isinstance(docstring, str) else None
        entries = _ENTRY.findall(textwrap.dedent(section[1])) if section else ()
        texts |= {name: " ".join(text.split()) for name, text in entries}
    return texts


def type_text(hint: Any) -> str:
    """A type in Python syntax, without pydantic's annotations; "" if any value is accepted."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, parts))
    if origin is list:
        return f"list[{type_text(parts[0])}]"
    text = hint if isinstance(hint, str) else "None" if hint is NoneType else inspect.formatannotation(hint)
    return "" if hint is Any else re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def summary(component: Any) -> str:
    """The first sentence of the docstring, or ""; read from the source where possible, without an import."""
    module, _, name = component.place.partition(":")
    with contextlib.suppress(Exception):
        spec = None if module in sys.modules else find_spec(module)
        source = Path(spec.origin).read_text("utf-8-sig") if spec and spec.origin else ""
        begin = re.search(rf"^(?:class|(?:async )?def) {name}\b" if name else "", source, re.MULTILINE)
        start = _UP_TO_DOCSTRING.match(source, begin.start() if begin else 0)  # a hundred whole files take 0.2 s
        try:
            tree = ast.parse(start[0] if start else source)
        except SyntaxError:  # its first text in triple quotes is no docstring
            tree = ast.parse(source)
        defined: list[Any] = [each for each in tree.body if getattr(each, "name", "") == name] if name else [tree]
        docstring = (ast.get_docstring(defined[-1]) if spec and defined else component.load().__doc__) or ""
        paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
        # up to the first full stop that does not end an abbreviation
        return re.split(r"(?<!\bal)(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z])|\.$", paragraph)[0]
    return ""
