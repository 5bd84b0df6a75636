"""What is called fine runs in a bare process; what is refused as undefined, missing or unpicklable fails there.

Small modules are made up: names that mean all kinds of things or nothing, and a function that reads them from nested
functions, classes, comprehensions and lambdas, some of which bind the same names themselves. Everything is executed.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from runpod_flash.client.imports import imports_of_scope
from runpod_flash.client.scope import Scope
from runpod_flash.client.shipment import prepare
from runpod_flash.errors import EncodingError, ScopeError
from runpod_flash.payload.functions import pack_function
from tests.client.bare import BareProcess

NAMES = ("alpha", "beta", "gamma", "delta", "omega")
MEANINGS = {
    "nothing": "",
    "constant": "{name} = ('text', 1)",
    "lock": "{name} = threading.Lock()",
    "generator": "{name} = {{'deep': [(x for x in ())]}}",
    "class": "class {name}:\n    size = 1\n",
    "standard module": "import json as {name}",
    "own module": "import made_up.leaf as {name}",
    "logger": "{name} = logging.getLogger('{name}')",
    "cached": "@functools.cache\ndef {name}(): return 1",
    "partial": "{name} = functools.partial(len, 'abc')",
    "loop": "for {name} in range(3): pass",
}
IMPORTS = (
    "import json", "import os.path as path", "import made_up", "import made_up.leaf as leaf",
    "from made_up import leaf", "from made_up.inner import deep", "from made_up.inner.deep import VALUE",
    "import no_such_module_here", "from nowhere_at_all import thing", "import iniconfig", "import made_up.inner.deep",
    "try:\n    import no_such_module_here\nexcept ImportError:\n    pass",
    "try:\n    from nowhere_at_all import thing\nexcept (ImportError, KeyError) as error:\n    pass",
    "with contextlib.suppress(ModuleNotFoundError):\n    import no_such_module_here",
)  # fmt: skip
HEAD = "import contextlib, functools, logging, os, threading\n"
INSTALLED = ("iniconfig",)


def indented(lines: list[str]) -> str:
    return textwrap.indent("\n".join(lines) or "pass", "    ")


def read(name: str) -> str:
    return f"seen.append({name}() if type({name}).__name__ == 'function' else type({name}).__name__)"


@st.composite
def blocks(draw: Any, names: tuple[str, ...], depth: int, fresh: Iterator[int]) -> list[str]:
    """Statements of one scope: first what binds, then what reads, so that nothing is read before it is bound here."""
    bound = draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    lines = [draw(st.sampled_from([f"{one} = 0", f"[({one} := x) for x in (1, 2)]"])) for one in bound]
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(STATEMENTS if depth else STATEMENTS[:5]))
        name = draw(st.sampled_from(names)) if names else "int"
        inside = draw(blocks(names, depth - 1, fresh)) if kind in ("function", "class", "lambda") else []
        lines.append(statement(kind, name, draw(st.sampled_from(NAMES)), inside, next(fresh)))
    return lines


STATEMENTS = ("read", "comprehension", "guarded", "small lambda", "global", "function", "class")


def statement(kind: str, name: str, other: str, inside: list[str], number: int) -> str:
    if kind == "read":
        return read(name)
    if kind == "comprehension":
        return f"[{read(name)} for {other} in (1,) if {other}]"
    if kind == "guarded":
        # Of the one that is no helper: a guard around a call would also guard what the helper lacks.
        return f"try:\n    {read(NAMES[-1])}\nexcept NameError:\n    seen.append('none')"
    if kind == "small lambda":
        return f"(lambda {other}=1: {read(name)})()"
    if kind == "global":
        return f"def inner_{number}():\n    global {other}\n    {read(name)}\ninner_{number}()"
    if kind == "function":
        return f"def inner_{number}({other}=2, *rest):\n{indented(inside)}\ninner_{number}()"
    method = indented([f"def method(self, {other}):", indented(inside)])
    return f"class Inner{number}:\n    {other} = 3\n    {read(other)}\n{method}\nInner{number}().method(1)"


@st.composite
def modules(draw: Any) -> str:
    fresh = itertools.count()
    parts = [HEAD]
    for index, name in enumerate(NAMES):
        helpers = ["helper", "helper"] if name is not NAMES[-1] else []
        meaning = draw(st.sampled_from([*MEANINGS, "constant", *helpers]))
        if meaning == "helper":  # reads the names before it, so that helpers do not call each other forever
            body = draw(blocks(NAMES[:index], 1, fresh))
            parts.append(f"def {name}():\n    seen = []\n{indented(body)}\n    return seen")
        else:
            parts.append(MEANINGS[meaning].format(name=name))
    imports = draw(st.lists(st.sampled_from(IMPORTS), max_size=2))
    body = [*imports, *draw(blocks(NAMES, 2, fresh))]
    given = draw(st.sampled_from(("", "alpha=1", "beta=(), *gamma", "*, delta=None")))
    parts.append(f"def work({given}):\n    seen = []\n{indented(body)}\n    return seen")
    return "\n".join(parts) + "\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with a package, and one with the packages that may be added."""
    folder = tmp_path_factory.mktemp("project")
    inner = folder / "made_up" / "inner"
    inner.mkdir(parents=True)
    (folder / "made_up" / "__init__.py").write_text("from . import leaf\n")
    (folder / "made_up" / "leaf.py").write_text("from made_up.inner.deep import VALUE\n")
    (inner / "deep.py").write_text("import json\nVALUE = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareProcess]:
    process = BareProcess(tmp_path_factory.mktemp("runtime"))
    yield process
    process.close()


def folders_of(requirements: tuple[str, ...], project: Path) -> tuple[str, ...]:
    """What an environment with these requirements has on its path."""
    found = []
    for requirement in requirements:
        name = requirement.partition("==")[0]
        assert name in INSTALLED
        folder = project / f"installed-{name}"
        if not folder.exists():
            folder.mkdir()
            package = sys.modules[name].__file__ if name in sys.modules else __import__(name).__file__
            (folder / name).symlink_to(Path(str(package)).parent)
        found.append(str(folder))
    return tuple(found)


_numbers = itertools.count()


def load(text: str, folder: Path) -> types.FunctionType:
    """The function of a made-up module, which has a file as a user's has."""
    name = f"case_{next(_numbers)}"
    file = folder / f"{name}.py"
    file.write_text(text)
    module = types.ModuleType(name)
    module.__file__ = str(file)
    exec(compile(text, str(file), "exec"), module.__dict__)
    sys.modules[name] = module
    function: types.FunctionType = module.__dict__["work"]
    return function


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(text=modules())
def test_the_verdict_is_what_a_bare_process_finds(text: str, project: Path, bare: BareProcess) -> None:
    function = load(text, project)
    verdict: Any = None
    try:
        verdict = prepare(function, ())
    except ScopeError as error:
        verdict = error
    try:
        if isinstance(verdict, ScopeError):
            event("refused")
            assert fails(function, bare), f"{verdict}\n\n{text}"
        else:
            event("fine")
            folders = folders_of(verdict.requirements, project)
            answer = bare.run(verdict.packed.digest, verdict.packed.defs, (), folders)
            assert answer[0] == "ok", f"{answer}\n\n{text}"
    finally:
        del sys.modules[function.__module__]


def fails(function: types.FunctionType, bare: BareProcess) -> bool:
    """Whether a function cannot be sent, or ends with what its scope lacks."""
    try:
        packed = pack_function(function, modules=imports_of_scope(Scope(function)).sources.values())
    except EncodingError:
        return True
    return bare.run(packed.digest, packed.defs)[0] in ("NameError", "ModuleNotFoundError", "ImportError")
