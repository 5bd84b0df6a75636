"""`--fix` changes what it says it changes, and nothing else."""

from __future__ import annotations

import ast
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runpod_flash.check import mending, run
from runpod_flash.check.finding import Finding
from tests.check.conftest import PRELUDE

NUMPY = f'"numpy=={version("numpy")}"'


def findings(file: Path) -> list[Finding]:
    return run.check([str(file)], run.View(strict=True)).findings


def mended(folder: Path, text: str, name: str = "app.py", encoding: str = "utf-8") -> str:
    """The text after `--fix`, from disk and back."""
    file = folder / name
    file.write_bytes(text.encode(encoding))
    for one in mending.mend(findings(file)):
        mending.write(one)
    return file.read_bytes().decode(encoding)


def case(before: str, after: str) -> tuple[str, str]:
    return before, after.replace("NUMPY", NUMPY)


# ── imports ───────────────────────────────────────────────────────────────────────────────────────

ONE = '\n@remote(config, ["numpy"])\nasync def f(x):\n'
MOVES = {
    "alone": case(
        f"import numpy as np\n{PRELUDE}{ONE}    return np.sum(x)\n",
        f"{PRELUDE}{ONE}    import numpy as np\n    return np.sum(x)\n",
    ),
    "one of several": case(
        f"{PRELUDE}from numpy import (\n    abs,  # kept\n    ones, zeros,\n)\nprint(abs)\n{ONE}    return zeros(x)\n",
        f"{PRELUDE}from numpy import (\n    abs,  # kept\n    ones,\n)\nprint(abs)\n{ONE}"
        "    from numpy import zeros\n    return zeros(x)\n",
    ),
    "the first of several": case(
        f"{PRELUDE}import numpy, os\nprint(os)\n{ONE}    return numpy.zeros(x)\n",
        f"{PRELUDE}import os\nprint(os)\n{ONE}    import numpy\n    return numpy.zeros(x)\n",
    ),
    "used elsewhere": case(
        f"{PRELUDE}import numpy\nprint(numpy)\n{ONE}    return numpy.zeros(x)\n",
        f"{PRELUDE}import numpy\nprint(numpy)\n{ONE}    import numpy\n    return numpy.zeros(x)\n",
    ),
    "exported": case(
        f'{PRELUDE}import numpy\n__all__ = ["numpy"]\n{ONE}    return numpy.zeros(x)\n',
        f'{PRELUDE}import numpy\n__all__ = ["numpy"]\n{ONE}    import numpy\n    return numpy.zeros(x)\n',
    ),
    "an annotation": case(
        f"{PRELUDE}import numpy\n\n@remote(config, ['numpy'])\ndef f(x: numpy.int64):\n    return numpy.abs(x)\n",
        f"{PRELUDE}import numpy\n\n@remote(config, ['numpy'])\ndef f(x: numpy.int64):\n"
        "    import numpy\n    return numpy.abs(x)\n",
    ),
    "two modules under one name": case(
        f"{PRELUDE}import numpy.linalg\nimport numpy.fft  # fast\n{ONE}    return numpy.linalg, numpy.fft.fft(x)\n",
        f"{PRELUDE}{ONE}    import numpy.linalg\n    import numpy.fft  # fast\n"
        "    return numpy.linalg, numpy.fft.fft(x)\n",
    ),
    "after the docstring, above the comment": case(
        f'{PRELUDE}import numpy\n{ONE}    """Says\n    what."""\n\n    # why\n    return numpy.abs(x)\n',
        f'{PRELUDE}{ONE}    """Says\n    what."""\n    import numpy\n\n    # why\n    return numpy.abs(x)\n',
    ),
    "on one line": case(
        f"{PRELUDE}import numpy  # of arrays\n\n@remote(config, ['numpy'])\ndef f(x): return numpy.abs(x)\n",
        f"{PRELUDE}# of arrays\n\n@remote(config, ['numpy'])\ndef f(x): import numpy; return numpy.abs(x)\n",
    ),
    "behind a backslash": case(
        f"{PRELUDE}import numpy\n\n@remote(config, ['numpy'])\ndef f(x): \\\n    return numpy.abs(x)\n",
        f"{PRELUDE}\n@remote(config, ['numpy'])\ndef f(x): \\\n    import numpy; return numpy.abs(x)\n",
    ),
    "beside another statement": case(
        f"{PRELUDE}import numpy; y = 1\n{ONE}    return numpy.abs(x)\n",
        f"{PRELUDE}import numpy; y = 1\n{ONE}    import numpy\n    return numpy.abs(x)\n",
    ),
    "before a decorated definition": case(
        f"{PRELUDE}import numpy\n{ONE}    @staticmethod\n    def g(): return numpy\n    return g\n",
        f"{PRELUDE}{ONE}    import numpy\n    @staticmethod\n    def g(): return numpy\n    return g\n",
    ),
    "tabs and windows": case(
        f"import numpy\n{PRELUDE}{ONE}".replace("    ", "\t").replace("\n", "\r\n") + "\treturn numpy.abs(x)",
        f"{PRELUDE}{ONE}".replace("\n", "\r\n") + "\timport numpy\r\n\treturn numpy.abs(x)",
    ),
    "methods of a class": case(
        f"{PRELUDE}import numpy\n\n@remote(config, ['numpy'])\nclass C:\n"
        "    def __init__(self):\n        self.x = numpy\n\n"
        "    def f(self):\n        return numpy.abs(1)\n\n    def g(self):\n        return 1\n",
        f"{PRELUDE}\n@remote(config, ['numpy'])\nclass C:\n    def __init__(self):\n        import numpy\n"
        "        self.x = numpy\n\n    def f(self):\n        import numpy\n        return numpy.abs(1)\n\n"
        "    def g(self):\n        return 1\n",
    ),
    "letters of other alphabets": case(
        f"{PRELUDE}é = 'ü'; è = 'ö'\nimport numpy\n{ONE}    'ñ'; return 'ß', numpy.abs(x)\n",
        f"{PRELUDE}é = 'ü'; è = 'ö'\n{ONE}    'ñ'; import numpy; return 'ß', numpy.abs(x)\n",
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_an_import_moves_inside(tmp_path: Path, name: str) -> None:
    before, after = MOVES[name]
    assert mended(tmp_path, before) == after


UNTOUCHED = {
    "guarded": "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n",
    "bound twice": "import numpy\nnumpy = numpy or 1\n",
    "of a type checker": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_an_import_that_is_more_than_an_import_stays(tmp_path: Path, name: str) -> None:
    text = f"{UNTOUCHED[name]}{PRELUDE}{ONE}    return numpy.abs(x)\n"
    assert mended(tmp_path, text) == text


def test_the_names_of_a_package_stay_for_others(tmp_path: Path) -> None:
    text = f"import numpy\n{PRELUDE}{ONE}    return numpy.abs(x)\n"
    assert mended(tmp_path, text, "__init__.py").startswith("import numpy\n")


# ── dependencies ──────────────────────────────────────────────────────────────────────────────────

ADDITIONS = {
    "config": "config, dependencies=[NUMPY]",
    "config, ": "config, dependencies=[NUMPY]",
    "config,": "config, dependencies=[NUMPY]",
    "resource_config=(config)": "resource_config=(config), dependencies=[NUMPY]",
    "config, dependencies=[]": "config, dependencies=[NUMPY]",
    "config, dependencies=()": "config, dependencies=(NUMPY,)",
    "config, dependencies=None, timeout=5": "config, dependencies=[NUMPY], timeout=5",
    "config, ['a']": "config, ['a', NUMPY]",
    "config, ['a', ]": "config, ['a', NUMPY]",
    "config, ['a',]": "config, ['a', NUMPY]",
    "config, [('a')]": "config, [('a'), NUMPY]",
    "config, dependencies=('a',)": "config, dependencies=('a', NUMPY)",
    "\n    config,\n": "\n    config,\n    dependencies=[NUMPY],\n",
    "\n    config  # why, and how\n": "\n    config,  # why, and how\n    dependencies=[NUMPY],\n",
    "\n    config,\n    dependencies=[\n        'a',  # this\n        'b'  # that, too\n    ],\n": (
        "\n    config,\n    dependencies=[\n        'a',  # this\n        'b',  # that, too\n        NUMPY,\n    ],\n"
    ),
    "config, dependencies=[\n    'a',\n    'b']": "config, dependencies=[\n    'a',\n    'b', NUMPY]",
}


@pytest.mark.parametrize("before", ADDITIONS)
def test_a_requirement_is_written_as_its_neighbours_are(tmp_path: Path, before: str) -> None:
    body = "\nasync def f():\n    import numpy\n"
    after = mended(tmp_path, f"{PRELUDE}@remote({before}){body}")
    assert after == f"{PRELUDE}@remote({ADDITIONS[before].replace('NUMPY', NUMPY)}){body}"


@pytest.mark.parametrize("given", ["config, NAMES", "config, ['a', *NAMES]", "config, **OPTIONS", "*ALL"])
def test_requirements_that_only_the_program_knows_stay(tmp_path: Path, given: str) -> None:
    text = f"{PRELUDE}@remote({given})\nasync def f():\n    import numpy\n"
    assert mended(tmp_path, text) == text


def test_a_decorator_that_functions_share_gets_all_that_they_need(tmp_path: Path) -> None:
    text = f"{PRELUDE}fast = remote(config)\n@fast\ndef f(): import numpy\n@fast\ndef g(): import no_such, numpy\n"
    assert f'fast = remote(config, dependencies=[{NUMPY}, "no-such"])\n' in mended(tmp_path, text)


def test_the_bytes_around_a_change_stay(tmp_path: Path) -> None:
    head = "\ufeff# -*- coding: utf-8 -*-\n\x0c\n# ünï\u2028code\n"
    tail = "\n\n# the end, without one\n\t \n#"
    text = f"{head}{PRELUDE}@remote(config)\nasync def f():\n    import numpy{tail}"
    after = mended(tmp_path, text)
    assert after == text.replace("remote(config)", f"remote(config, dependencies=[{NUMPY}])")


def test_a_file_that_was_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    from runpod_flash import FlashError

    file = tmp_path / "app.py"
    file.write_text(f"{PRELUDE}@remote(config)\nasync def f():\n    import numpy\n")
    (change,) = mending.mend(findings(file))
    file.write_text("# something else\n")
    with pytest.raises(FlashError, match="was changed meanwhile"):
        mending.write(change)
    assert file.read_text() == "# something else\n"


# ── whatever a module looks like ──────────────────────────────────────────────────────────────────

IMPORTS = st.sampled_from(
    [
        "import numpy as np", "import numpy", "from numpy import zeros, ones", "import numpy.linalg", "import math",
        "import numpy, math", "from numpy import (\n    zeros,\n    ones as uno,  # one\n)", "import json  # text",
        "from pandas import DataFrame; y = 1", "import no_such_thing", "from no_such.thing import a, b as c",
        "if True:\n    import numpy", "try:\n    import pandas\nexcept ImportError:\n    pandas = None",
    ]
)  # fmt: skip
NAMES = [
    "np",
    "numpy",
    "zeros",
    "ones",
    "uno",
    "math",
    "json",
    "DataFrame",
    "no_such_thing",
    "a",
    "c",
    "pandas",
    "y",
    "x",
]
USES = st.lists(st.sampled_from(NAMES), max_size=4)
STATEMENTS = st.sampled_from(
    [
        "z = {0}", "# {0}\n    z = {0}", "def g(): return {0}", "import pandas as {0}", "z = [{0} for {0} in x]",
        "return {0}.b", "with {0} as z: pass", '"""{0}"""', "@{0}\n    def h(q={0}): ...", "global_ = 'é', {0}",
    ]
)  # fmt: skip
CALLS = st.sampled_from([*ADDITIONS, "config, NAMES", "config, ['numpy']", "config, ['a'], local=True"])
HEADS = st.sampled_from(
    [
        "async def f{0}(x):", "def f{0}(x: np = None):", "def f{0}(\n    x,  # first\n):",
        'def f{0}(x):\n    """Says."""',
        "class F{0}:",
    ]
)  # fmt: skip


@st.composite
def modules(draw: st.DrawFn) -> str:
    lines = [*draw(st.lists(IMPORTS, max_size=4)), PRELUDE, "NAMES = ['numpy']"]
    for number in range(draw(st.integers(1, 3))):
        body = [draw(STATEMENTS).format(name) for name in draw(USES)] or ["pass"]
        head = draw(HEADS).format(number)
        if head.startswith("class"):
            body = ["y = 1", "def m(self):\n        return " + (draw(USES) or ["x"])[0]]
        lines += [f"@remote({draw(CALLS)})", head, *(f"    {one}" for one in body), ""]
    lines += [f"print({name})" for name in draw(USES)]
    text = "\n".join(lines)
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))).replace(
        "    ", draw(st.sampled_from(["    ", "\t"]))
    )


def kinds(found: list[Finding]) -> Counter[tuple[str, str]]:
    """Findings without their lines, which move."""
    return Counter((one.rule.code, one.what.partition(", in line")[0].partition(" (")[0]) for one in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=modules())
def test_a_mended_file_has_nothing_left_to_mend_and_keeps_its_other_findings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "app.py"
    file.write_bytes(text.encode())
    before = findings(file)
    if before and before[0].rule.code == "FL001":
        return
    after_text = mended(tmp_path, text)
    ast.parse(after_text)
    after = findings(file)
    assert [one for one in after if one.repair] == []
    assert kinds(after) == kinds([one for one in before if not one.repair])
    assert mended(tmp_path, after_text) == after_text
    assert ("\n" in after_text.replace("\r\n", "")) == ("\n" in text.replace("\r\n", ""))
