"""Reads a component's docstring and parameters from its source, without importing it.

That is what lets ``list``, ``show`` and every config error answer without torch. Where the source
does not tell (generated code, exotic bases), :class:`Unclear` says so and the caller imports.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from segkit.errors import did_you_mean


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()  # the default of a required parameter
_MOST_STEPS = 10  # re-exports and base classes that are followed; more is a circle


class Unclear(Exception):  # not an error: the caller then imports
    """The source does not tell: import the component and look."""


class Absent(Unclear):
    """The source tells that the component is not there; to import it would fail."""


class Parameter(NamedTuple):
    """A parameter of a constructor or function; its annotation is source text, empty if there is none."""

    name: str
    annotation: str
    default: object


@dataclass(frozen=True)
class Facts:
    """What the source says: docstrings, the class's own first, then those that explain its parameters."""

    docstrings: list[str]
    parameters: list[Parameter]


class _Module(NamedTuple):
    """A parsed module; its package is what relative imports start from."""

    name: str
    package: str
    tree: ast.Module


_Node = ast.ClassDef | ast.FunctionDef


P = ParamSpec("P")
T = TypeVar("T")


def _or_unclear(function: Callable[P, T]) -> Callable[P, T]:
    """Anything may go wrong in source that a program wrote, or that lies in no file: then an import has to tell."""

    @wraps(function)
    def guarded(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return function(*arguments, **named)
        except Unclear:
            raise
        except Exception as error:  # RecursionError and MemoryError among them
            raise Unclear(f"{type(error).__name__}: {error}") from error

    return guarded


@_or_unclear
def read(place: str) -> Facts:
    """The docstrings and parameters of the class or function at ``package.module:Name``; a module has none of these.

    Raises:
        Unclear: the source cannot be found, or does not tell.
    """
    return _facts(*_at(place), 0) if ":" in place else Facts([docstring(place)], [])


@_or_unclear
def docstring(place: str) -> str:
    """The docstring of the class or function at ``package.module:Name``, or of a module; empty if it has none.

    Raises:
        Absent: it is not there, or its source is no Python.
        Unclear: the source cannot be found, or does not tell.
    """
    module, _, name = place.partition(":")
    return ast.get_docstring(_at(place)[1] if name else _module(module).tree) or ""


@_or_unclear
def number(place: str, attribute: str) -> float | None:
    """The number that a class at ``package.module:Name`` gives an attribute in its body; None where it does not."""
    for item in getattr(_at(place)[1], "body", []):
        if isinstance(item, ast.Assign) and [ast.unparse(target) for target in item.targets] == [attribute]:
            value = _value(item.value)
            return value if isinstance(value, int | float) else None
    return None


def mentions(place: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the source of the module at a place."""
    try:
        text = _text(_found(place.partition(":")[0]))
    except Exception:
        return False
    return re.search("|".join(words), text.decode("utf-8", "replace")) is not None


def _at(place: str) -> tuple[_Module, _Node]:
    module, _, name = place.partition(":")
    return _definition(_module(module), name, 0)


def _facts(module: _Module, node: _Node, steps: int) -> Facts:
    place = f"{module.name}:{node.name}"
    own = ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef):
        if node.decorator_list:
            raise Unclear(f"{place} is decorated")
        return Facts([own], _parameters(node, module.tree))
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    if node.decorator_list or node.keywords or "__new__" in methods:
        raise Unclear(f"the constructor of {place} is generated")
    if constructor := methods.get("__init__"):
        if constructor.decorator_list:
            raise Unclear(f"the constructor of {place} is decorated")
        return Facts([own, ast.get_docstring(constructor) or ""], _parameters(constructor, module.tree)[1:])
    if len(node.bases) != 1 or not isinstance(node.bases[0], ast.Name):
        raise Unclear(f"{place} has no constructor of its own")
    base = _facts(*_definition(module, node.bases[0].id, steps + 1), steps + 1)
    return Facts([own, *base.docstrings], base.parameters)


def _definition(module: _Module, name: str, steps: int) -> tuple[_Module, _Node]:
    """Where a name used in a module is defined: there, or where it is imported from."""
    if steps > _MOST_STEPS:
        raise Unclear(f"{module.name}:{name} leads in a circle")
    for node in reversed(module.tree.body):  # of two definitions the last one counts
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        for alias in node.names if isinstance(node, ast.ImportFrom) else []:
            if isinstance(node, ast.ImportFrom) and (alias.asname or alias.name) == name:
                return _definition(_imported(node, module), alias.name, steps + 1)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            break
    _refuse_absent(module, name)
    raise Unclear(f"{module.name} defines no {name}")


def _bound(tree: ast.AST) -> set[str]:
    """The names that a piece of source may bind, those inside of functions too; ``*`` is any name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Name) and node.id in ("exec", "globals", "setattr", "vars"):
            names.add("*")
    return names | {"*"} if "__getattr__" in names else names


def _refuse_absent(module: _Module, name: str) -> None:
    names = _bound(module.tree)
    if not names & {"*", name.partition(".")[0]}:
        raise Absent(f"{module.name} defines no {name}{did_you_mean(name, names)}")


def _imported(node: ast.ImportFrom, module: _Module) -> _Module:
    return _module(resolve_name("." * node.level + (node.module or ""), module.package))


def _found(name: str) -> Any:
    """The spec of a module, found as ``import`` would, but importing no parent of it (a parent may need torch)."""
    path: Any = None
    done = ""
    spec: Any = None
    for part in name.split("."):
        if done and path is None:
            raise Absent(f"{done} is no package")
        done = f"{done}.{part}" if done else part
        spec = next(filter(None, (finder.find_spec(done, path) for finder in sys.meta_path)), None)
        if spec is None:
            raise Absent(f"there is no module {done}")
        path = spec.submodule_search_locations
    return spec


def _text(spec: Any) -> bytes:
    if not spec.origin or not spec.origin.endswith(".py"):
        raise Unclear(f"{spec.name} has no Python source")
    return Path(spec.origin).read_bytes()


def _module(name: str) -> _Module:
    spec = _found(name)
    try:
        tree = ast.parse(_text(spec))
    except SyntaxError as error:
        raise Absent(f"{spec.origin}, line {error.lineno}: {error.msg}") from error
    return _Module(name, name if spec.submodule_search_locations is not None else name.rpartition(".")[0], tree)


def _parameters(function: ast.FunctionDef, tree: ast.Module) -> list[Parameter]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(named) - len(arguments.defaults)) + [*arguments.defaults]
    pairs = [*zip(named, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    constants = _Constants(tree)
    return [
        Parameter(
            argument.arg,
            ast.unparse(argument.annotation) if argument.annotation else "",
            MISSING if default is None else _value(constants.visit(default)),
        )
        for argument, default in pairs
    ]


class _Constants(ast.NodeTransformer):
    """Puts the values of a module's constants in the place of their names."""

    def __init__(self, tree: ast.Module) -> None:
        self.values: dict[str, ast.expr] = {}
        for item in tree.body:
            if isinstance(item, ast.Assign | ast.AnnAssign) and item.value:
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                self.values |= {target.id: item.value for target in targets if isinstance(target, ast.Name)}

    def visit_Name(self, node: ast.Name) -> ast.expr:  # the name that ast calls
        return self.values.get(node.id, node)


def _value(default: ast.expr) -> object:
    try:
        return ast.literal_eval(default)
    except ValueError as error:
        raise Unclear(f"the default {ast.unparse(default)} is computed") from error
