"""The whole way of somebody who has just installed Flash: a new app, served, changed, deployed, gone back on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

import httpx
import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.waiting import until

FLASH = Path(sys.executable).with_name("flash")
PATIENCE_S = 90.0
ROUTE = '    return {"name": "My Shop", "docs": "/docs"}'


@pytest.fixture
def engine() -> Iterator[IsolatedEngine]:
    with isolated_engine() as one:
        yield one


class Stranger:
    """Somebody at a terminal."""

    def __init__(self, engine: IsolatedEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder

    def flash(self, *words: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [FLASH, *words], cwd=self.folder, env=self.engine.environ, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ended.returncode == 0, f"flash {' '.join(words)}:\n{ended.stdout}{ended.stderr}"
        return ended

    def edit(self, old: str, new: str) -> None:
        main = self.folder / "main.py"
        text = main.read_text()
        assert old in text
        main.write_text(text.replace(old, new))

    def curl(self, line: str) -> str:
        """The line that was printed, as it stands."""
        path = f"{FLASH.parent}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            ["sh", "-c", f"{line} --silent --show-error --fail"], cwd=self.folder, check=True, capture_output=True,
            text=True, env={**self.engine.environ, "PATH": path}, timeout=PATIENCE_S,
        )  # fmt: skip
        return ended.stdout


class Server:
    """`flash run` in another terminal."""

    def __init__(self, stranger: Stranger) -> None:
        self._process = subprocess.Popen(
            [FLASH, "run", "--port", "0"], cwd=stranger.folder, env=stranger.engine.environ, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        self._lines: Queue[str] = Queue()
        self.seen: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self.says(r"http://[\w.]+:\d+")

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._lines.put(line)

    def says(self, pattern: str) -> str:
        """Waits for a line, and gives what of it is meant."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                self.seen.append(self._lines.get(timeout=0.1))
            except Empty:
                continue
            if found := re.search(pattern, self.seen[-1]):
                return found[0]
        raise AssertionError(f"{pattern} was never said:\n{''.join(self.seen)}")

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        code = self._process.wait(PATIENCE_S)
        self._reader.join()
        return code


def name_at(url: str) -> str:
    try:
        return str(httpx.get(url, timeout=PATIENCE_S).json()["name"])
    except httpx.TransportError:  # it is just being served anew
        return ""


@pytest.mark.timeout(300)  # a minute where nobody else is at work
def test_from_a_new_app_to_one_that_is_deployed_changed_gone_back_on_and_taken_away(
    engine: IsolatedEngine, tmp_path: Path
) -> None:
    subprocess.run([FLASH, "init", "my shop"], cwd=tmp_path, env=engine.environ, check=True, capture_output=True)
    me = Stranger(engine, tmp_path / "my shop")

    # Served here, asked, changed, and served anew.
    server = Server(me)
    answer = httpx.post(f"{server.url}/cpu/hello", json={"message": "good day"}, timeout=PATIENCE_S)
    assert answer.json()["words"] == 2, answer.text
    me.edit(ROUTE, ROUTE.replace("My Shop", "My Other Shop"))
    until(lambda: name_at(server.url) == "My Other Shop", PATIENCE_S)
    server.interrupt()

    # Built and deployed; the line that it prints works.
    me.flash("build")
    assert (me.folder / "flash_manifest.json").is_file()
    assert (me.folder / ".flash" / "artifact.tar.gz").is_file()
    told = me.flash("deploy", "--yes").stderr
    line = told.rpartition("Try it:\n")[2].strip().splitlines()[0]
    assert "My Other Shop" in me.curl(line)
    url = re.findall(r"http://\S+", line)[0].rstrip("/")
    token = {"Authorization": f"Bearer {(engine.home / 'token').read_text().strip()}"}

    # Changed while it is asked all the time: no request fails.
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(headers=token, timeout=PATIENCE_S) as client:
            while not over.is_set():
                said = client.get(f"{url}/")
                answers.append((said.status_code, said.text))
                over.wait(0.01)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        me.edit("My Other Shop", "My Third Shop")
        me.flash("deploy", "--yes")
        until(lambda: "My Third Shop" in answers[-1][1], PATIENCE_S)
        me.flash("rollback", "--yes")
        until(lambda: "My Other Shop" in answers[-1][1], PATIENCE_S)
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert {status for status, _text in answers} == {200}

    # Its functions, through its routes and by their names.
    said = httpx.post(f"{url}/gpu/hello", json={"message": "good day"}, headers=token, timeout=PATIENCE_S)
    assert said.json()["worker_type"] == "gpu", said.text
    program = (
        "import asyncio; from workers.cpu.endpoint import cpu_hello; print(asyncio.run(cpu_hello('by name'))['words'])"
    )
    environ = {**engine.environ, "FLASH_APP": "my-shop", "FLASH_ENV": "production"}
    called = subprocess.run(
        [sys.executable, "-c", program], cwd=me.folder, env=environ, check=True, capture_output=True, text=True
    )
    assert called.stdout.strip() == "2"

    # Taken away, and nothing is left running.
    me.flash("undeploy", "--yes")
    assert httpx.get(f"{url}/", headers=token).status_code == 404
    me.flash("engine", "stop")
    until(lambda: not engine.processes(), PATIENCE_S)
