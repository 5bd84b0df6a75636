"""However a program is started, its remote functions run: each form is a real run of the interpreter."""

from __future__ import annotations

import textwrap
import zipapp

import pytest

from tests.acceptance.launching.programs import ASKED, DECLARED, Programs

WHOLE = DECLARED + ASKED

RELATIVE = {
    "package/__init__.py": "",
    "package/__main__.py": "from .calls import answer\nfrom .things import Weight\n" + ASKED,
    "package/things.py": "FACTOR = 2\n\n\nclass Weight:\n    def __init__(self, value):\n        self.value = value\n",
    "package/calls.py": """
from runpod_flash import CpuLiveServerless, remote

from . import things
from .things import Weight


@remote(CpuLiveServerless("launching", workersMax=2))
def answer(weight):
    return Weight(things.FACTOR * weight.value)
""",
}

FORMS: dict[str, tuple[dict[str, str], list[str], str]] = {
    "a script": ({"program.py": WHOLE}, ["program.py"], ""),
    "a script with blanks and accents in its name": ({"mon café.py": WHOLE}, ["mon café.py"], ""),
    "a script without a suffix": ({"program": WHOLE}, ["program"], ""),
    "a script that is all main block": (
        {"program.py": f'if __name__ == "__main__":\n{textwrap.indent(WHOLE, "    ")}'},
        ["program.py"],
        "",
    ),
    "the option -c": ({}, ["-c", WHOLE], ""),
    "a script on standard input": ({}, ["-"], WHOLE),
    "a module of a package": (
        {"package/__init__.py": "", "package/inner/__init__.py": "", "package/inner/program.py": WHOLE},
        ["-m", "package.inner.program"],
        "",
    ),
    "a package with relative imports": (RELATIVE, ["-m", "package"], ""),
    "a module that is imported": (
        {"calls.py": DECLARED, "program.py": f"from calls import *\n{ASKED}"},
        ["program.py"],
        "",
    ),
    "code that is executed": ({"program.py": f"exec({WHOLE!r})"}, ["program.py"], ""),
    "code that is executed under a name that no module has": (
        {"program.py": f"exec({WHOLE!r}, {{'__name__': 'nowhere'}})"},
        ["program.py"],
        "",
    ),
    "a script that another one runs": (
        {"program.py": WHOLE, "runner.py": "import runpy\nrunpy.run_path('program.py', run_name='__main__')"},
        ["runner.py"],
        "",
    ),
    "a folder with a main module": (
        {"app/__main__.py": f"from calls import *\n{ASKED}", "app/calls.py": DECLARED},
        ["app"],
        "",
    ),
    "an isolated interpreter without docstrings": ({"program.py": WHOLE}, ["-I", "-OO", "program.py"], ""),
    "compiled modules whose sources are gone": (
        {
            "calls.py": DECLARED,
            "program.py": "import os, py_compile\n"
            "py_compile.compile('calls.py', 'calls.pyc')\n"
            f"os.remove('calls.py')\nfrom calls import *\n{ASKED}",
        },
        ["program.py"],
        "",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_remote_function_runs_in(form: str, programs: Programs) -> None:
    files, words, text = FORMS[form]
    programs.write(files)
    assert programs.python(*words, text=text) == "42\n"


def test_a_remote_function_runs_in_a_zip_file(programs: Programs) -> None:
    programs.write({"app/__main__.py": f"from calls import *\n{ASKED}", "app/calls.py": DECLARED})
    zipapp.create_archive(programs.folder / "app", programs.folder / "app.pyz")
    assert programs.python("app.pyz") == "42\n"


def test_a_frozen_program_is_told_that_it_cannot(programs: Programs) -> None:
    tried = "try:\n    answer.sync(Weight(1))\nexcept TypeError as error:\n    print(error)\n"
    programs.write({"program.py": f"import sys\n{DECLARED}\nsys.frozen = True\n{tried}"})
    printed = programs.python("program.py")
    assert "a frozen program cannot call remote functions" in printed
    assert "start the program with an installed Python" in printed
