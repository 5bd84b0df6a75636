"""`flash call`, as a person types it: mostly in this process (--local), which needs no engine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from runpod_flash.cli.verbs import flash
from runpod_flash.client import environment
from runpod_flash.testing import IsolatedEngine, isolated_engine

FLASH = (sys.executable, "-I", "-c", "from runpod_flash.cli.main import main; main()")

APP = '''
"""An app."""
import os
from typing import Literal
from runpod_flash import CpuLiveServerless, LiveLoadBalancer, remote

print("importing")
cpu = CpuLiveServerless(name="cpu", workersMax=1)

@remote(cpu)
def add(a: int, b: int = 3, *, loud: bool = False) -> int:
    """Add two numbers.

    More about it.

    Args:
        a: the first of them
        b: the second one
    """
    print("adding")
    return a + b

@remote(cpu)
async def told(mode: Literal["fast", "slow"] = "fast", data: bytes = b"", text: str = "", sizes: list[int] = []):
    """Say what came."""
    return {"mode": mode, "data": data.hex(), "text": text, "sizes": sizes}

@remote(cpu)
def rest(first, *others: int, **more):
    return [first, others, more]

@remote(cpu, max_retries=0)
def fails():
    raise ValueError("not good")

@remote(cpu)
def odd():
    return {1}

@remote(cpu)
def slow(path: str):
    import pathlib, time
    pathlib.Path(path).write_text("started")
    print("started")
    time.sleep(60)

@remote(LiveLoadBalancer(name="lb"))
def served(name: str):
    return "hello " + name + os.environ.get("GREETING", "")

def plain(): ...
'''


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Project:
    """A folder of the user's with files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file("app.py", APP)
        self.file("pyproject.toml", "")

    def file(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def start(self, *words: str, **environ: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*FLASH, "call", *words],
            cwd=self.folder,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *words: str, stdin: bytes = b"", **environ: str) -> Ended:
        with self.start(*words, **environ) as program:
            out, err = program.communicate(stdin, timeout=60)
        return Ended(program.returncode, out.decode(), err.decode())

    def local(self, *words: str, stdin: bytes = b"", **environ: str) -> Ended:
        return self.call("--local", *words, stdin=stdin, **environ)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    with isolated_engine() as made:
        yield made


# ── over an engine ────────────────────────────────────────────────────────────────────────────────


def test_a_call_prints_the_result_and_nothing_else_on_stdout(project: Project, engine: IsolatedEngine) -> None:
    code, out, err = project.call("app.py::add", "4", "-5")
    assert (code, out) == (0, "-1\n")
    assert err.splitlines()[0] == "importing"
    assert err.splitlines()[-1].endswith("] adding")


def test_a_failed_job_is_exit_code_1_with_the_users_traceback(project: Project, engine: IsolatedEngine) -> None:
    code, out, err = project.call("app.py::fails")
    assert (code, out) == (1, "")
    assert "FAILED: ValueError: not good" in err
    assert 'raise ValueError("not good")' in err
    assert "runpod_flash" not in err


def test_json_tells_all_of_the_job(project: Project, engine: IsolatedEngine) -> None:
    code, out, _ = project.call("app.py::add", "--a", "4", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["status"], facts["output"], facts["error"], facts["attempts"]) == ("COMPLETED", 7, None, 1)
    assert facts["id"]
    assert facts["ended_at"] >= facts["started_at"] > 0


def test_a_detached_call_prints_the_jobs_id(project: Project, engine: IsolatedEngine) -> None:
    code, out, _ = project.call("--detach", "app.py::told")
    assert code == 0
    assert len(out.strip()) == 36


def test_ctrl_c_cancels_the_job(project: Project, engine: IsolatedEngine) -> None:
    with project.start("app.py::slow", str(project.folder / "started")) as program:
        assert program.stderr is not None
        for line in program.stderr:
            if line.endswith(b"] started\n"):
                break
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)
    assert program.returncode == 130
    listed = subprocess.run([*FLASH, "jobs", "--function", "slow", "--json"], capture_output=True, check=True)
    assert [job["status"] for job in json.loads(listed.stdout)] == ["CANCELLED"]


# ── how it is written ─────────────────────────────────────────────────────────────────────────────


