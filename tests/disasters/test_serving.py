"""Applications, programs and their websockets, when the engine, the host or a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from runpod_flash.model.endpoint import Application, Program
from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.acceptance.test_asgi import client, declare_served
from tests.waiting import until

APP = """
import os
heard = []

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        heard.append(message["code"])
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{os.getpid()} {heard}".encode()})
"""
PROGRAM = """
import os, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[IsolatedEngine]:
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "server.py").write_text(PROGRAM)
    with isolated_engine() as one:
        declare_served(Application("main:app", str(tmp_path)), "app")
        declare_served(Program(("python", "server.py"), str(tmp_path), "1", "http"), "program")
        yield one


def ask(engine: IsolatedEngine, endpoint: str) -> str:
    with client(engine, endpoint) as one:
        answer = one.get("/")
        assert answer.status_code == 200, answer.text
        return answer.text


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))


def test_what_is_served_outlives_the_engine_and_hears_that_its_clients_are_gone(engine: IsolatedEngine) -> None:
    program, app = ask(engine, "program"), ask(engine, "app").partition(" ")[0]
    token = (engine.home / "token").read_text().strip()
    url = engine.facts["gateway_url"].replace("http", "ws") + "/lb/app/"
    with connect(url, proxy=None, open_timeout=60, additional_headers={"Authorization": f"Bearer {token}"}) as one:
        one.send("x")
        assert one.recv(30) == "x"
        pid = engine.facts["pid"]
        kill(pid)
        with pytest.raises(ConnectionClosed):
            one.recv(30)
    until(lambda: engine.facts.get("pid", pid) != pid)
    assert ask(engine, "app") == f"{app} [1006]"
    assert ask(engine, "program") == program


def test_nothing_that_is_served_outlives_the_host(engine: IsolatedEngine) -> None:
    pids = [int(ask(engine, "program")), int(ask(engine, "app").partition(" ")[0])]
    worker = psutil.Process(pids[1])
    kill(worker.ppid())
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert int(ask(engine, "program")) not in pids
