"""What has to be installed for a function: what it declares, and what it uses without having declared it.

Something undeclared that is installed here is added in the version of here, since that is what the function was
written with. Only what is used by name: what that needs itself is for the resolver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runpod_flash.analysis import distributions
from runpod_flash.analysis.installed import Distribution, normalise
from runpod_flash.analysis.modules import find, is_ours, is_standard
from runpod_flash.client.imports import Wanted


class Requirements(NamedTuple):
    """What a function's workers are given, and what nobody can give them."""

    added: tuple[str, ...]
    undeclared: tuple[str, ...]
    """The modules for which something was added."""
    missing: tuple[Wanted, ...]
    """Neither declared nor installed here."""


def complete(
    declared: tuple[str, ...], imported: Sequence[Wanted], read: Iterable[str], named: Iterable[str]
) -> Requirements:
    """Judges the modules that a function imports when it runs, and those that reading its definition imports.

    `named` are those of the latter that the function itself has a name for. The rest is often a part of these (what a
    class of pydantic is made of is in pydantic_core), and then comes with them.
    """
    chosen: dict[str, Distribution] = {}
    undeclared: list[str] = []
    missing: list[Wanted] = []
    asked = [one for one in imported if is_of_others(one.module)]
    for one in [*asked, *(Wanted(module, "", 0, optional=True) for module in _tops(named))]:
        if not _covered(declared, chosen, one.module) and not _choose(one.module, chosen, undeclared):
            missing += [one] if not one.optional and find(one.module) is None else []
    for module in _tops(read):
        if not _covered(declared, chosen, module) and not _comes_with(module, declared, chosen):
            _choose(module, chosen, undeclared)
    if missing and distributions.unaccounted(declared, [one.module for one in asked]):
        missing = []  # one of these may bring them: a name does not say what is in a distribution
    return Requirements(tuple(one.requirement for one in chosen.values()), tuple(undeclared), tuple(missing))


def is_of_others(module: str) -> bool:
    """Whether a module is neither the user's own, nor ours, nor of the standard library; also if it is nowhere."""
    if is_ours(module) or is_standard(module):
        return False
    found = find(module)
    return found is None or found.owner == "installed"


def _tops(modules: Iterable[str]) -> list[str]:
    """What has to be installed for these modules: packages, not their parts."""
    tops: dict[str, None] = {}
    for module in sorted(modules):
        top = module.partition(".")[0]
        if top in tops or is_ours(top) or is_standard(top):
            continue
        found = find(top)
        tops[top if found is not None and found.file else module] = None
    return [module for module in tops if is_of_others(module)]


def _covered(declared: tuple[str, ...], chosen: dict[str, Distribution], module: str) -> bool:
    return distributions.covers((*declared, *chosen), module)


def _choose(module: str, chosen: dict[str, Distribution], undeclared: list[str]) -> bool:
    """Adds what is installed here; False if it is not."""
    found = distributions.provider(module)
    if found is None:
        return False
    chosen[normalise(found.name)] = found
    undeclared.append(module.partition(".")[0])
    return True


def _comes_with(module: str, declared: tuple[str, ...], chosen: dict[str, Distribution]) -> bool:
    """Whether something else that will be there asks for it itself."""
    found = distributions.provider(module)
    if found is None:
        return True
    others = [*chosen.values(), *(one for text in declared if (one := distributions.installed(text)) is not None)]
    return any(normalise(found.name) in one.requires for one in others)
