"""A notebook, and Python's own prompts in a terminal: real ones, with somebody who types and interrupts."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from runpod_flash.testing import IsolatedEngine
from tests.acceptance.launching.programs import DECLARED, Programs

NAP: Final = """
@remote(CpuLiveServerless("launching", workersMax=2), max_retries=0)
async def nap(seconds):
    import asyncio

    print("napping", flush=True)
    await asyncio.sleep(seconds)

"""


class Shown(NamedTuple):
    """What a cell shows below itself."""

    value: str
    stdout: str
    stderr: str
    error: str


class Notebook:
    """A kernel as a notebook starts it, and its cells."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.folder = folder
        self._manager: Any = KernelManager()
        self._manager.start_kernel(
            cwd=str(folder),
            env={**os.environ, "IPYTHONDIR": str(folder / "settings")},
            extra_arguments=["--HistoryManager.enabled=False"],
        )
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, cell: str, *, interrupt_at: str = "") -> Shown:
        """Runs a cell to its end, or until it has printed `interrupt_at` and somebody presses the square button."""
        text = {"stdout": "", "stderr": ""}
        value = error = ""
        asked = self._client.execute(cell)
        while True:
            message = self._client.get_iopub_msg(timeout=30)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                text[content["name"]] += content["text"]
                if interrupt_at and interrupt_at in text["stderr"]:
                    interrupt_at = ""
                    self._manager.interrupt_kernel()
                    # The kernel takes notice of a signal when its loop has something to do.
                    self._client.kernel_info()
            elif kind == "execute_result":
                value = content["data"]["text/plain"]
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                return Shown(value, text["stdout"], text["stderr"], error)

    def close(self) -> None:
        """Ends the kernel as closing its notebook does."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()
        self._manager.cleanup_resources()


@pytest.fixture(scope="module")
def notebook(engine: IsolatedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path_factory.mktemp("notebook"))
    try:
        assert notebook.run(DECLARED + NAP) == Shown("", "", "", "")
        yield notebook
    finally:
        notebook.close()


ASK: Final = "(await answer(Weight(21))).unwrap().value, answer.sync(Weight(21)).unwrap().value"


def test_a_cell_awaits_and_blocks_and_what_a_later_cell_defines_anew_is_used(notebook: Notebook) -> None:
    assert notebook.run(ASK) == Shown("(42, 42)", "", "", "")
    notebook.run("def scaled(x):\n    return FACTOR * x + 1")
    assert notebook.run(ASK).value == "(43, 43)", "a helper"
    notebook.run("FACTOR = 3")
    assert notebook.run(ASK).value == "(64, 64)", "a constant"
    notebook.run(
        "class Weight:\n    def __init__(self, value):\n        self.value, self.unit = value, 'kg'\n"
        "    def __repr__(self):\n        return f'{self.value} {self.unit}'"
    )
    assert notebook.run("(await answer(Weight(1))).unwrap()").value == "4 kg", "a class"
    notebook.run(DECLARED)
    assert notebook.run(ASK).value == "(42, 42)", "the remote function itself"


def test_what_a_job_prints_stands_below_the_cell_that_made_the_call(notebook: Notebook) -> None:
    for call in ("await nap(0)", "nap.sync(0)", "import asyncio; await asyncio.gather(nap(0))"):
        said = notebook.run(f"{call};")
        assert [line.partition("] ")[2] for line in said.stderr.splitlines()] == ["napping"], call


@pytest.mark.parametrize("call", ["await nap(60)", "nap.sync(60)", "await asyncio.gather(nap(60), nap(60))"])
def test_an_interrupted_cell_cancels_its_jobs_and_the_next_one_runs(
    notebook: Notebook, programs: Programs, call: str
) -> None:
    assert notebook.run(f"import asyncio; {call}", interrupt_at="napping").error in (
        "CancelledError: ",
        "KeyboardInterrupt: ",
    )
    end = time.monotonic() + 20
    while "nap" in programs.jobs("IN_PROGRESS"):
        assert time.monotonic() < end
    assert notebook.run(ASK).value == "(42, 42)"


def test_a_program_that_is_run_in_a_cell_and_a_module_that_is_reloaded_are_what_they_are_now(
    notebook: Notebook,
) -> None:
    (notebook.folder / "program.py").write_text(f"{DECLARED}\nprint(answer.sync(Weight(1)).unwrap().value)\n")
    assert notebook.run("%run program.py").stdout == "2\n"
    (notebook.folder / "calls.py").write_text(DECLARED)
    ask = "(await calls.answer(calls.Weight(1))).unwrap().value"
    assert notebook.run(f"%load_ext autoreload\n%autoreload 2\nimport calls\n{ask}").value == "2"
    changed = notebook.folder / "calls.py"
    changed.write_text(DECLARED.replace("FACTOR * x", "FACTOR * x + 10"))
    os.utime(changed, ns=(time.time_ns(), time.time_ns() + 5_000_000_000))
    assert notebook.run(ask).value == "12"


_TAKE_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""So that Ctrl-C reaches the interpreter as a signal."""


class Prompt:
    """An interpreter that is typed to in a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._terminal, theirs = pty.openpty()
        environ = {**os.environ, "TERM": "dumb", "PYTHON_BASIC_REPL": "1", "PYTHONSTARTUP": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, sys.executable, "-q", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = ""
        self.wait_for(">>> ")

    def wait_for(self, text: str) -> str:
        """What appears up to `text`; the rest is for the next who waits."""
        end = time.monotonic() + 30
        while text not in self._seen:
            assert time.monotonic() < end, self._seen
            if select.select([self._terminal], [], [], 1)[0]:
                self._seen += os.read(self._terminal, 4096).decode()
        before, _, self._seen = self._seen.partition(text)
        return before

    def type(self, line: str, until: str = ">>> ") -> str:
        """Types a line; what appears until the next prompt, without what was typed."""
        os.write(self._terminal, f"{line}\n".encode())
        return self.wait_for(until).replace("\r", "").partition("\n")[2]

    def close(self) -> int:
        """Leaves as people do, with the end of input."""
        try:
            os.write(self._terminal, b"\x04")
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._terminal)

    def interrupt(self) -> str:
        """Presses Ctrl-C; what appears until the next prompt."""
        os.write(self._terminal, b"\x03")
        return self.wait_for(">>> ")


@pytest.mark.parametrize("form", ["python -i", "python -m asyncio"])
def test_a_prompt_calls_is_interrupted_and_calls_again(form: str, programs: Programs) -> None:
    programs.write({"calls.py": DECLARED + NAP})
    words = {"python -i": ["-i", "calls.py"], "python -m asyncio": ["-m", "asyncio"]}[form]
    prompt = Prompt(programs.folder, *words)
    try:
        if form == "python -m asyncio":
            prompt.wait_for(">>> ")  # the first one stands before an import that it shows
            prompt.type("from calls import *")
            assert prompt.type("(await answer(Weight(21))).unwrap().value") == "42\n"
            prompt.type("await nap(60)", until="napping\r\n")
        else:
            prompt.type("FACTOR = 3")
            assert prompt.type("answer.sync(Weight(14)).unwrap().value") == "42\n"
            prompt.type("FACTOR = 2")
            prompt.type("nap.sync(60)", until="napping\r\n")
        assert "KeyboardInterrupt" in prompt.interrupt()
        assert prompt.type("answer.sync(Weight(21)).unwrap().value") == "42\n"
    finally:
        code = prompt.close()
    assert code == 0
