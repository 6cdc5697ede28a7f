"""Entry points of the group ``segkit``: who they belong to, also where what is installed is damaged.

They are found with importlib.metadata, not with pluggy's own loader: of two distributions that use the same plugin name
that one silently drops one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points

from segkit import __version__
from segkit.foreign import cause
from segkit.hookspecs import PROJECT

_NAME = re.compile(r"\w[\w.-]*")  # neither "/" nor ":", which separate the parts of a qualified name
_PLACE = re.compile(r"[\w.]+(:[\w.]+)?")


@dataclass(frozen=True)
class PluginInfo:
    """Who a plugin is, and what is wrong with it (``error`` is empty if nothing is).

    ``deaf`` says that it may be meant to observe runs, and is broken there.
    """

    name: str
    distribution: str
    version: str
    place: str
    error: str = ""
    deaf: bool = False

    @property
    def key(self) -> str:
        """The name that no other plugin has."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"'{self.name}' ({self.distribution} {self.version})"


def installed() -> tuple[list[EntryPoint], list[PluginInfo]]:
    """The entry points of plugins, and in the place of a plugin each distribution whose entry points cannot be read."""
    with contextlib.suppress(Exception):
        return list(entry_points(group=PROJECT)), []
    found: dict[str, list[EntryPoint]] = {}
    damaged: list[PluginInfo] = []
    for distribution in distributions():
        name, version = _origin(distribution)
        try:
            found.setdefault(name, list(distribution.entry_points.select(group=PROJECT)))
        except Exception as error:
            damaged.append(PluginInfo(name, name, version, "entry_points.txt", cause(error)))
    return [point for points in found.values() for point in points], damaged


def in_order(found: Iterable[EntryPoint]) -> list[tuple[PluginInfo, EntryPoint]]:
    """Ours first, so that none can take a module of ours; then by name, for the order of sys.path must not matter."""
    known = [(PluginInfo(point.name, *_origin(point.dist), point.value, _mistake(point)), point) for point in found]
    return sorted(known, key=lambda pair: (pair[0].distribution != PROJECT, pair[0].distribution, pair[0].name))


def _mistake(entry_point: EntryPoint) -> str:
    if not _NAME.fullmatch(entry_point.name):
        return f"{entry_point.name!r} is no name of a plugin: letters, digits, '-', '_' and '.'"
    return "" if _PLACE.fullmatch(entry_point.value) else f"{entry_point.value!r} is no module, as in 'segkit_poly'"


def newer_segkit_needed(entry_point: EntryPoint) -> list[str]:
    """Names the versions of segkit that a plugin needs and this is none of: the likely cause of its problem."""
    from packaging.requirements import Requirement  # nobody waits for it where all is well
    from packaging.utils import canonicalize_name

    requirements: list[str] = []
    with contextlib.suppress(Exception):  # damaged metadata
        requirements = (entry_point.dist and entry_point.dist.requires) or []
    for text in requirements:
        with contextlib.suppress(Exception):  # no requirement, or one for what there is not
            needed = Requirement(text)
            applies = canonicalize_name(needed.name) == PROJECT and (not needed.marker or needed.marker.evaluate())
            if applies and not needed.specifier.contains(__version__, prereleases=True):
                advice = f"update segkit, or install an older {_origin(entry_point.dist)[0]}"
                return [f"it needs segkit{needed.specifier} and this is {__version__}: {advice}"]
    return []


def _origin(distribution: Distribution | None) -> tuple[str, str]:
    """The name and version of a distribution; a damaged one may know neither."""
    try:
        return (distribution and distribution.name) or "unknown", (distribution and distribution.version) or "unknown"
    except Exception:
        return "unknown", "unknown"
