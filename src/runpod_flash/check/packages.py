"""Rules on packages: what a remote function imports has to be in its `dependencies`."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runpod_flash.analysis import distributions, modules
from runpod_flash.analysis.bindings import Binding
from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Module, Remote, argument
from runpod_flash.check.reach import Part, Reach
from runpod_flash.check.repairs import AddDependency
from runpod_flash.settings import project_root


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A module that is imported where a worker will do it."""

    module: str
    place: ast.AST
    part: Part


class Packages:
    """What one remote function declares, and whose the modules that it imports are."""

    def __init__(self, module: Module, remote: Remote) -> None:
        self.module = module
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
        if _beside(self.folder, top):
            return True
        found = modules.find(top)
        return found is not None and found.owner == "own"

    def check(self, reach: Reach) -> Iterator[Finding]:
        """Findings about packages that no requirement brings."""
        if self.declared is None or self.runs_here:
            return
        seen: set[str] = set()
        asked = list(_wanted(reach))
        for wanted in asked:
            if wanted.module not in seen and self._is_missing(wanted.module, [one.module for one in asked]):
                seen.add(wanted.module)
                yield self._finding(reach.remote, wanted)

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


@functools.lru_cache(maxsize=256)
def project_requirements(folder: Path) -> tuple[str, ...]:
    """What the project around a folder requires: the nearest pyproject.toml or requirements.txt that says something."""
    for place in up_to_root(folder):
        found = [*_of_pyproject(place / "pyproject.toml"), *_of_requirements(place / "requirements.txt")]
        if found:
            return tuple(found)
    return ()


def _wanted(reach: Reach) -> Iterator[_Wanted]:
    for part in reach.parts:
        for one in part.facts.imports:
            if not one.guarded and not one.level and one.module:
                yield _Wanted(one.module, part.place("", one.line), part)
    for part, use, binding in reach.uses():
        if binding is not None and binding.kind == "import" and _counts(binding) and not use.guarded:
            yield _Wanted(binding.module, part.place(use.name, use.lines[0]), part)


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


def _beside(folder: Path, top: str) -> bool:
    """Whether a module of this name lies in the folder or, up to the project's root, around it."""
    return any(_is_module(place / top) or _is_module(place / "src" / top) for place in up_to_root(folder))


@functools.lru_cache(maxsize=1024)
def up_to_root(folder: Path) -> tuple[Path, ...]:
    """A folder and those around it, up to that of its project; without a project only itself."""
    root = project_root(folder)
    around = (folder, *folder.parents)
    return around[: around.index(root) + 1] if root in around else (folder,)


@functools.lru_cache(maxsize=4096)
def _is_module(path: Path) -> bool:
    return path.with_name(f"{path.name}.py").is_file() or (path.is_dir() and any(path.glob("*.py")))


def _of_pyproject(path: Path) -> list[str]:
    if not path.is_file():
        return []
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - only where there is a project
    else:
        import tomli as tomllib  # noqa: PLC0415 - see above
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):  # no project, or a file that other tools complain about
        return []
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _of_requirements(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    bare = (re.split(r"\s#|^#", line)[0].strip() for line in lines)
    return [line for line in bare if line and not line.startswith("-")]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
