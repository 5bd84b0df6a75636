"""Ports that workers open, reached through the gateway: a real server in a function, real clients."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from runpod_flash import CpuLiveServerless, PodTemplate, remote
from runpod_flash.testing import IsolatedEngine
from tests.waiting import until

page = CpuLiveServerless(name="page", workersMax=1, podTemplate=PodTemplate(expose_ports=[8080, 9090, 7070]))


@remote(page, dependencies=["websockets"])
def serve() -> dict[str, Any]:
    """Starts two servers that go on when the call is over."""
    import http.server
    import os
    import threading

    from websockets.sync.server import ServerConnection
    from websockets.sync.server import serve as serve_websockets

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(f"{self.command} {self.path}\n{self.headers}".encode())

        def do_POST(self) -> None:
            if "Content-Length" in self.headers:
                self.answer(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())
                return
            total = 0
            while size := int(self.rfile.readline(), 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            self.answer(f"in chunks {total}".encode())

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) if self.path != "/half" else 10_000))
            self.end_headers()
            self.wfile.write(body * (200 if self.path == "/large" else 1))
            self.close_connection = self.path in {"/half", "/large"}

    def echo(one: ServerConnection) -> None:
        for message in one:
            one.send(message)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["RUNPOD_TCP_PORT_8080"])), Handler)
    sockets = serve_websockets(echo, "127.0.0.1", int(os.environ["RUNPOD_TCP_PORT_9090"]), max_size=None)
    for one in (web, sockets):
        threading.Thread(target=one.serve_forever, daemon=True).start()
    return {"worker": os.environ["FLASH_WORKER_ID"], "pid": os.getpid()}


@pytest.fixture(scope="module")
def served(engine: IsolatedEngine) -> dict[str, Any]:
    found: dict[str, Any] = serve.sync().unwrap()
    return found


@pytest.fixture
def web(engine: IsolatedEngine, served: dict[str, Any]) -> Iterator[httpx.Client]:
    token = (engine.home / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=engine.facts["gateway_url"], headers=headers, timeout=30) as one:
        yield one


def test_a_port_is_reached_by_its_endpoint_or_its_worker(web: httpx.Client, served: dict[str, Any]) -> None:
    for name in ("page", served["worker"]):
        said = web.get(f"/port/{name}/8080/a%2Fb?x=%20y").text
        assert said.startswith("GET /a%2Fb?x=%20y\n")
        assert f"x-forwarded-prefix: /port/{name}/8080" in said
        assert "uthorization" not in said
    assert web.get("/port/page/8080").text.startswith("GET /\n")


def test_bodies_go_both_ways(web: httpx.Client) -> None:
    assert web.post("/port/page/8080/", content=bytes(3_000_000)).text == "3000000"
    assert web.post("/port/page/8080/", content=(bytes(10_000) for _ in range(300))).text == "in chunks 3000000"
    with pytest.raises(httpx.RemoteProtocolError):
        web.get("/port/page/8080/half")


def test_a_port_speaks_websockets(engine: IsolatedEngine, served: dict[str, Any]) -> None:
    token = (engine.home / "token").read_text().strip()
    url = engine.facts["gateway_url"].replace("http", "ws") + "/port/page/9090/"
    with connect(url, proxy=None, max_size=None, additional_headers={"Authorization": f"Bearer {token}"}) as one:
        for message in ("hello", bytes(3_000_000)):
            one.send(message)
            assert one.recv(20) == message
    with pytest.raises(InvalidStatus, match="401"):
        connect(url, proxy=None)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/port/page/1234/", 404, "'page' has 7070, 8080, 9090"),
        ("/port/pgae/8080/", 404, "no worker and no endpoint 'pgae'"),
        ("/port/page/http/", 404, "/port/WORKER/NUMBER/"),
        ("/port/", 404, "/port/WORKER/NUMBER/"),
        ("/port/page/7070/", 502, "RUNPOD_TCP_PORT_7070"),
    ],
)
def test_what_is_not_there_says_so(web: httpx.Client, path: str, status: int, said: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_nothing_is_reached_without_the_token(web: httpx.Client) -> None:
    for path in ("/port/page/8080/", "/port/nothing/1/"):
        assert httpx.get(web.base_url.join(path)).status_code == 401
        assert web.get(path, headers={"Origin": "https://example.com"}).status_code == 403


def test_a_worker_that_dies_ends_what_was_open(
    engine: IsolatedEngine, web: httpx.Client, served: dict[str, Any]
) -> None:
    token = (engine.home / "token").read_text().strip()
    url = engine.facts["gateway_url"].replace("http", "ws") + "/port/page/9090/"
    with connect(url, proxy=None, additional_headers={"Authorization": f"Bearer {token}"}) as one:
        one.send("x")
        assert one.recv(20) == "x"
        os.kill(served["pid"], signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            one.recv(20)
    until(lambda: web.get("/port/page/8080/").status_code == 503)
    assert web.get(f"/port/{served['worker']}/8080/").status_code == 404
