"""The Job API: a no-op by /runsync, beside a plain Starlette application and Runpod's own server of one's machine.

Every job of ours is on record before its worker has it, and its result before its client does; the others run the
function in the process that reads the socket, and record nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import http, nursery
from benchmarks.figures import Goal, Row, Rows, Run
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.installed import interpreter
from runpod_flash import CpuLiveServerless, remote
from runpod_flash.client.program import Served, declaration
from runpod_flash.settings import load

AT_ONCE: Final = 64
SENDERS: Final = 16
QUEUED: Final = 10_000
INPUT: Final = b'{"input":{"n":1}}'
POLLS: Final = 200
END: Final = b'"output":{"n":1}}'
ACCEPTED: Final = b'"status":"IN_QUEUE"}'
PACKAGE: Final = Peer("runpod", "", ("runpod==1.12.0",), {})
HANDLER: Final = """
import runpod

async def handler(job):
    return {"n": job["input"]["n"]}

runpod.serverless.start({"handler": handler})
"""
POLLER: Final = """
import os, selectors, socket, sys
from urllib.parse import urlsplit

url = urlsplit(os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", os.environ["RUNPOD_POD_ID"]))
head = f"GET {url.path}?{url.query}&job_in_progress=0 HTTP/1.1\\r\\nhost: {url.netloc}\\r\\n"
request = f"{head}authorization: {os.environ['RUNPOD_AI_API_KEY']}\\r\\n\\r\\n".encode()
polls = selectors.DefaultSelector()
for _ in range(int(sys.argv[1])):
    poll = socket.create_connection((url.hostname, url.port))
    poll.sendall(request)
    polls.register(poll, selectors.EVENT_READ)
with open(sys.argv[2], "w") as file:
    file.write(str(os.getpid()))
while True:
    for key, _ in polls.select():
        key.fileobj.recv(65536)
        key.fileobj.sendall(request)
"""
"""A worker that asks for jobs on many connections at once, and gets none."""
_STARTS_S: Final = 60


@remote(CpuLiveServerless(name="noop", workersMin=1, workersMax=1, idleTimeout=600))
def noop(n: int) -> dict[str, int]:
    """Does nothing."""
    return {"n": n}


@remote(CpuLiveServerless(name="closed", workersMin=1, workersMax=1, idleTimeout=600))
async def closed(seconds: float) -> None:
    """Keeps its worker."""
    import asyncio

    await asyncio.sleep(seconds)


def rows(run: Run) -> Rows:
    """Ours, and its ratios to the others in the same run."""
    found: dict[str, Any] = {}
    for server in ("starlette", "flash"):
        measure = partial(nursery.run, __name__, server, "1", run.calls(8_000), core=run.core)
        found[server], trip = run.beside(measure)
        yield _latency(server, found, trip)
    theirs = nursery.run(__name__, "local_server", str(AT_ONCE), run.calls(10_000), interpreter(PACKAGE))
    ours = nursery.run(__name__, "flash", str(AT_ONCE), run.calls(20_000))
    title = f"/runsync, {AT_ONCE} connections"
    yield Row("Runpod's local server, nothing durable", title, theirs["rate"], "calls/s")
    goal, ratio = Goal(round(1.5 * theirs["rate"]), at_least=True), ours["rate"] / theirs["rate"]
    yield Row("Flash", title, ours["rate"], "calls/s", None, goal, f"{ratio:.2f} × theirs")
    queued = nursery.run(__name__, "queued", str(SENDERS), run.calls(QUEUED))
    title = f"/run, {SENDERS} connections, acknowledged on record"
    yield Row("Flash", title, queued["rate"], "calls/s", None, Goal(3000, at_least=True))
    held = nursery.run(__name__, "held", str(POLLS), "10" if not run.quick else "2")
    title = f"{POLLS} held polls of a worker, CPU of the engine"
    yield Row(
        "Flash", title, held["percent"], "% of a core", None, Goal(2), f"their client takes {held['client']:.1f} %"
    )


def _latency(server: str, found: dict[str, Any], trip: float) -> Row:
    took, plain = found[server]["p50"], found["starlette"]["p50"]
    if server == "starlette":
        return Row("Starlette on uvicorn", "no-op, 1 connection, p50", took, "µs", trip)
    note = f"{took / plain:.2f} × Starlette"
    return Row("Flash", "/runsync, 1 connection, p50", took, "µs", trip, Goal(round(3 * plain)), note)


# ── the servers ───────────────────────────────────────────────────────────────────────────────────


def starlette(connections: int, calls: int) -> dict[str, float]:
    """The least that Starlette can do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        server = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,), daemon=True)
        server.start()
        port = listener.getsockname()[1]
    try:
        return http.measured(port, http.request(port, "/noop"), connections, calls)
    finally:
        server.terminate()
        server.join()


