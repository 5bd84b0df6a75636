"""Websockets of applications in workers, spoken to by the `websockets` client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.acceptance.test_asgi import client, declare
from tests.waiting import until

APP = """
import asyncio, os
from fastapi import FastAPI, WebSocket, WebSocketDisconnect, Response

app = FastAPI()
log = []

@app.get("/log")
def read():
    return log

@app.get("/pid")
def pid():
    return os.getpid()

@app.websocket("/echo/{name}")
async def echo(socket: WebSocket, name: str, times: int = 1):
    await socket.accept(headers=[(b"x-name", name.encode())])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
            for _ in range(times):
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect as error:
        log.append([name, error.code, error.reason])

@app.websocket("/chat")
async def chat(socket: WebSocket):
    await socket.accept(subprotocol="chat" if "chat" in socket.scope["subprotocols"] else None)
    await socket.send_json([socket.scope["subprotocols"], str(socket.url), socket.headers.get("authorization")])
    await socket.close(4001, "that was all")

@app.websocket("/no")
async def no(socket: WebSocket):
    await socket.close()

@app.websocket("/denied")
async def denied(socket: WebSocket):
    await socket.send_denial_response(Response("not you", 418))

@app.websocket("/wrong")
async def wrong(socket: WebSocket):
    await socket.accept()
    raise KeyError("inside")

@app.websocket("/early")
async def early(socket: WebSocket):
    raise KeyError("inside")

@app.websocket("/many")
async def many(socket: WebSocket):
    await socket.accept()
    try:
        for number in range(100_000):
            await socket.send_bytes(bytes(10_000))
            log.append(number) if number % 100 == 0 else None
    except WebSocketDisconnect:
        log.append("stopped")

@app.websocket("/deaf")
async def deaf(socket: WebSocket):
    await socket.accept()
    await asyncio.sleep(60)
"""


PLAIN = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket", "only websockets"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
"""


@pytest.fixture(scope="module")
def web(engine: IsolatedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "main.py").write_text(APP)
    declare("main:app", folder, "web", requirements=("fastapi",))
    with client(engine, "web") as one:
        assert one.get("/pid").status_code == 200
        yield one


@pytest.fixture
def dial(engine: IsolatedEngine, web: httpx.Client) -> Callable[..., ClientConnection]:
    def dialled(path: str, endpoint: str = "web", **options: Any) -> ClientConnection:
        token = (engine.home / "token").read_text().strip()
        options.setdefault("additional_headers", {"Authorization": f"Bearer {token}"})
        base = engine.facts["gateway_url"].replace("http", "ws")
        options = {"open_timeout": 60, "max_size": None, "proxy": None, "compression": None, **options}
        one: ClientConnection = connect(f"{base}/lb/{endpoint}{path}", **options)
        return one

    return dialled


Dial = Callable[..., ClientConnection]


def test_messages_go_both_ways_as_they_are(dial: Dial, web: httpx.Client) -> None:
    with dial("/echo/first") as one:
        assert one.response is not None
        assert one.response.headers["x-name"] == "first"
        for message in ("hello", "", "ö" * 100_000, b"", bytes(range(256)), os.urandom(3_000_000)):
            one.send(message)
            assert one.recv(20) == message
        one.send(["in ", "many ", "pieces"])
        assert one.recv(20) == "in many pieces"
        one.ping().wait(20)
        one.close(4000, "bye")
    until(lambda: ["first", 4000, "bye"] in web.get("/log").json())


def test_subprotocols_and_close_codes_are_the_applications(dial: Dial) -> None:
    with dial("/chat", subprotocols=["chat", "other"]) as one:
        assert one.subprotocol == "chat"
        offered, url, authorization = json.loads(one.recv(20))
        assert (offered, authorization) == (["chat", "other"], None)
        assert url.startswith("ws://127.0.0.1:")
        assert url.endswith("/lb/web/chat")
        with pytest.raises(ConnectionClosed) as closed:
            one.recv(20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "that was all")


