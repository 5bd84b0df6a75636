"""Programs of other people that serve HTTP, in workers: uvicorn, http.server and a few lines of sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from runpod_flash.model.endpoint import Program
from runpod_flash.testing import IsolatedEngine
from tests.acceptance.test_asgi import client, declare_served
from tests.waiting import until

APP = """
import asyncio, os, time
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse, Response

app = FastAPI()
began = time.monotonic()
pings = []

@app.get("/ping")
def ping():
    pings.append(1)
    return Response(status_code=500 if "ill" in pings else 204 if len(pings) < 3 else 200)

@app.get("/pings")
def count():
    return len(pings)

@app.get("/pid")
def pid():
    return os.getpid()

@app.post("/ill")
def ill():
    pings.append("ill")

@app.api_route("/echo/{rest:path}", methods=["GET", "POST", "PUT"])
async def echo(rest: str, request: Request):
    body = await request.body()
    return {
        "rest": rest, "raw": request.scope["raw_path"].decode(), "query": request.url.query, "body": len(body),
        "headers": dict(request.headers), "method": request.method, "here": os.path.exists("main.py"),
    }

@app.get("/numbers")
def numbers(count: int):
    return StreamingResponse(f"{number}\\n" * 1000 for number in range(count))

@app.websocket("/socket")
async def socket(socket: WebSocket):
    await socket.accept(subprotocol=(socket.scope["subprotocols"] or [None])[0])
    try:
        while True:
            await socket.send_text((await socket.receive_text()).upper())
    finally:
        open(os.environ["TOLD"], "w").write("gone")

@app.websocket("/no")
async def no(socket: WebSocket):
    await socket.close()
