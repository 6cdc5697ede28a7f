"""Which plugins a config needs, in which versions, and what to do where this installation does not have them.

``plugins = ["segkit-poly>=0.1"]`` names distributions and their versions as pip does.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from segkit.plugins import table

_WANTED = "a distribution and its versions are needed, and nothing else, as in 'segkit-poly>=0.1'"


def unmet(needed: object) -> list[str]:
    """What is wrong with a list of requirements: it is none, or what it asks for is missing, too old or broken."""
    if not isinstance(needed, (list, tuple)):
        return [f"{needed!r} is no list; several are allowed, as in ['segkit-poly>=0.1']"]
    return [problem for each in needed for problem in _unmet(each)]


def _unmet(needed: object) -> list[str]:
    try:
        requirement = Requirement(needed if isinstance(needed, str) else "")
    except InvalidRequirement as error:
        return [f"{needed!r}: {str(error).splitlines()[0]}; {_WANTED}"]
    exact = any(each.operator == "===" for each in requirement.specifier)  # takes any text, and ours goes to a shell
    if requirement.url or requirement.marker or requirement.extras or exact:
        return [f"{needed!r}: {_WANTED}"]
    name, install = canonicalize_name(requirement.name), f'pip install "{requirement}"'
    try:
        found = version(name)
    except PackageNotFoundError:
        meant = [plugin.distribution for plugin in table().plugins if canonicalize_name(plugin.name) == name]
        if meant:  # who knows what the package index has under the plugin's own name
            return [f"'{requirement.name}' is a plugin; write its distribution, '{meant[0]}{requirement.specifier}'"]
        return [f"{requirement.name} is not installed: {install}"]
    if not requirement.specifier.contains(found, prereleases=True):
        return [f"{name} {found} is installed; {requirement.specifier} is needed: {install}"]
    broken = [plugin for plugin in table().broken if canonicalize_name(plugin.distribution) == name]
    return [f"plugin {plugin} is broken: {plugin.error}" for plugin in broken]
