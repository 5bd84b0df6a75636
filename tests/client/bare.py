"""A process that has what a worker has, our runtime and nothing installed, and runs what was shipped to it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from runpod_flash.client.environment import runtime_spec
from runpod_flash.host.runtime import Runtimes
from runpod_flash.payload.definitions import TABLE

PROGRAM = """
import pickle, sys
given, here = sys.stdin.buffer, sys.stdout.buffer
sys.path = [one for one in sys.path if "site-packages" not in one]
sys.path.insert(0, sys.argv[1])
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import load_function
from runpod_flash.payload.modules import SHIPPED
TABLE.prefer_local = False
base = list(sys.path)
while True:
    digest, bodies, folders, args = pickle.load(given)
    sys.path[:] = [*folders, *base]
    loaded = set(sys.modules)
    for name, body in bodies.items():
        TABLE.add(name, body)
    try:
        function = load_function(digest)
        SHIPPED.activate(digest)
        answer = "ok", repr(function(*args))
    except Exception as error:
        answer = type(error).__name__, str(error)
    if folders:
        for name in set(sys.modules) - loaded:
            del sys.modules[name]
    pickle.dump(answer, here)
    here.flush()
"""


class BareProcess:
    """Runs shipped functions one by one."""

    def __init__(self, folder: Path) -> None:
        runtime = Runtimes(folder).ensure(runtime_spec())
        base = getattr(sys, "_base_executable", sys.executable)
        command = [base, "-I", "-S", "-c", PROGRAM, str(runtime)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._given, self._answers = self._process.stdin, self._process.stdout

    def run(self, digest: str, defs: list[str], args: tuple[Any, ...] = (), folders: tuple[str, ...] = ()) -> Any:
        """`("ok", repr of the result)`, or the name of the exception and its text."""
        pickle.dump((digest, {name: TABLE.body(name) for name in defs}, folders, args), self._given)
        self._given.flush()
        return pickle.load(self._answers)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._given.close()
        self._answers.close()