"""


def program(folder: Path, *command: str, text: str = "", digest: str = "1") -> Program:
    if text:
        (folder / "main.py").write_text(text)
    return Program(command, str(folder), digest, "http")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uvicorn")


@pytest.fixture(scope="module")
def web(engine: IsolatedEngine, folder: Path) -> Iterator[httpx.Client]:
    serve_web(folder)
    with client(engine, "web") as one:
        yield one


def serve_web(folder: Path, digest: str = "1") -> None:
    command = ("python", "-m", "uvicorn", "main:app", "--port", "$PORT", "--log-level", "warning")
    declare_served(
        program(folder, *command, text=APP, digest=digest),
        "web",
        requirements=("fastapi", "uvicorn", "websockets"),
        variables={"TOLD": str(folder / "told"), "HEALTH_CHECK_INTERVAL": "0.5"},
        workersMax=2,
    )


def test_a_program_is_asked_once_it_says_that_it_is_ready(web: httpx.Client) -> None:
    assert web.get("/pings").json() >= 3


def test_it_gets_requests_as_they_came(web: httpx.Client) -> None:
    answer = web.post("/echo/a%2Fb%20c?x=%C3%A4&y", content=b"12345", headers={"x-own": "yes"})
    said = answer.json()
    assert (said["method"], said["body"], said["query"], said["here"]) == ("POST", 5, "x=%C3%A4&y", True)
    assert said["raw"] == "/echo/a%2Fb%20c"
    assert said["headers"]["x-own"] == "yes"
    assert said["headers"]["x-forwarded-prefix"] == "/lb/web"
    assert "authorization" not in said["headers"]
    assert answer.headers["x-runpod-worker-id"].startswith("w")
    assert web.head("/pid").status_code == 405
    offers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    assert web.get("/numbers?count=300", headers=offers).text.count("\n") == 300_000
    assert web.get("/nothing").status_code == 404


def test_bodies_stream_both_ways(web: httpx.Client) -> None:
    assert web.put("/echo/x", content=(bytes(100_000) for _ in range(50))).json()["body"] == 5_000_000
    assert web.put("/echo/x", content=bytes(5_000_000)).json()["body"] == 5_000_000
    with web.stream("GET", "/numbers", params={"count": 1000}) as answer:
        assert sum(map(len, answer.iter_bytes())) == sum(len(f"{n}\n") * 1000 for n in range(1000))


def test_many_at_once(web: httpx.Client) -> None:
    said: list[int] = []
    threads = [threading.Thread(target=lambda: said.append(web.get("/pid").status_code)) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert said == [200] * 20


def dial(engine: IsolatedEngine, path: str, **options: Any) -> Any:
    token = (engine.home / "token").read_text().strip()
    base = engine.facts["gateway_url"].replace("http", "ws")
    return connect(
        f"{base}{path}", proxy=None, open_timeout=60, additional_headers={"Authorization": f"Bearer {token}"}, **options
    )


def test_its_websockets_are_its_own(engine: IsolatedEngine, web: httpx.Client, folder: Path) -> None:
    with dial(engine, "/lb/web/socket", subprotocols=["chat"]) as one:
        assert one.subprotocol == "chat"
        assert one.response.headers["x-runpod-worker-id"].startswith("w")
        for text in ("hello", "x" * 200_000):
            one.send(text)
            assert one.recv(20) == text.upper()
        one.socket.close()
    until((folder / "told").exists)
    with pytest.raises(Exception, match="403"):
        dial(engine, "/lb/web/no")


def test_a_request_may_ask_for_a_worker(web: httpx.Client) -> None:
    mine = web.get("/pid").headers["x-runpod-worker-id"]
    for value in (mine, f"strict {mine}", f"strict-resume {mine}"):
        assert web.get("/pid", headers={"X-Runpod-Worker-Id": value}).headers["x-runpod-worker-id"] == mine
    assert web.get("/pid", headers={"X-Runpod-Worker-Id": "wgone"}).status_code == 200
    gone = web.get("/pid", headers={"X-Runpod-Worker-Id": "strict wgone"})
    assert (gone.status_code, gone.json()["error"]) == (404, "affinity_worker_gone")


def test_a_program_that_dies_is_replaced_and_its_websockets_end(engine: IsolatedEngine, web: httpx.Client) -> None:
    pid = web.get("/pid").json()
    with dial(engine, "/lb/web/socket") as one:
        one.send("x")
        assert one.recv(20) == "X"
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            one.recv(20)
    assert web.get("/pid").json() != pid


def test_a_program_that_is_not_well_any_more_is_replaced_and_its_output_says_why(
    engine: IsolatedEngine, web: httpx.Client
) -> None:
    pid = web.get("/pid").json()
    assert web.post("/ill").status_code == 200
    until(lambda: not psutil.pid_exists(pid))
    assert web.get("/pid").json() != pid
    logs = subprocess.run(
        [*FLASH[:-1], "logs", "--endpoint", "web"], env=engine.environ, capture_output=True, text=True, check=True
    )
    assert "was not well: GET /ping at port" in logs.stdout
    assert "gave status 500, 3 times in a row" in logs.stdout


def test_a_new_version_asks_clients_of_websockets_to_come_again(
    engine: IsolatedEngine, web: httpx.Client, folder: Path
) -> None:
    with dial(engine, "/lb/web/socket") as one:
        one.send("x")
        assert one.recv(20) == "X"
        serve_web(folder, digest="2")
        assert web.get("/pid").status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            one.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


def test_a_program_ends_with_its_worker(engine: IsolatedEngine, web: httpx.Client) -> None:
    pid = web.get("/pid").json()
    worker = psutil.Process(pid).ppid()
    os.kill(worker, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))
    assert web.get("/pid").json() != pid


def test_a_plain_server_without_a_health_check_serves_files(engine: IsolatedEngine, tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("from a file")
    declare_served(program(tmp_path, "python", "-m", "http.server", "$PORT", "--bind", "127.0.0.1"), "files")
    with client(engine, "files") as files:
        assert files.get("/page.txt").text == "from a file"
        assert files.get("/none.txt").status_code == 404
        assert files.post("/page.txt").status_code == 501


BREAKS = """
import os, socket
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
answers = {"/half": b"HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\nhalf",
           "/none": b"", "/odd": b"SSH-2.0\\r\\n\\r\\n",
           "/ping": b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n",
           "/wide": b"HTTP/1.1 200 OK\\r\\nx: " + b"x" * 100_000 + b"\\r\\n\\r\\n"}
held = []
while True:
    one, _ = server.accept()
    path = one.recv(65536).split(b" ")[1].decode()
    if path == "/held":
        held.append(one)
        continue
    one.sendall(answers[path])
    one.close()
