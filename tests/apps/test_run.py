"""`flash run`, in a process of its own, as somebody at a terminal has it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.apps.galleries import worker, write

FLASH = str(Path(sys.executable).with_name("flash"))
PATIENCE_S = 60.0
RELOADED = r"  reloaded +[0-9]"
PLAIN = """
from fastapi import FastAPI, WebSocket

app = FastAPI(title="Plain")


@app.get("/text")
async def text() -> str:
    \"\"\"Give the text.\"\"\"
    return "one"


@app.get("/fails")
async def fails() -> str:
    return {}["no such key"]


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text((await socket.receive_text()).upper())
"""


class Running:
    """A `flash run` and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], read: Callable[[], bytes]) -> None:
        self.process = process
        self._read = read
        self._said = ""
        self.url = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                data = self._read()
            except OSError:  # how a terminal says that its last program has ended
                data = b""
            with self._changed:
                self._said += data.decode().replace("\r\n", "\n")
                self._changed.notify_all()
            if not data:
                return

    @property
    def said(self) -> str:
        return self._said

    def until(self, pattern: str) -> re.Match[str]:
        """Waits for words."""
        end = time.monotonic() + PATIENCE_S
        with self._changed:
            while (found := re.search(pattern, self._said)) is None:
                assert self._changed.wait(end - time.monotonic()), f"no {pattern!r} in:\n{self._said}"
            return found

    def forget(self) -> None:
        """What was said so far is not looked at any more."""
        with self._changed:
            self._said = ""

    def ready(self) -> str:
        """Waits until it serves; where."""
        self.until("Ctrl-C stops")
        self.url = self.until(r"http://\S+")[0]
        return self.url

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_S, **how)

    def family(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        return code, self.said


@contextlib.contextmanager
def running(folder: Path, *words: str, terminal: bool = False, **environ: str) -> Iterator[Running]:
    """`flash run` at a free port in that folder; nothing of it is left afterwards."""
    env = {**os.environ, "FLASH_PORT": str(free_port()), "NO_COLOR": "1", "COLUMNS": "200", **environ}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen([FLASH, "run", *words], cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    run = Running(process, lambda: os.read(ours, 65536))
    family: list[psutil.Process] = []
    try:
        yield run
        with contextlib.suppress(psutil.NoSuchProcess):
            family = run.family()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
        run._thread.join(PATIENCE_S)
        os.close(ours)
    assert all_gone(family) == []


def all_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after a while; what nobody has reaped yet is gone."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An app that no test changes."""
    folder = tmp_path_factory.mktemp("served")
    write(folder, {"main.py": PLAIN})
    with running(folder, "--no-reload") as run:
        run.ready()
        yield run


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    """An app whose file every test writes."""
    folder = tmp_path_factory.mktemp("it changes")
    write(folder, {"main.py": PLAIN})
    with running(folder) as run:
        run.ready()
        yield Changing(run, folder)


class Changing:
    """A `flash run` and the file of its app."""

    def __init__(self, run: Running, folder: Path) -> None:
        self.run = run
        self.folder = folder

    def save(self, text: str, until: str = RELOADED) -> re.Match[str]:
        """Saves another version, and waits for what is said of it."""
        assert text != (self.folder / "main.py").read_text()
        self.run.forget()
        write(self.folder, {"main.py": text})
        return self.run.until(until)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "a b"
    write(folder, {"main.py": PLAIN})
    return folder


def test_an_app_is_served_with_a_table_of_its_routes_and_pages_that_work_offline(served: Running) -> None:
    assert re.search(r"GET +/text +Give the text\.", served.said)
    assert served.get("/text").json() == "one"
    docs = served.get("/docs").text
    assert "https://" not in docs
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', docs):
        assert served.get(asset).status_code == 200
    served.until(r"\d\d:\d\d:\d\d\.\d{3}  GET /text +200 +[\d.]+ m?s\n")


def test_an_error_of_a_route_is_shown_with_the_users_lines_alone(served: Running) -> None:
    assert served.get("/fails").status_code == 500
    served.until("KeyError: 'no such key'")
    served.until(r"GET /fails +500")
    assert 'return {}["no such key"]' in served.said
    assert "site-packages" not in served.said


def test_pages_of_the_web_cannot_reach_it_by_a_name_of_their_own(served: Running) -> None:
    assert served.get("/text", headers={"host": "evil.example.com"}).status_code == 403


def test_websockets_reach_the_app_but_not_from_pages_of_the_web(served: Running) -> None:
    address = served.url.replace("http", "ws") + "/echo"
    with connect(address, proxy=None) as socket:
        socket.send("hi")
        assert socket.recv() == "HI"
    served.until(r"WS /echo +closed +[\d.]+ m?s")
    with (
        pytest.raises(InvalidStatus),
        connect(address, proxy=None, additional_headers={"origin": "https://evil.example.com"}),
    ):
        pass
    assert "Traceback" not in served.said.partition("WS /echo")[2]


def test_a_change_is_served_as_it_is_saved_and_what_changed_is_said(changing: Changing) -> None:
    changing.save(
        PLAIN.replace('"one"', '"changed"').replace("/fails", "/new"),
        r"changed +main\.py\n(?:.*\n)*.*reloaded +[\d.]+ s  \+ GET /new  - GET /fails\n",
    )
    assert changing.run.get("/text").json() == "changed"


def test_no_request_is_refused_while_a_change_is_taken_over(changing: Changing) -> None:
    changing.save(PLAIN.replace('"one"', '"before"'))
    seen: list[str] = []
    with httpx.Client(base_url=changing.run.url, timeout=PATIENCE_S, headers={"connection": "close"}) as client:
        changing.run.forget()
        write(changing.folder, {"main.py": PLAIN.replace('"one"', '"after"')})
        while "after" not in seen:
            seen.append(client.get("/text").json())
    assert set(seen) == {"before", "after"}
    changing.run.until(RELOADED)  # which is said after it is served


def test_a_change_that_cannot_be_loaded_leaves_the_version_before_in_its_place(changing: Changing) -> None:
    changing.save(PLAIN)
    changing.save(f"{PLAIN}\n1 / 0\n", "not reloaded +the version before your change goes on")
    assert "ZeroDivisionError: division by zero" in changing.run.said
    assert f"{changing.folder}/main.py:24" in changing.run.said
    assert changing.run.get("/text").json() == "one"
    changing.save(PLAIN.replace('"one"', '"mended"'))
    assert changing.run.get("/text").json() == "mended"


def test_an_app_that_takes_its_time_to_load_does_not_do_so_in_silence(changing: Changing) -> None:
    ready = changing.folder / "ready"
    slow = f"import os, time\nwhile not os.path.exists({str(ready)!r}):\n    time.sleep(0.01)\n"
    changing.save(
        slow + PLAIN.replace('"one"', '"slow"'), r"loading +main\.py takes a while; the version before answers"
    )
    assert changing.run.get("/text").status_code == 200
    ready.touch()
    changing.run.until(RELOADED)
    assert changing.run.get("/text").json() == "slow"


def test_a_file_that_is_deleted_gives_way_to_what_else_there_is_to_serve(changing: Changing) -> None:
    changing.run.forget()
    (changing.folder / "main.py").unlink()
    changing.run.until(r"there is nothing to serve in (?:.*\n)*.*not reloaded +the version before your change goes on")
    assert changing.run.get("/text").status_code == 200
    changing.run.forget()
    write(changing.folder, {"app.py": PLAIN.replace('"one"', '"another file"')})
    changing.run.until(RELOADED)
    assert changing.run.get("/text").json() == "another file"


def test_where_files_cannot_be_watched_what_is_served_goes_on(plain: Path) -> None:
    with running(plain) as run:
        run.ready()
        (plain / "caf\udce9.py").touch()  # no text, as names of files may be
        run.until("not watching +.*Unable to decode path .*; what is served goes on")
        assert run.get("/text").json() == "one"
        assert run.interrupt() == 0


def test_ctrl_c_ends_everything_quickly_and_well(plain: Path) -> None:
    with running(plain) as run:
        run.ready()
        family = run.family()
        assert len(family) >= 2
        assert run.interrupt() == 0
        assert all_gone(family) == []
        assert "Traceback" not in run.said


def test_a_terminals_ctrl_c_reaches_a_program_that_has_just_been_started_and_is_not_heard(plain: Path) -> None:
    with running(plain) as run:
        run.ready()
        while len(family := run.family()) < 3:  # the one that waits for a change is importing
            assert run.process.poll() is None
        for process in reversed(family):
            process.send_signal(signal.SIGINT)
        assert run.ended() == (0, run.said)
        assert "Traceback" not in run.said


def test_killed_it_leaves_nothing_behind(plain: Path) -> None:
    with running(plain) as run:
        run.ready()
        family = run.family()
        run.process.kill()
        run.process.wait()
        assert all_gone(family[1:]) == []


def test_a_request_under_way_may_end_after_ctrl_c(plain: Path) -> None:
    slow = "import asyncio\n" + PLAIN.replace('return "one"', "await asyncio.sleep(0.5)\n    return 'slow'")
    write(plain, {"main.py": slow})
    with running(plain, "--no-reload") as run:
        url = run.ready()
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/text", timeout=PATIENCE_S)))
        thread.start()
        while not any(one.status == "ESTABLISHED" for child in run.family()[1:] for one in child.net_connections()):
            pass
        assert run.interrupt() == 0
        thread.join()
        assert answers[0].json() == "slow"


def test_a_port_that_is_taken_is_said_and_the_next_free_one_used(plain: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with running(plain, "--no-reload", "--port", str(taken)) as run:
            assert run.ready() != f"http://localhost:{taken}"
            assert f"port {taken} is taken" in run.said
            assert run.get("/text").status_code == 200


@pytest.mark.parametrize(
    ("files", "words", "said"),
    [
        ({}, [], ["there is nothing to serve in", "flash init my_app"]),
        ({"main.py": "from fastapi import FastAPI\napi = FastAPI()\n"}, [], ["main.py:2", "flash run main.py:api"]),
        ({"main.py": "x = 1\nimport no_such_module\napp = 1\n"}, [], ["main.py:2", "No module named 'no_such_module'"]),
        ({"main.py": "def (\napp = 1\n"}, [], ["main.py:1", "cannot be read as Python", "mend that line"]),
        ({"main.py": "app = 3\n"}, [], ["app in main.py is a int"]),
        ({"app.py": PLAIN}, ["ap.py"], ["there is no file ap.py", "Did you mean 'app.py'?"]),
        ({"main.py": PLAIN}, ["--host", "192.0.2.1"], ["nothing can listen at 192.0.2.1"]),
        (
            {"main.py": PLAIN.replace("FastAPI(", "FastAPI(lifespan=no_model, ").replace("\napp", """
import contextlib

@contextlib.asynccontextmanager
async def no_model(app):
    raise RuntimeError("no model here")
    yield

app""", 1)},
            [],
            ["did not start", "no model here"],
        ),
    ],
    ids=["nothing", "other name", "import error", "no Python", "no app", "no file", "no address", "lifespan"],
)  # fmt: skip
def test_what_cannot_be_served_is_explained(
    tmp_path: Path, files: dict[str, str], words: list[str], said: list[str]
) -> None:
    write(tmp_path, files)
    with running(tmp_path, *words) as run:
        code, told = run.ended()
    assert code in (1, 2)
    for text in said:
        assert text in told
    assert "Traceback" not in told


def test_at_a_terminal_an_app_that_cannot_be_loaded_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "app = 1 / 0\n"})
    port = free_port()
    with running(tmp_path, "--port", str(port), terminal=True) as run:
        run.until("waiting +for a change")
        answer = httpx.get(f"http://localhost:{port}/text", timeout=PATIENCE_S)
        assert answer.status_code == 503
        assert "main.py:1" in answer.json()["reason"]
        write(tmp_path, {"main.py": PLAIN})
        run.ready()
        assert run.get("/text").json() == "one"


def test_the_projects_env_file_is_read_anew_and_says_the_port(plain: Path) -> None:
    port = free_port()
    write(plain, {
        ".env": f"FLASH_PORT={port}\nTEXT=first\n",
        "main.py": "import os\n" + PLAIN.replace('return "one"', 'return os.environ["TEXT"]'),
    })  # fmt: skip
    with running(plain, FLASH_PORT="") as run:
        assert run.ready() == f"http://localhost:{port}"
        assert run.get("/text").json() == "first"
        write(plain, {".env": f"FLASH_PORT={port}\nTEXT=second\n"})
        run.until(r"  reloaded +[0-9]")
        assert run.get("/text").json() == "second"


def test_a_folder_of_categories_is_served_as_one_app(tmp_path: Path) -> None:
    write(tmp_path, {
        "01_a/hello/gpu_worker.py": worker("hello", "gpu"),
        "01_a/bad/gpu_worker.py": "import no_such_module\n",
    })  # fmt: skip
    with running(tmp_path, "--no-reload") as run:
        run.ready()
        assert re.search(r"POST +/hello/gpu/say +Say who answers\.", run.said)
        run.until("the example bad is broken: bad cannot be imported: ModuleNotFoundError")
        assert httpx.post(f"{run.url}/hello/say", json={}).status_code == 404
        assert httpx.post(f"{run.url}/01_a/hello/say", json={}).json()["example"] == "hello"


def test_one_example_without_a_main_is_served_with_its_workers(tmp_path: Path) -> None:
    write(tmp_path / "hello", {"gpu_worker.py": worker("hello", "gpu")})
    with running(tmp_path / "hello", "--no-reload") as run:
        run.ready()
        assert httpx.post(f"{run.url}/gpu/say", json={}).json()["example"] == "hello"


@pytest.mark.usefixtures("flash_engine")
def test_a_call_that_failed_is_shown_with_the_command_that_tells_more(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": """
        from fastapi import FastAPI
        from runpod_flash import CpuLiveServerless, remote

        app = FastAPI()


        @remote(resource_config=CpuLiveServerless(name="refuses"), max_retries=0)
        async def refuse() -> None:
            raise ValueError("not today")


        @app.get("/job")
        async def job() -> str:
            return (await refuse()).id
    """})  # fmt: skip
    with running(tmp_path, "--no-reload") as run:
        run.ready()
        job = run.get("/job").json()
        named = run.until(r"refuse .* FAILED .*not today  \(flash job (\w+)\)")[1]
    assert job.endswith(named)