def test_a_browsers_token_travels_as_a_subprotocol_that_the_application_does_not_see(
    dial: Dial, engine: IsolatedEngine
) -> None:
    token = (engine.home / "token").read_text().strip()
    with dial("/chat", additional_headers={}, subprotocols=["chat", f"flash.bearer.{token}"]) as one:
        assert one.subprotocol == "chat"
        assert token not in str(one.recv(20))
    with dial("/chat", additional_headers={}, subprotocols=[f"flash.bearer.{token}"]) as one:
        assert one.subprotocol == f"flash.bearer.{token}"
        assert token not in str(one.recv(20))


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/chat", {"additional_headers": {}}, 401),
        ("/chat", {"additional_headers": {}, "subprotocols": ["flash.bearer.of-another-engine"]}, 401),
        ("/chat", {"origin": "https://example.com"}, 403),
        ("/no", {}, 403),
        ("/denied", {}, 418),
        ("/early", {}, 500),
        ("/nothing", {}, 403),
    ],
)
def test_a_handshake_is_refused_in_http(dial: Dial, path: str, options: dict[str, Any], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(path, **options)
    assert refused.value.response.status_code == status


def code_of(one: ClientConnection) -> int:
    try:
        while True:
            one.recv(20)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


def test_an_application_that_fails_closes_with_1011(dial: Dial) -> None:
    with dial("/wrong") as one:
        assert code_of(one) == 1011


def test_what_no_websocket_may_say_is_closed_with_its_code(dial: Dial, web: httpx.Client) -> None:
    with dial("/echo/large") as one:
        one.send(bytes(17 << 20))
        assert code_of(one) == 1009
    with dial("/echo/text") as one:
        one.send(b"\xff\xfe", text=True)
        assert code_of(one) == 1007
    until(lambda: {("large", 1009), ("text", 1007)} <= {tuple(row[:2]) for row in web.get("/log").json() if row})


def test_a_client_that_does_not_read_makes_the_application_wait(dial: Dial, web: httpx.Client) -> None:
    with dial("/many", max_queue=1) as one:
        one.recv(20)
        seen = -1
        until_same = 0
        while until_same < 5:
            numbers = [row for row in web.get("/log").json() if isinstance(row, int)]
            until_same = until_same + 1 if numbers and numbers[-1] == seen else 0
            seen = numbers[-1] if numbers else -1
        assert seen < 3000
        one.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: "stopped" in web.get("/log").json())


def test_an_application_that_does_not_read_makes_its_client_wait(dial: Dial) -> None:
    with dial("/deaf", close_timeout=0.1) as one:
        one.socket.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionClosed)):
            one.send(bytes(100_000) for _ in range(10_000))


def test_a_client_that_vanishes_is_a_disconnect(dial: Dial, web: httpx.Client) -> None:
    with dial("/echo/vanishing") as one:
        one.send("hello")
        one.recv(20)
        one.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: ["vanishing", 1006, ""] in web.get("/log").json())


def test_many_at_once(dial: Dial) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(dial(f"/echo/{number}")) for number in range(30)]
        for number, one in enumerate(sockets):
            one.send(f"to {number}")
        assert [one.recv(20) for one in sockets] == [f"to {number}" for number in range(30)]


def test_a_worker_that_dies_closes_its_websockets(dial: Dial, web: httpx.Client) -> None:
    with dial("/echo/dying") as one:
        os.kill(web.get("/pid").json(), signal.SIGKILL)
        assert code_of(one) == 1011
    with dial("/echo/next") as one:
        one.send("again")
        assert one.recv(20) == "again"


def test_a_new_version_asks_clients_to_come_again(dial: Dial, web: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    declare("main:app", tmp_path, "rolling", requirements=("fastapi",), version="1", idleTimeout=300)
    with dial("/echo/old", "rolling") as one:
        one.send("x")
        assert one.recv(20) == "x"
        declare("main:app", tmp_path, "rolling", requirements=("fastapi",), version="2", idleTimeout=300)
        with dial("/echo/new", "rolling") as other:
            other.send("y")
            assert other.recv(20) == "y"
        assert code_of(one) == 1012


def test_an_engine_that_leaves_closes_with_1001(tmp_path: Path) -> None:
    with isolated_engine() as engine:
        (tmp_path / "main.py").write_text(PLAIN)
        declare("main:app", tmp_path, "web")
        token = (engine.home / "token").read_text().strip()
        url = engine.facts["gateway_url"].replace("http", "ws") + "/lb/web/echo/x"
        headers = {"Authorization": f"Bearer {token}"}
        with connect(url, proxy=None, open_timeout=60, additional_headers=headers) as one:
            one.send("x")
            assert one.recv(20) == "x"
            began = time.monotonic()
            os.kill(engine.facts["pid"], signal.SIGTERM)
            assert code_of(one) == 1001
            assert time.monotonic() < began + 20