"""


def test_one_that_answers_nonsense_is_502_and_one_that_is_silent_504(engine: IsolatedEngine, tmp_path: Path) -> None:
    declare_served(program(tmp_path, "python", "main.py", text=BREAKS), "breaks", executionTimeoutMs=1000)
    with client(engine, "breaks") as breaks:
        for path in ("/none", "/odd", "/wide"):
            answer = breaks.get(path)
            assert answer.status_code == 502, path
            assert "program" in answer.json()["detail"] or "answer" in answer.json()["detail"]
        assert breaks.get("/half").status_code == 502
        assert breaks.get("/held").status_code == 504


@pytest.mark.parametrize(
    ("command", "variables", "said"),
    [
        (("python", "main.py"), {}, "ended before it was ready: exit code 7"),
        (("no-such-program",), {}, "no-such-program cannot be started"),
        (("sleep", "1000.125"), {"RUNPOD_INIT_TIMEOUT": "0.2"}, "was not ready within 0.2 s (RUNPOD_INIT_TIMEOUT)"),
        (("sleep", "1000.125"), {"PORT": "many"}, "is no port"),
    ],
)
def test_one_that_does_not_become_ready_says_why(
    engine: IsolatedEngine, tmp_path: Path, command: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    text = "print('I give up'); raise SystemExit(7)"
    declare_served(program(tmp_path, *command, text=text, digest=said), "fails", variables=variables)
    with client(engine, "fails") as fails:
        answer = fails.get("/")
    assert answer.status_code == 503
    assert said in answer.json()["detail"]
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "1000.125"]]


def test_an_idle_program_is_asked_to_end(engine: IsolatedEngine, tmp_path: Path) -> None:
    told = f"import signal, sys\nsignal.signal(15, lambda *_: (open({str(tmp_path / 'told')!r}, 'w'), sys.exit(0)))\n"
    declare_served(program(tmp_path, "python", "main.py", text=told + BREAKS), "idle", idleTimeout=0)
    with client(engine, "idle") as idle:
        assert idle.get("/ping").status_code == 200
    until((tmp_path / "told").exists)


# ── flash serve --http ────────────────────────────────────────────────────────────────────────────

FLASH = (sys.executable, "-c", "from runpod_flash.cli.main import main; main()", "serve")


def serve(engine: IsolatedEngine, folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*FLASH, *words],
        cwd=folder,
        env=engine.environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_command_is_served_and_taken_away(engine: IsolatedEngine, tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("of the command")
    command = "python -m http.server ${PORT} --bind 127.0.0.1"
    out, err = serve(engine, tmp_path, "--http", command, "--name", "command", "--detach", "--json").communicate()
    told = json.loads(out)
    assert told["url"].endswith(f"/lb/{told['endpoint']}"), err
    with client(engine, "command") as command_client:
        assert command_client.get("/page.txt").text == "of the command"
        serve(engine, tmp_path, "--name", "command", "--stop").communicate()
        assert command_client.get("/page.txt").status_code == 404


def test_a_command_is_served_in_the_foreground_until_ctrl_c(engine: IsolatedEngine, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import sys\nprint('serving', flush=True)\n" + BREAKS)
    running = serve(engine, tmp_path, "--http", "python main.py", "--name", "foreground")
    assert running.stdout is not None
    assert "serving" in running.stdout.readline()
    with client(engine, "foreground") as foreground:
        assert foreground.get("/ping").status_code == 200
        os.killpg(running.pid, signal.SIGINT)
        _out, err = running.communicate()
        assert "is taken away" in err
        assert foreground.get("/ping").status_code == 204  # there is no worker, and nobody will start one
        assert foreground.get("/none").status_code == 404


def test_a_command_that_does_not_start_says_why(engine: IsolatedEngine, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import no_such_module_at_all")
    running = serve(engine, tmp_path, "--http", "python main.py", "--name", "hopeless")
    _out, err = running.communicate()
    assert running.returncode == 1
    assert "python main.py does not start" in err
    assert "no_such_module_at_all" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--http", "python none.py"), "there is no file none.py"),
        (("--http", ""), "the command is empty"),
        (("--http", "python '"), "is no command"),
        ((), "flash serve --http COMMAND"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(
    engine: IsolatedEngine, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    running = serve(engine, tmp_path, *words, "--name", "x")
    _out, err = running.communicate()
    assert running.returncode == 2
    assert said in err
