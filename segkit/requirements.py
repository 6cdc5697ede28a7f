"""Which plugins a config needs, in which versions, and what to do where this installation does not have them.

``plugins = ["segkit-poly>=0.1"]`` names distributions and their versions as pip does.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from segkit.plugins import PluginInfo, table

EXAMPLE = "as in 'segkit-poly>=0.1'"


def unmet(needed: object) -> list[str]:
    """What is wrong with a list of requirements: it is none, or what it asks for is missing, too old or broken."""
    if not isinstance(needed, (list, tuple)):
        return [f"{needed!r} is no list; several are allowed, {EXAMPLE}"]
    return [problem for each in needed for problem in _unmet(each)]


def at_least(distribution: str, its_version: str) -> str:
    """The requirement of a version or a later one; of any, where the version is none that pip knows."""
    try:
        return f"{distribution}>={Version(its_version).public}"
    except InvalidVersion:
        return distribution


def _unmet(needed: object) -> list[str]:
    try:
        if not isinstance(needed, str):
            raise InvalidRequirement("this is no text")
        requirement = Requirement(needed)
    except InvalidRequirement as error:
        cause = str(error).splitlines()[0]
        return [f"{needed!r}: {cause}; a distribution and its versions are needed, {EXAMPLE}"]
    exact = any(each.operator == "===" for each in requirement.specifier)  # takes any text, and ours goes to a shell
    if requirement.url or requirement.marker or requirement.extras or exact:
        return [f"{needed!r}: nothing but a distribution and its versions is allowed, {EXAMPLE}"]
    name = canonicalize_name(requirement.name)
    found = [plugin for plugin in table().plugins if canonicalize_name(plugin.distribution) == name]
    if not found:
        return [_not_found(requirement)]
    if not _fits(requirement, found[0]):
        return [f"{name} {found[0].version} is installed; {requirement.specifier} is needed: {_install(requirement)}"]
    return [f"plugin {plugin} is broken: {plugin.error}" for plugin in found if plugin.error]


def _not_found(requirement: Requirement) -> str:
    try:
        return f"{requirement.name} {version(requirement.name)} is installed and is no plugin of segkit"
    except PackageNotFoundError:
        name = canonicalize_name(requirement.name)
        meant = [plugin.distribution for plugin in table().plugins if canonicalize_name(plugin.name) == name]
        if meant:  # who knows what the package index has under the plugin's own name
            return f"'{requirement.name}' is a plugin; write its distribution, '{meant[0]}{requirement.specifier}'"
        return f"{requirement.name} is not installed: {_install(requirement)}"


def _fits(requirement: Requirement, plugin: PluginInfo) -> bool:
    try:
        return requirement.specifier.contains(Version(plugin.version), prereleases=True)
    except InvalidVersion:  # a damaged installation
        return not requirement.specifier


def _install(requirement: Requirement) -> str:
    return f'pip install "{requirement}"'