def _serve(listener: socket.socket) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def noop(request: Request) -> JSONResponse:
        return JSONResponse({"n": (await request.json())["n"]})

    app = Starlette(routes=[Route("/noop", noop, methods=["POST"])])
    config = uvicorn.Config(app, log_level="warning", loop="uvloop", http="httptools")
    uvicorn.Server(config).run([listener])


def local_server(connections: int, calls: int, python: str) -> dict[str, float]:
    """Runpod's own package, serving the same handler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _program(python, port):
        return http.measured(port, _request(port, "/runsync"), connections, calls, END)


@contextlib.contextmanager
def _program(python: str, port: int) -> Iterator[None]:
    script = Path(os.environ["BENCH_SCRATCH"]) / "handler.py"
    script.write_text(HANDLER)
    options = ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", str(port), "--rp_log_level", "ERROR"]
    silent = subprocess.DEVNULL
    environment = {**os.environ, "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}
    server = subprocess.Popen([python, str(script), *options], stdout=silent, stderr=silent, env=environment)
    try:
        until = time.monotonic() + _STARTS_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def flash(connections: int, calls: int) -> dict[str, float]:
    """A job of ours."""
    assert noop.sync(1).output == {"n": 1}
    port, key = _gateway()
    return http.measured(port, _request(port, "/v2/noop/runsync", key), connections, calls, END)


def queued(connections: int, calls: int) -> dict[str, float]:
    """Jobs of ours whose worker is busy."""
    assert closed.sync(0).output is None
    asyncio.run(_occupy())
    port, key = _gateway()
    body = b'{"input":{"seconds":0}}'
    return http.measured(port, _request(port, "/v2/closed/run", key, body), connections, calls, ACCEPTED)


def held(connections: int, seconds: int) -> dict[str, float]:
    """What it costs that a worker waits: percents of a core, of the engine and of the one who waits."""
    from runpod_flash.cli.connection import connect

    scratch = Path(os.environ["BENCH_SCRATCH"])
    (scratch / "poller.py").write_text(POLLER)
    mark = scratch / "polls"
    served = Served(
        scratch / "poller.py", "poller", arguments=(str(connections), str(mark)), workers_min=1, workers_max=1
    )
    with connect() as engine:
        engine.ask(declaration(served, load()))
        until = time.monotonic() + _STARTS_S
        while not (mark.exists() and mark.read_text()):
            assert time.monotonic() < until, "the worker does not start"
            time.sleep(0.05)
        time.sleep(1)
        pids = {"percent": engine.welcome.pid, "client": int(mark.read_text())}
        before = {name: _cpu_s(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        return {name: 100 * (_cpu_s(pid) - before[name]) / seconds for name, pid in pids.items()}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _occupy() -> None:
    await closed.spawn(600)


def _gateway() -> tuple[int, str]:
    home = load().home
    address = json.loads((home / "engine.json").read_text())["gateway_url"]
    token = (home / "token").read_text().strip()
    return int(address.rpartition(":")[2]), f"authorization: Bearer {token}\r\n"


def _request(port: int, path: str, headers: str = "", body: bytes = INPUT) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    server, connections, calls, *more = sys.argv[1:]
    print(json.dumps(globals()[server](int(connections), int(calls), *more)))
