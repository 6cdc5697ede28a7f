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
        requirement = Requirement(needed if isinstance(needed, str) else "")
    except InvalidRequirement as error:
        return [f"{needed!r}: {str(error).splitlines()[0]}; a distribution and its versions are needed, {EXAMPLE}"]
    exact = any(each.operator == "===" for each in requirement.specifier)  # takes any text, and ours goes to a shell
    if requirement.url or requirement.marker or requirement.extras or exact:
        return [f"{needed!r}: nothing but a distribution and its versions is allowed, {EXAMPLE}"]
    name, install = canonicalize_name(requirement.name), f'pip install "{requirement}"'
    found = [plugin for plugin in table().plugins if canonicalize_name(plugin.distribution) == name]
    if found and not _fits(requirement, found[0]):
        return [f"{name} {found[0].version} is installed; {requirement.specifier} is needed: {install}"]
    if found:
        return [f"plugin {plugin} is broken: {plugin.error}" for plugin in found if plugin.error]
    try:
        return [f"{requirement.name} {version(requirement.name)} is installed and is no plugin of segkit"]
    except PackageNotFoundError:
        meant = [plugin.distribution for plugin in table().plugins if canonicalize_name(plugin.name) == name]
        if meant:  # who knows what the package index has under the plugin's own name
            return [f"'{requirement.name}' is a plugin; write its distribution, '{meant[0]}{requirement.specifier}'"]
        return [f"{requirement.name} is not installed: {install}"]


def _fits(requirement: Requirement, plugin: PluginInfo) -> bool:
    try:
        return requirement.specifier.contains(Version(plugin.version), prereleases=True)
    except InvalidVersion:  # a damaged installation
        return not requirement.specifier