def test_help_is_made_of_signature_and_docstring(project: Project) -> None:
    code, out, _ = project.call("app.py::add", "--help")
    assert code == 0
    assert out == (
        "Usage: flash call app.py::add [OPTIONS] A [B]\n"
        "\n"
        "  Add two numbers.\n"
        "\n"
        "  More about it.\n"
        "\n"
        "Parameters:\n"
        "  --a INT             the first of them [required]\n"
        "  --b INT             the second one [default: 3]\n"
        "  --loud / --no-loud  [default: no-loud]\n"
        "\n"
        "Options of flash call:\n"
        "  --timeout SECONDS  Of one attempt, instead of the function's own.\n"
        "  --detach           Print the job's id and leave; the job goes on.\n"
        "  --local            Run in this process: no engine, no worker.\n"
        "  --json             Print the job as JSON: id, status, output, error, times.\n"
        "  --raw              Print a result that is text or bytes as it is.\n"
        "  -h, --help         Show this message and exit.\n"
    )


def test_without_a_function_the_remote_functions_are_listed(project: Project) -> None:
    code, out, err = project.call("app.py")
    assert code == 0
    assert out.splitlines()[:3] == [
        "FUNCTION  RESOURCE  WHAT IT DOES",
        "add       cpu       Add two numbers.",
        "told      cpu       Say what came.",
    ]
    assert "flags of one: flash call app.py::add --help" in err
    assert [row["name"] for row in json.loads(project.call("app.py", "--json").out)][-1] == "served"


def test_files_and_standard_input_are_read_for_any_parameter(project: Project) -> None:
    project.file("sizes.json", "[1, 2]")
    done = project.local(
        "app.py::told", "--data", "-", "--sizes", "@sizes.json", "--text", "@@home", stdin=bytes(range(256))
    )
    assert json.loads(done.out) == {"mode": "fast", "data": bytes(range(256)).hex(), "text": "@home", "sizes": [1, 2]}
    assert done.out.count("\n") == 1  # compact in a pipe


def test_several_values_may_be_repeated_or_stand_at_the_end(project: Project) -> None:
    assert json.loads(project.local("app.py::told", "--sizes", "1", "--sizes", "2").out)["sizes"] == [1, 2]
    assert json.loads(project.local("app.py::told", "slow", "ff", "x", "7", "-8").out)["sizes"] == [7, -8]


def test_variable_parameters_take_what_is_left(project: Project) -> None:
    done = project.local("app.py::rest", "1", "2", "-3", "--arg", "k=v", "--arg", "n=[5]")
    assert json.loads(done.out) == [1, [2, -3], {"k": "v", "n": [5]}]


def test_text_is_printed_bare_only_if_asked_for(project: Project) -> None:
    assert project.local("app.py::served", "you").out == '"hello you"\n'
    assert project.local("--raw", "app.py::served", "you").out == "hello you\n"


def test_what_is_no_json_is_shown_as_python_shows_it(project: Project) -> None:
    code, out, err = project.local("app.py::odd")
    assert (code, out) == (0, "{1}\n")
    assert "the result is no JSON" in err


def test_a_call_in_this_process_fails_as_a_job_does(project: Project) -> None:
    code, out, err = project.local("app.py::fails")
    assert (code, out) == (1, "")
    assert 'raise ValueError("not good")' in err
    assert "local.py" not in err
    assert project.local("app.py::fails", FLASH_LOCAL_RAISES="1").code == 1


def test_the_projects_env_file_is_read_and_set_variables_stay(project: Project) -> None:
    project.file(".env", 'GREETING=" from .env"\n')
    inside = project.file("inside/tool.py", APP)
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    assert project.local(str(inside) + "::served", "you").out == '"hello you from .env"\n'
    assert project.local("app.py::served", "you", GREETING="!").out == '"hello you!"\n'


def test_a_file_of_a_package_has_its_relative_imports_and_a_module_can_be_named(project: Project) -> None:
    project.file("pack/__init__.py", "")
    project.file("pack/words.py", "WORD = 'word'")
    project.file("pack/tool.py", f"from .words import WORD\n{APP}\n@remote(cpu)\ndef word(): return WORD\n")
    assert project.local("pack/tool.py::word").out == '"word"\n'
    assert project.local("pack.tool::word").out == '"word"\n'


def test_a_guarded_main_program_does_not_run_and_a_name_of_ours_is_free(project: Project) -> None:
    project.file("json.py", f"{APP}\nif __name__ == '__main__':\n    raise SystemExit('main ran')\n")
    assert project.local("json.py::add", "1").out == "4\n"


# ── what cannot be ────────────────────────────────────────────────────────────────────────────────

