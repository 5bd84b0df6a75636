"""Near misses of each rule: what has to be found in other words than the page's, and what has to be let pass."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.check import run
from tests.check.conftest import PRELUDE, Check, codes

DOUBLE = "@remote(config)\nasync def double(x: int) -> int:\n    return x * 2\n\n"


def inside(statements: str) -> str:
    return DOUBLE + "async def main(flag, session, job):\n" + textwrap.indent(textwrap.dedent(statements), "    ")


# ── FL301 ─────────────────────────────────────────────────────────────────────────────────────────

FORGOTTEN = [
    "double(1)",
    "double.spawn(1)",
    "await double.spawn(double(1))",
    "x = double(1)\nprint(x)",
    "x: int = double(1)\nreturn x + 1",
    "return double(1).output",
    "return double(1)['a']",
    "return double(1) + 1",
    "return f'{double(1)}'",
    "return str(double(1))",
    "return not double(1)",
    "if double(1): pass",
    "while double(1) > 3: pass",
    "for x in double(1): pass",
    "for x in double.map([1]): pass",
    "return [x for x in double.starmap([(1,)])]",
    "return list(double.map([1]))",
    "a, b = double(1)",
    "import json\nreturn json.dumps(double(1) if flag else None)",
    "x = double(1)\nx = x.output\nreturn x",
    "def later():\n    double(1)\nreturn later",
]


@pytest.mark.parametrize("statements", FORGOTTEN)
def test_a_forgotten_await_is_found(check: Check, statements: str) -> None:
    assert codes(check(inside(statements), strict=False)) == ["FL301"]


MEANT = [
    "await double(1)",
    "return double(1)",
    "yield double(1)",
    "return await (double(1) if flag else double(2))",
    "x = double(1)\nreturn await x",
    "x = double(1)\nx = await x\nprint(x)",
    "x = double(1)\nif flag:\n    return await x\nprint(x)",
    "x = double(1)\nreturn x",
    "x = double(1)\nsession.keep(x)",
    "x = y = double(1)",
    "session.call = double(1)",
    "session['call'] = double(1)",
    "calls = [double(n) for n in range(3)]\nfor call in calls:\n    await call",
    "import asyncio\nreturn await asyncio.gather(double(1), *map(double, [1]), *[double(n) for n in range(3)])",
    "import asyncio\nasync with asyncio.timeout(1):\n    return await asyncio.wait_for(double(1), 3)",
    "import asyncio\nx = asyncio.create_task(double(1))\nprint(x.done())",
    "import asyncio\nasync with asyncio.TaskGroup() as group:\n    group.create_task(double(1))",
    "x = {'a': double(1)}\nreturn {k: await v for k, v in x.items()}",
    "async for x in double.map([1]): pass",
    "return [x async for x in double.stream(1)]",
    "xs = double.map([1])\nasync for x in xs: pass",
    "double.sync(1)",
    "x = double.sync(1)\nprint(x.output)",
    "double(1).close()",
    "double.with_options(timeout=3)",
    "return lambda: double(1)",
    "job = session.double(1)\nprint(job.output)",
    "async def double(x): return x\nprint(double(1))",
    "double = session.get\nprint(double(1))",
    "for double in session.all():\n    double(1)",
    "call = double(1)\ndef go():\n    return call\nreturn go",
    "global call\ncall = double(1)",
    "assert double(1) is not None",
]


@pytest.mark.parametrize("statements", MEANT)
def test_an_awaitable_that_is_kept_or_handed_on_is_let_pass(check: Check, statements: str) -> None:
    assert codes(check(inside(statements), strict=False)) == []


def test_a_parameter_of_the_same_name_is_something_else(check: Check) -> None:
    assert codes(check(f"{DOUBLE}def test(double):\n    assert double(1) == 2\n", strict=False)) == []


def test_calls_of_functions_from_files_beside_this_one_are_known(check: Check, tmp_path: Path) -> None:
    worker = tmp_path / "workers" / "gpu"
    worker.mkdir(parents=True)
    (worker / "endpoint.py").write_text(PRELUDE + DOUBLE)
    (worker / "__init__.py").write_text("from .endpoint import double as twice\n")
    (tmp_path / "pyproject.toml").touch()
    text = "from workers.gpu import twice\nfrom workers.gpu.endpoint import double\n\n\nasync def main():\n    {0}\n"
    assert codes(check(text.format("print(twice(1))"), prelude="", name="routes.py")) == ["FL301"]
    assert codes(check(text.format("double(1)"), prelude="", name="app/routes.py")) == ["FL301"]
    assert codes(check(text.format("return await twice(1)"), prelude="", name="routes.py")) == []


# ── FL1 ───────────────────────────────────────────────────────────────────────────────────────────

REACHES = {
    "a typo in a helper": ("def g(): return lenght([])\n@remote(config)\nasync def f(): return g()", ["FL101"]),
    "a package of a helper": ("def g():\n    import no_such\n@remote(config)\nasync def f(): return g()", ["FL102"]),
    "under except NameError": (
        "@remote(config)\nasync def f():\n    try: return unicode\n    except NameError: return str",
        [],
    ),
    "a guarded import": (
        "@remote(config)\nasync def f():\n    try: import no_such\n    except ImportError: no_such = None",
        [],
    ),
    "a name from a star": ("from os.path import *\n@remote(config)\nasync def f(): return join('a', 'b')", []),
    "a name that another function binds": (
        "def start():\n    global POOL\n    POOL = 1\n@remote(config)\nasync def f(): return POOL",
        [],
    ),
    "defined below": ("@remote(config)\nasync def f(): return g()\ndef g(): return 1", []),
    "of a factory": (
        "def make(scale):\n    base = 1\n    @remote(config)\n    async def f(): return scale + base\n    return f",
        [],
    ),
    "another remote function": (f"{DOUBLE}@remote(config)\nasync def f(): return (await double(1)).output", []),
    "a logger": (
        "import logging\nlogger = logging.getLogger(__name__)\n@remote(config)\nasync def f(): logger.info('x')",
        [],
    ),
    "its own arguments changed": ("@remote(config)\nasync def f(x): x.append(1); return x", []),
    "a global counter": ("N = 0\n@remote(config)\nasync def f():\n    global N\n    N += 1", ["FL105"]),
    "a global of its own": ("@remote(config)\nasync def f():\n    global N\n    N = 1\n    return N", []),
    "an attribute set": ("class S: n = 0\n@remote(config)\nasync def f(): S.n = 1", ["FL105"]),
    "a method of what is inside": ("T = [{1}]\n@remote(config)\nasync def f(): T[0].add(2)", ["FL105"]),
    "two packages, one declared": (
        "@remote(config, ['no-such-a'])\nasync def f():\n    import no_such_a, no_such_b",
        ["FL102"],
    ),
    "a secret of many": ("SECRETS = {'a': 'b'}\n@remote(config)\nasync def f(): return SECRETS", []),
    "a secret that is read": (
        "import os\nDB_PASSWORD = os.environ.get('X', 'y')\n@remote(config)\nasync def f(): return DB_PASSWORD",
        ["FL106"],
    ),
    "an item set": ("CACHE = {}\n@remote(config)\nasync def f(x): CACHE[x] = 1", ["FL105"]),
    "a method that only sounds so": (
        "class T:\n    def update(self, x): pass\nH = T()\n@remote(config)\nasync def f(): H.update(b'x')",
        [],
    ),
    "a setting of a module": ("import decimal\n@remote(config)\nasync def f(): decimal.getcontext().prec = 5", []),
    "no secret": ("MAX_TOKENS = 5\nsort_key = len\n@remote(config)\nasync def f(): return MAX_TOKENS", []),
    "a secret that is none": ("API_KEY = None\n@remote(config)\nasync def f(): return API_KEY", []),
    "a file in a with": ("with open('a') as F:\n    @remote(config)\n    async def f(): return F.read()", ["FL107"]),
    "at home": ("import numpy\n@remote(config, local=True)\nasync def f(): return len(str(numpy.abs(1)))", []),
    "other name, same package": ("@remote(config, ['scikit-learn'])\nasync def f(): import sklearn", []),
    "a requirement that nobody knows": ("@remote(config, ['odd-dist'])\nasync def f(): import oddly_named", []),
    "requirements of another line": ("NEEDS = ['numpy']\n@remote(config, NEEDS)\nasync def f(): import numpy", []),
    "a class of the file": (
        "class Model:\n    def run(self): return undefined_here\n@remote(config)\nasync def f(): Model().run()",
        ["FL101"],
    ),
    "a remote class": ("@remote(config)\nclass C:\n    def f(self): return undefined_here", ["FL101"]),
    "a wrapped function": ("async def g(): return undefined_here\nfast = remote(config)(g)", ["FL101"]),
    "comprehensions and walrus": (
        "@remote(config)\nasync def f(xs):\n    if (n := len(xs)): return [n + x for x in xs if (y := x)] + [y]",
        [],
    ),
}


REFUSED = {"FL101", "FL102", "FL105", "FL106", "FL107"}
DEFERRED = {
    "a name that another function binds", "defined below", "of a factory", "a remote class", "a wrapped function",
    "at home", "a class of the file",
}  # fmt: skip
"""Whose function has another name, or that only fail when they run."""


@pytest.mark.parametrize("name", sorted(set(REACHES) - DEFERRED))
def test_what_is_called_an_error_is_what_a_call_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from runpod_flash import ScopeError
    from runpod_flash.client.shipment import prepare

    text, expected = REACHES[name]
    (tmp_path / "a").touch()
    monkeypatch.chdir(tmp_path)
    module = loaded(monkeypatch, tmp_path / "theirs.py", PRELUDE + text + "\n")
    try:
        prepare(module.f.__wrapped__, module.f.__remote_config__.requirements)
    except ScopeError:
        assert REFUSED.intersection(expected)
    else:
        assert not REFUSED.intersection(expected)


def loaded(monkeypatch: pytest.MonkeyPatch, file: Path, text: str) -> Any:
    """The text as a module of the user's own."""
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("theirs", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "theirs", module)
    spec.loader.exec_module(module)
    return module


