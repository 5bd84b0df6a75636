"""Rules on packages: what a remote function imports has to be in its `dependencies`."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runpod_flash.analysis import distributions, modules
from runpod_flash.analysis.bindings import Binding
from runpod_flash.analysis.facts import Import
from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Module, Remote, argument
from runpod_flash.check.neighbours import Neighbours
from runpod_flash.check.project import lies_beside, project_requirements
from runpod_flash.check.reach import Part, Reach
from runpod_flash.check.repairs import AddDependency


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A module that is imported where a worker will do it."""

    module: str
    place: ast.AST
    part: Part
    through: str = ""
    """The user's own module that imports it, where the function imports that."""


class Packages:
    """What one remote function declares, and whose the modules that it imports are."""

    def __init__(self, module: Module, remote: Remote, neighbours: Neighbours) -> None:
        self.module = module
        self._neighbours = neighbours
        self.call = remote.call
        self.folder = Path(module.source.path).absolute().parent
        self.declared = _declared(module, remote.call)

    @property
    def runs_here(self) -> bool:
        """Whether `local=True` is written: nothing travels, and the caller's packages are used."""
        local = argument(self.call, "local") if self.call else None
        return isinstance(local, ast.Constant) and local.value is True

    def is_own(self, name: str) -> bool:
        """Whether a module is the user's own: beside the file, or in a folder around it that belongs to the project."""
        top = name.partition(".")[0]
        if not top or modules.is_standard(name) or modules.is_ours(name):
            return not top
        if lies_beside(self.folder, top):
            return True
        found = modules.find(top)
        return found is not None and found.owner == "own"

    def check(self, reach: Reach) -> Iterator[Finding]:
        """Findings about packages that no requirement brings."""
        if self.declared is None or self.runs_here:
            return
        seen: set[str] = set()
        asked = list(self._wanted(reach))
        names = [one.module for one in asked]
        for wanted in asked:
            if wanted.module not in seen and self._is_missing(wanted.module, names):
                yield self._finding(reach.remote, wanted)
            seen.add(wanted.module)

    def _wanted(self, reach: Reach) -> Iterator[_Wanted]:
        for part in reach.parts:
            for one in part.facts.imports:
                if not one.guarded:
                    place = part.place("", one.line)
                    if one.module and not one.level:
                        yield _Wanted(one.module, place, part)
                    yield from self._of_own(one, place, part)
        for part, use, binding in reach.uses():
            if binding is not None and binding.kind == "import" and _counts(binding) and not use.guarded:
                yield _Wanted(binding.module, part.place(use.name, use.lines[0]), part)

    def _of_own(self, imported: Import, place: ast.AST, part: Part) -> Iterator[_Wanted]:
        """What the user's own modules import when they are run, which they are where the import is."""
        for file, one in self._neighbours.imports_behind(self.folder, imported):
            if one.module and not one.level:
                yield _Wanted(one.module, place, part, through=os.path.relpath(file, self.folder))

    def _is_missing(self, name: str, asked: list[str]) -> bool:
        if modules.is_standard(name) or modules.is_ours(name) or self.is_own(name):
            return False
        declared = self.declared or ()
        if distributions.covers(declared, name):
            return False
        return bool(distributions.providers(name)) or not distributions.unaccounted(declared, asked)

    def _finding(self, remote: Remote, wanted: _Wanted) -> Finding:
        installed = distributions.provider(wanted.module)
        known = installed is not None or modules.find(wanted.module.partition(".")[0]) is not None
        requirement = installed.requirement if installed else distributions.likely_name(wanted.module)
        line = _line(self.declared or (), requirement)
        if not known:
            code, why = "FL102", "it is not installed here either, so a call would be refused"
        elif distributions.covers(project_requirements(self.folder), wanted.module):
            code, why = (
                "FL104",
                f"the project requires it, and a call adds {requirement}; FLASH_SCOPE=strict refuses this",
            )
        else:
            code, why = "FL103", f"a call adds the version that is installed here, {requirement}, and warns"
        what = f"{wanted.part.facts.name} imports {wanted.module}, which is not in dependencies"
        if wanted.through:
            what = (
                f"{wanted.part.facts.name} imports {wanted.through}, which imports {wanted.module}, "
                "and that is not in dependencies"
            )
        if not wanted.part.direct:
            what += f" of {remote.name}, which uses it"
        found = self.module.source.finding(code, wanted.place, what, why, f"write {line} in @remote")
        if self.call is None or not can_be_extended(self.call):
            return found
        return replace(found, repair=AddDependency(self.module, self.call, requirement))


def can_be_extended(call: ast.Call) -> bool:
    """Whether a requirement can be written into a call of `remote` without running it."""
    if any(keyword.arg is None for keyword in call.keywords) or any(isinstance(one, ast.Starred) for one in call.args):
        return False
    given = argument(call, "dependencies", 1)
    return given is None or isinstance(given, (ast.List, ast.Tuple)) or _is_none(given)


def _counts(binding: Binding) -> bool:
    """A relative import is of the user's own; one that is not at the module's own level may be guarded."""
    return bool(binding.module) and not binding.module.startswith(".") and getattr(binding.node, "col_offset", 1) == 0


def _declared(module: Module, call: ast.Call | None) -> tuple[str, ...] | None:
    """The requirements as they are written; None where they cannot be read from the text."""
    if call is None:
        return ()
    if any(keyword.arg is None for keyword in call.keywords) or any(isinstance(one, ast.Starred) for one in call.args):
        return None
    given = argument(call, "dependencies", 1)
    if isinstance(given, ast.Name):
        given = module.constants.get(given.id, given)
    if given is None or _is_none(given):
        return ()
    if not isinstance(given, (ast.List, ast.Tuple, ast.Set)):
        return None
    texts = [one.value for one in given.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return tuple(texts) if len(texts) == len(given.elts) else None


def _line(declared: tuple[str, ...], requirement: str) -> str:
    return f"dependencies={[*declared, requirement]}".replace("'", '"')


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