WRONG = [
    (["nothing.py::add"], 2, "there is no file nothing.py"),
    (["ap.py::add"], 2, "Did you mean 'app.py'?"),
    ([".::add"], 2, "is a folder"),
    (["::add"], 2, "names no file"),
    (["no.such.module::add"], 2, "there is no module 'no.such.module'"),
    (["app.py::"], 0, ""),
    (["app.py::ad"], 2, "has no remote function 'ad'. Did you mean 'add'?"),
    (["app.py::plain"], 2, "plain is no remote function"),
    (["app.py::add"], 2, "Missing --a INT."),
    (["app.py::add", "x"], 2, "Invalid value for --a: 'x' is no whole number"),
    (["app.py::add", "1", "2", "3"], 2, "'3' is one value too many: the function takes 2 by position"),
    (["app.py::add", "--aa", "1"], 2, "No such option"),
    (["app.py::add", "--a"], 2, "requires an argument"),
    (["app.py::add", "@missing.json"], 2, "the file 'missing.json' cannot be read: No such file or directory"),
    (["app.py::add", "@"], 2, "a file's name follows @"),
    (["app.py::add", "-", "-"], 2, "standard input was read for --a already"),
    (["app.py::told", "fats"], 2, "Did you mean 'fast'?"),
    (["app.py::told", "--text", "@photo.png"], 2, "no UTF-8 text"),
    (["app.py::rest", "1", "--arg", "x"], 2, "it is written NAME=VALUE"),
    (["app.py::rest", "1", "--arg", "first=2"], 2, "it has a flag of its own"),
    (["app.py::add", "1", "--timeout", "-1"], 2, "timeout"),
    (["--detach", "app.py::add", "1"], 2, "--local makes none"),
    (["photo.png::add"], 2, "cannot be read as Python"),
    (["broken.py::add"], 2, "cannot be read as Python"),
    (["raises.py::add"], 1, "ZeroDivisionError"),
    (["needs.py::add"], 1, "dependencies=[…]"),
    (["leaves.py::add"], 1, "SystemExit: 3"),
    (["empty.py"], 0, "has no remote functions"),
]


@pytest.fixture
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """This process is `flash`, started in the project's folder; what the call imports is forgotten afterwards."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1")))
    monkeypatch.setattr(environment, "_program", None)
    before = set(sys.modules)
    yield project
    for name in set(sys.modules) - before:
        if not name.startswith("runpod_flash"):
            del sys.modules[name]


@pytest.mark.parametrize(("words", "code", "told"), WRONG, ids=[ascii(" ".join(words)) for words, _, _ in WRONG])
def test_what_cannot_be_is_told_in_a_sentence(
    inside: Project, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    project = inside
    project.file("photo.png", b"\x89PNG\r\n\x1a\n\0\xff")
    project.file("broken.py", "def add(:\n")
    project.file("raises.py", "def inner():\n    return 1 / 0\n\ninner()\n")
    project.file("needs.py", "import not_installed_anywhere\n")
    project.file("leaves.py", "raise SystemExit(3)\n")
    project.file("empty.py", "")
    with pytest.raises(SystemExit) as left:
        flash(["call", "--local", *words], prog_name="flash")
    said = capsys.readouterr().err
    assert left.value.code == code, said
    assert told in said
    assert "Traceback" not in said


def test_a_closed_standard_input_is_told(inside: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as left:
        flash(["call", "--local", "app.py::add", "-"], prog_name="flash")
    assert left.value.code == 2


def test_an_error_while_importing_points_at_the_users_line(project: Project) -> None:
    file = project.file("raises.py", "def inner():\n    return 1 / 0\n\ninner()\n")
    assert project.local("raises.py::add").err == (
        "flash: raises.py cannot be imported: ZeroDivisionError: division by zero\n"
        f"  where: {file}:2\n"
        "         return 1 / 0\n"
        "  fix:   mend that line, or put what is to run only as a program under: if __name__ == '__main__':\n"
    )


def test_a_name_that_is_no_text_is_told_as_far_as_it_can_be(project: Project, engine: IsolatedEngine) -> None:
    code, _, err = project.local("\udcff.py::add")
    assert code == 2
    assert err.startswith("flash: there is no file \\udcff.py.")
    (project.folder / "\udcff.py").write_text(APP)
    assert project.local("\udcff.py::add", "1").code == 0
    code, _, err = project.call("\udcff.py::add", "1")
    assert code == 2
    assert "has bytes that are no UTF-8" in err
