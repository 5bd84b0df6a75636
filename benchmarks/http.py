"""A no-op over HTTP at 1, 16 and 64 connections, beside the same function under FastAPI and uvicorn, and under others.

All are asked by the same client: one connection by a blocking socket, more by one event loop. At one connection all
share one core with the yardstick; at more, all cores are anybody's. None writes a line of log for a request.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import sys
import time
from functools import partial
from statistics import median
from typing import Any

import uvloop

from benchmarks import laps, nursery
from benchmarks.figures import Goal, Row, Rows, Run
from benchmarks.peers import http_servers
from benchmarks.peers.installed import NotInstallable, interpreter
from runpod_flash import CpuLiveLoadBalancer, remote
from runpod_flash.settings import load

CONNECTIONS = (1, 16, 64)
BODY = b'{"n":1}'


@remote(CpuLiveLoadBalancer(name="web", workersMin=1, workersMax=1, idleTimeout=600), method="POST", path="/noop")
async def noop(n: int) -> dict[str, int]:
    """Does nothing."""
    return {"n": n}


PROMISE = (
    "Ours crosses two processes, the gateway and a worker of the function's own environment, and looks at a token, a "
    "host and a route; uvicorn's runs the function in the process that reads the socket. Requests are on no record."
)


def rows(run: Run) -> Rows:
    """Ours, and its ratio to the other in the same run."""
    for connections in CONNECTIONS:
        core = run.core if connections == 1 else None
        found: dict[str, Any] = {}
        trip = None
        for server in ("uvicorn", "flash"):
            measure = partial(nursery.run, __name__, server, str(connections), run.calls(20_000), core=core)
            found[server], trip = run.beside(measure)
        ours, theirs = found["flash"], found["uvicorn"]
        title = f"HTTP, {connections} connection" + ("s" if connections > 1 else "")
        speed = ours["rate"] / theirs["rate"]
        yield Row("FastAPI on uvicorn", f"{title}, p50", theirs["p50"], "µs", trip)
        yield Row("FastAPI on uvicorn", title, theirs["rate"], "calls/s")
        goal = Goal(round(1.3 * theirs["p50"])) if connections == 1 else None
        slower = f"{ours['p50'] / theirs['p50']:.2f} × uvicorn"
        yield Row("Flash", f"{title}, p50", ours["p50"], "µs", trip, goal, slower)
        yield Row("Flash", title, ours["rate"], "calls/s", None, Goal(round(0.8 * theirs["rate"]), at_least=True),
                  f"{speed:.2f} × uvicorn")  # fmt: skip
        for name in http_servers.SERVERS if run.peers else ():
            yield from peer_rows(run, name, connections, title, ours)
    yield Row("Flash", "Flash", note=PROMISE, about=True)
    for name, one in http_servers.SERVERS.items() if run.peers else ():
        yield Row("Peers", name, note=f"{one.promise} ({one.peer.requirements[0]})", about=True)


def peer_rows(run: Run, name: str, connections: int, title: str, ours: dict[str, Any]) -> Rows:
    """Of one peer, and its ratio to ours; a line that says why where it cannot be measured."""
    try:
        python = interpreter(http_servers.SERVERS[name].peer)
        core = run.core if connections == 1 else None
        measure = partial(nursery.run, __name__, "peer", str(connections), run.calls(2_000), name, python, core=core)
        found, trip = run.beside(measure)
    except (NotInstallable, nursery.Failed) as error:
        yield Row(name, title, note=f"could not be measured: {error}")
        return
    yield Row(name, f"{title}, p50", found["p50"], "µs", trip, note=f"{found['p50'] / ours['p50']:.1f} × Flash")
    yield Row(name, title, found["rate"], "calls/s", note=f"{found['rate'] / ours['rate']:.3f} × Flash")


# ── the client ────────────────────────────────────────────────────────────────────────────────────


def request(port: int, path: str, headers: str = "") -> bytes:
    """The bytes of the one request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY


def one_after_another(port: int, asked: bytes, calls: int, end: bytes = BODY) -> dict[str, float]:
    """Microseconds of a request, and requests a second, on one connection; `end` is how each answer ends."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call(_: int) -> None:
            connection.sendall(asked)
            read_answer(connection, end)

        found = laps.sequential(call, calls // laps.ROUNDS)
    return {"p50": found["p50"], "p99": found["p99"], "rate": 1e6 / found["p50"]}


class Lane(asyncio.Protocol):
    """One connection: asks again as soon as it is answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._began = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter_ns()
        self._transport.write(self._load.asked)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(self._load.end):
            return
        self._load.took(time.perf_counter_ns() - self._began)
        if not self._load.over:
            self._ask()


class Load:
    """Many connections."""

    def __init__(self, asked: bytes, calls: int, end: bytes) -> None:
        self.asked = asked
        self.end = end
        self.over = False
        self._calls = calls
        self._done = asyncio.get_running_loop().create_future()
        self._times: list[int] = []
        self._clock = laps.Clock(calls)

    def took(self, nanoseconds: int) -> None:
        self._times.append(nanoseconds)
        self._clock.count()
        if self._clock.over and not self.over:
            self.over = True
            self._done.set_result(None)

    async def result(self) -> dict[str, float]:
        await self._done
        warm = sorted(self._times[self._calls // 2 :])
        rate = self._clock.result()["rate"]
        return {"p50": median(warm) / 1e3, "p99": warm[len(warm) * 99 // 100] / 1e3, "rate": rate}


async def at_once(port: int, asked: bytes, connections: int, calls: int, end: bytes = BODY) -> dict[str, float]:
    """The same with many connections."""
    load = Load(asked, calls, end)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Lane(load), "127.0.0.1", port)
    return await load.result()


def measured(port: int, asked: bytes, connections: int, calls: int, end: bytes = BODY) -> dict[str, float]:
    """Asks a server, having seen that it answers."""
    check(port, asked, end)
    if connections == 1:
        return one_after_another(port, asked, calls, end)
    return uvloop.run(at_once(port, asked, connections, calls, end))


def check(port: int, asked: bytes, end: bytes = BODY) -> None:
    """AssertionError unless the server answers as it should."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(asked)
        answer = read_answer(connection, end)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def read_answer(connection: socket.socket, end: bytes = BODY) -> bytes:
    """An answer, whole."""
    answer = connection.recv(65536)
    while not answer.endswith(end):
        more = connection.recv(65536)
        assert more, answer
        answer += more
    return answer


# ── the servers ───────────────────────────────────────────────────────────────────────────────────


def uvicorn(connections: int, calls: int) -> dict[str, float]:
    """The function under FastAPI."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        server.start()
        port = listener.getsockname()[1]
    try:
        return measured(port, request(port, "/noop"), connections, calls)
    finally:
        server.terminate()
        server.join()


def serve(listener: socket.socket) -> None:
    """The server's process."""
    import uvicorn
    from fastapi import Body, FastAPI

    app = FastAPI()

    @app.post("/noop")
    async def noop(n: int = Body(embed=True)) -> dict[str, int]:
        return {"n": n}

    config = uvicorn.Config(app, log_level="warning", loop="uvloop", http="httptools")
    uvicorn.Server(config).run([listener])


def flash(connections: int, calls: int) -> dict[str, float]:
    """The function on a worker."""
    assert noop.sync(1) == {"n": 1}
    home = load().home
    address = json.loads((home / "engine.json").read_text())["gateway_url"]
    token = (home / "token").read_text().strip()
    port = int(address.rpartition(":")[2])
    asked = request(port, "/lb/web/noop", f"authorization: Bearer {token}\r\n")
    return measured(port, asked, connections, calls)


def peer(connections: int, calls: int, name: str, python: str) -> dict[str, float]:
    """One of those that people would otherwise take."""
    server = http_servers.SERVERS[name]
    with http_servers.served(server, python) as port:
        return measured(port, request(port, "/noop"), connections, calls, server.end)


if __name__ == "__main__":
    server, connections, calls, *more = sys.argv[1:]
    print(json.dumps(globals()[server](int(connections), int(calls), *more)))