def test_a_name_that_is_nowhere_is_told_under_except_exception_too(check: Check) -> None:
    """A call lets it pass, since it would be survived; but nobody means it."""
    text = "@remote(config)\nasync def f():\n    try: return pront(1)\n    except Exception: raise\n"
    assert codes(check(text, strict=False)) == ["FL101"]


@pytest.mark.parametrize("name", REACHES)
def test_what_a_function_reaches(check: Check, name: str) -> None:
    text, expected = REACHES[name]
    assert codes(check(text + "\n", strict=False)) == expected


def test_modules_of_the_project_are_no_packages(check: Check, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "mine.py").touch()
    (tmp_path / "src" / "lib").mkdir(parents=True)
    (tmp_path / "src" / "lib" / "__init__.py").touch()
    text = (
        "@remote(config)\nasync def f():\n    import mine, lib.part\n    from . import near\n    from .near import x\n"
    )
    assert codes(check(text, name="app/worker.py", strict=False)) == []
    assert codes(check(text, name="app/worker.py")) == ["FL108"] * 4, "by the letter they are from outside"


def test_packages_of_modules_that_go_along_are_needed_too(check: Check, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").touch()
    (tmp_path / "lib" / "a.py").write_text("from . import b\n")
    (tmp_path / "lib" / "b.py").write_text(
        "import no_such, lib.a\ntry:\n    import nor_this\nexcept ImportError: ...\ndef f(): import nor_that\n"
    )
    text = "@remote(config{0})\nasync def f():\n    from lib.a import b\n"
    (found,) = check(text.format(""), strict=False)
    assert (found.rule.code, found.line) == ("FL102", (PRELUDE + text).count("\n"))
    assert found.what == "f imports lib/b.py, which imports no_such, and that is not in dependencies"
    assert check(text.format(", ['no-such']"), strict=False) == []


def test_a_package_that_the_project_requires_is_only_a_note(check: Check, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# all\n--no-binary numpy\nnumpy>=1  # arrays\n")
    text = "@remote(config)\nasync def f():\n    import numpy\n"
    assert codes(check(text, strict=False)) == []
    assert codes(check(text)) == ["FL104"]


# ── FL2, FL4 ──────────────────────────────────────────────────────────────────────────────────────

RETURNS = [
    ("return {1, 2}", "a set"),
    ("return [b'x']", "bytes"),
    ("return {'a': {'b': 1j}}", "a complex number"),
    ("return (x for x in [])", "a generator"),
    ("return lambda: 1", "a function"),
    ("import numpy as np\n    return np.zeros(3)", "an array"),
    ("from pandas import DataFrame\n    return DataFrame()", "a table"),
    ("import datetime as dt\n    now = dt.datetime.now()\n    return {'now': now}", "a datetime"),
    ("class Own: pass\n    return Own()", "an instance of Own"),
    ("return 1 if x else {2}", "a set"),
]


@pytest.mark.parametrize(("body", "kind"), RETURNS)
def test_what_is_visibly_not_json_is_named(check: Check, body: str, kind: str) -> None:
    found = check(f"@remote(config, ['numpy', 'pandas'])\nasync def f(x=1):\n    {body}\n", strict=False)
    assert [one.what for one in found] == [f"f returns {kind}, which is not JSON"]


JSON = [
    "return {'a': [1, 'b', None, (1.5, True)]}",
    "return sorted({1, 2})",
    "return len(b'x')",
    "def g(): return {1}\n    return list(g())",
    "now = set()\n    now = 1\n    return now",
    "import datetime\n    return datetime.datetime.now().isoformat()",
    "from dataclasses import dataclass\n    @dataclass\n    class Own: x: int\n    return Own(1)",
    "from pydantic import BaseModel\n    class Own(BaseModel): x: int\n    return Own(x=1)",
    "import numpy as np\n    return np.zeros(3).tolist()",
    "import numpy as np\n    return float(np.array(1))",
    "yield 1",
    "return x()",
]


@pytest.mark.parametrize("body", JSON)
def test_what_may_be_json_is_let_pass(check: Check, body: str) -> None:
    assert codes(check(f"@remote(config, ['numpy', 'pydantic'])\nasync def f(x=1):\n    {body}\n", strict=False)) == []


DECLARED = {
    "LiveServerless(name='')": "FL402",
    "LiveServerless()": "FL402",
    "LiveServerless(name='a', workersMin=5, workersMax=2)": "FL402",
    "LiveServerless('a', idleTimeout=-1)": "FL402",
    "LiveServerless('a', gpus=['H1000'])": "FL402",
    "CpuLiveServerless('a', gpus=[])": "FL402",
    "CpuLiveServerless('a', cpucount=3)": "FL401",
    "remote(config, dependancies=[])(len)": "FL401",
    "remote(config, timeout=0)": "FL402",
    "remote(config, timeout=-5)": "FL402",
    "remote(config, max_retries=1.5)": "FL402",
    "remote(config, dependencies='numpy')": "FL402",
    "remote(config, env={'A': 1})": "FL402",
    "remote(config, method='GET')": "FL403",
    "remote(config, path='/a')": "FL403",
    "remote(api, path='/ping')": "FL403",
    "remote(api, path='a')": "FL403",
    "remote(api, method='FETCH')": "FL403",
    "remote(unknown, path='a')": "FL403",
    "remote()": "FL405",
}


@pytest.mark.parametrize("call", DECLARED)
def test_what_a_program_would_be_refused_is_refused_here(check: Check, call: str) -> None:
    text = f"@{call}\nasync def f(): pass\n" if call.startswith("remote") else f"other = {call}\n"
    text = text.replace("(len)", "")
    assert set(codes(check(text, strict=False))) == {DECLARED[call]}


FINE = [
    "LiveServerless(name=NAME, workersMin=N, workersMax=1)",
    "LiveServerless(**OPTIONS)",
    "LiveServerless(*ALL)",
    "LiveServerless(name='a', env={'A': VALUE, 'B': None}, idleTimeout=N)",
    "remote(config, timeout=N, max_retries=compute())",
    "remote(unknown, path='/a', method='get')",
    "remote(api, path=PATH)",
    "remote(**OPTIONS)",
    "remote(*ALL)",
    "remote(config, sync=True)",
]


@pytest.mark.parametrize("call", FINE)
def test_what_only_the_program_knows_is_let_pass(check: Check, call: str) -> None:
    text = f"@{call}\nasync def f(): pass\n" if call.startswith("remote") else f"other = {call}\n"
    assert codes(check(f"from somewhere import *\n{text}", strict=False)) == []


def test_a_name_of_ours_counts_however_it_was_imported(check: Check) -> None:
    for prelude, deco in (
        ("import runpod_flash", "@runpod_flash.remote(runpod_flash.CpuLiveServerless('a'))"),
        ("import tetra_rp as t", "@t.remote(t.CpuLiveServerless('a'))"),
        ("from tetra_rp import remote as r, CpuLiveServerless as C", "@r(C('a'))"),
        ("from runpod_flash import *", "@remote(CpuLiveServerless('a'))"),
        (
            "import runpod_flash.core.resources as res\nfrom tetra_rp import remote",
            "@remote(res.CpuLiveServerless('a'))",
        ),
    ):
        text = f"{prelude}\n{deco}\nasync def f(): return undefined_here\n"
        assert codes(check(text, prelude="", strict=False)) == ["FL101"], prelude
    text = "from celery import remote\n@remote()\ndef f(): return undefined_here\n"
    assert codes(check(text, prelude="")) == []


def test_the_same_function_twice_replaces_itself(check: Check) -> None:
    text = "@remote(api)\nasync def f(): return 1\n@remote(api)\nasync def f(): return 2\n"
    assert codes(check(text, strict=False)) == []


def test_findings_are_in_the_order_of_files_and_places(tmp_path: Path) -> None:
    for name in ("b.py", "a.py"):
        (tmp_path / name).write_text(
            f"{PRELUDE}@remote(config, timeout=0)\nasync def f(x=[]): return undefined_here, {{1}}\n"
        )
    found = run.check([str(tmp_path)], run.View()).findings
    assert codes(found) == ["FL402", "FL202", "FL101", "FL203"] * 2
    assert found == sorted(found, key=lambda one: one.order)
