"""Which distribution provides a module, at the caller and by common knowledge, and whether a requirement covers it.

`importlib.metadata.packages_distributions` answers the first, by reading the list of files of everything installed: a
second or more beside a large framework. Here one module is looked for, first in the distribution of its own name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from runpod_flash.analysis import installed as beside
from runpod_flash.analysis.installed import Distribution, names_of, normalise, required_name
from runpod_flash.analysis.modules import find
from runpod_flash.analysis.published import COMMON_NAMES


def provider(module: str) -> Distribution | None:
    """The installed distribution that a module comes from; None if it is not installed, or nobody says so."""
    found = providers(module)
    return found[0] if found else None


def providers(module: str) -> tuple[Distribution, ...]:
    """All installed distributions that claim a module."""
    known = None
    for name in _prefixes(module):
        found = find(name)
        if found is None:
            break
        if found.owner not in ("installed", "own"):
            return ()
        known = name, found.file or next(iter(found.folders), "")
        if found.file:  # what is in it comes with it; a folder without code of its own may be shared by many
            break
    return beside.distributions_of(*known) if known is not None and known[1] else ()


def installed(requirement: str) -> Distribution | None:
    """What is installed here of the distribution that a requirement names."""
    name = required_name(requirement)
    found = (beside.named(name, folder) for folder in sys.path) if name else iter(())
    return next((one for one in found if one is not None), None)


def likely_name(module: str) -> str:
    """The name under which a module that is not installed is probably published."""
    common = next((COMMON_NAMES[name] for name in reversed(_prefixes(module)) if name in COMMON_NAMES), None)
    return common[0] if common else normalise(module.partition(".")[0])


def covers(requirements: Iterable[str], module: str) -> bool:
    """Whether one of `requirements` brings `module`, as far as names tell."""
    requirements = tuple(requirements)
    asked = {required_name(one) for one in requirements} - {""}
    if asked & names_of(module):
        return True
    if asked and any(normalise(one.name) in asked for one in providers(module)):
        return True
    nameless = [normalise(one) for one in requirements if not required_name(one)]
    return any(normalise(module.partition(".")[0]) in one for one in nameless)


def unaccounted(requirements: Iterable[str], modules: Iterable[str]) -> tuple[str, ...]:
    """Those of `requirements` of which nobody here knows what they bring: not installed, and the name of no module."""
    modules = tuple(modules)
    strange = (one for one in requirements if installed(one) is None)
    return tuple(one for one in strange if not any(covers((one,), module) for module in modules))


def _prefixes(module: str) -> list[str]:
    """a, a.b, a.b.c"""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
