"""Applications that are served by workers: real ones, of FastAPI and of nobody, asked by real clients."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, UsageError
from runpod_flash.client import application, background, transport
from runpod_flash.model.endpoint import Application, Program
from runpod_flash.testing import IsolatedEngine
from runpod_flash.wire.messages import Query, Rows
from tests.waiting import PATIENCE_S, until

FASTAPI = """
import asyncio, contextlib, os
from pathlib import Path
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
import words

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": words.HELLO}
    Path(os.environ["TOLD"]).write_text("closed")

app = FastAPI(lifespan=lifespan)
seen = []

@app.get("/hello/{name}")
async def hello(name: str, request: Request):
    url = request.url_for("hello", name=name)
    return {"said": f"{request.state.greeting}, {name}", "url": str(url), "pid": os.getpid()}

@app.post("/size")
async def size(request: Request):
    return sum([len(piece) async for piece in request.stream()])

@app.get("/numbers")
def numbers(count: int):
    return StreamingResponse((f"{number}\\n" * 1000 for number in range(count)), media_type="text/plain")

@app.get("/for-ever")
async def for_ever():
    async def ticks():
        try:
            while True:
                yield b"tick\\n"
                await asyncio.sleep(0.01)
        finally:
            seen.append("gone")
    return StreamingResponse(ticks())

@app.get("/seen")
async def what_was_seen():
    return seen

@app.get("/wrong")
async def wrong():
    raise KeyError("inside")

@app.get("/file")
async def file():
    return Path("data.txt").read_text()

together = asyncio.Event()

@app.get("/wait")
async def wait():
    await asyncio.wait_for(together.wait(), 20)
    return "waited"

@app.get("/go")
async def go():
    together.set()
    return "gone"
"""

PLAIN = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http", "only http"
    if scope["path"].endswith("/stuck"):
        await asyncio.sleep(60)
    if scope["path"].endswith("/slow"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(0.7)
        await send({"type": "http.response.body", "body": b"ended"})
        return
    if scope["path"].endswith("/half"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        return
    body = f"{scope['method']} {scope['root_path']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-own", b"yes")]})
    await send({"type": "http.response.body", "body": body})
"""


def declare(target: str, folder: Path, name: str, *, version: str = "", **options: Any) -> None:
    declare_served(Application(target, str(folder), version), name, **options)


def declare_served(
    served: Application | Program,
    name: str,
    *,
    requirements: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    **options: Any,
) -> None:
    """As a deployment does, but held by this program alone."""
    told = application.declaration(
        CpuLiveLoadBalancer(name=name, **{"workersMax": 1, **options}),
        served,
        app="shop",
        env="dev",
        origin="script",
        requirements=requirements,
        variables=variables,
    )

    async def tell() -> None:
        await transport.current().request(told)

    background.run(tell())


def endpoints() -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        rows: Rows = await transport.current().request(Query(what="endpoints"))
        return rows.rows

    return background.run(ask())


def client(engine: IsolatedEngine, endpoint: str) -> httpx.Client:
    token = (engine.home / "token").read_text().strip()
    base = f"{engine.facts['gateway_url']}/lb/{endpoint}"
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shop of ours")
    (made / "main.py").write_text(FASTAPI)
    (made / "words.py").write_text('HELLO = "Good day"\n')
    (made / "data.txt").write_text("of the project")
    (made / "plain.py").write_text(PLAIN)
    return made


@pytest.fixture(scope="module")
def shop(engine: IsolatedEngine, folder: Path) -> Iterator[httpx.Client]:
    variables = {"TOLD": str(folder / "told")}
    declare("main:app", folder, "shop", requirements=("fastapi",), variables=variables)
    with client(engine, "shop") as one:
        yield one


def test_an_application_answers_all_that_its_endpoint_is_asked(shop: httpx.Client) -> None:
    answer = shop.get("/hello/Ada")
    assert answer.status_code == 200, answer.text
    assert answer.json()["said"] == "Good day, Ada"
    assert answer.json()["url"] == str(answer.url)
    assert shop.get("/nothing").json() == {"detail": "Not Found"}
    assert shop.get("/file").json() == "of the project"
    assert shop.put("/size").status_code == 405


def test_its_documentation_works_below_its_prefix(shop: httpx.Client) -> None:
    page = shop.get("/docs").text
    assert "url: '/lb/shop/openapi.json'" in page
    assert "https://" not in page + shop.get("/redoc").text  # no network is needed
    assert shop.get("/_flash/docs/swagger-ui.css").headers["content-type"].startswith("text/css")
    assert shop.get("/_flash/docs/redoc.standalone.js").status_code == 200
    assert shop.get("/_flash/docs/no.js").status_code == 404
    described = shop.get("/openapi.json").json()
    assert described["servers"] == [{"url": "/lb/shop"}]
    assert "/hello/{name}" in described["paths"]


def test_bodies_stream_both_ways(shop: httpx.Client) -> None:
    assert shop.post("/size", content=(bytes(100_000) for _ in range(50))).json() == 5_000_000
    with shop.stream("GET", "/numbers", params={"count": 2000}) as answer:
        assert sum(len(piece) for piece in answer.iter_bytes()) == sum(len(f"{n}\n") * 1000 for n in range(2000))


def test_many_requests_are_answered_at_once(shop: httpx.Client) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(shop.get("/wait").json())) for _ in range(8)]
    for one in threads:
        one.start()
    assert shop.get("/go").json() == "gone"
    for one in threads:
        one.join()
    assert said == ["waited"] * 8


def test_it_hears_that_a_client_has_gone(shop: httpx.Client) -> None:
    with shop.stream("GET", "/for-ever") as answer:
        assert next(answer.iter_bytes()) == b"tick\n"
    until(lambda: shop.get("/seen").json() == ["gone"])


def test_what_it_raises_is_an_error_without_its_inside(shop: httpx.Client) -> None:
    answer = shop.get("/wrong")
    assert answer.status_code == 500
    assert "inside" not in answer.text


def test_an_answer_has_to_begin_in_time_and_may_take_its_time_then(engine: IsolatedEngine, folder: Path) -> None:
    declare("plain:app", folder, "slow", executionTimeoutMs=500)
    with client(engine, "slow") as slow:
        answer = slow.get("/stuck")
        assert answer.status_code == 504
        assert "0.5 s" in answer.json()["detail"]
        with slow.stream("GET", "/slow") as going_on:
            assert list(going_on.iter_bytes()) == [b"begun", b"ended"]


def test_nothing_is_answered_without_the_token_but_whether_it_is_ready(shop: httpx.Client) -> None:
    for path in ("/hello/Ada", "/docs", "/"):
        assert httpx.get(f"{shop.base_url}{path[1:]}").status_code == 401
    assert httpx.get(f"{shop.base_url}ping").status_code == 200


def test_a_worker_that_is_killed_is_replaced(shop: httpx.Client) -> None:
    first = shop.get("/hello/Ada").json()["pid"]
    os.kill(first, signal.SIGKILL)
    second = shop.get("/hello/Ada").json()["pid"]
    assert first != second


def test_an_application_without_a_framework_is_asked_as_asgi_says(engine: IsolatedEngine, folder: Path) -> None:
    declare("plain:app", folder, "plain")
    with client(engine, "plain") as plain:
        answer = plain.request("PROPFIND", "/pot/ä b")
        assert (answer.status_code, answer.headers["x-own"]) == (201, "yes")
        assert answer.text == "PROPFIND /lb/plain /lb/plain/pot/ä b"
        assert plain.get("/half").status_code == 500


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("broken:app", "import json\n1/0", "ZeroDivisionError: division by zero"),
        ("brken:app", "", "did you mean broken?"),
        ("broken:ap", "app = print", "did you mean app?"),
        ("broken:app", "app = 5", "is no application but int"),
        ("broken:app", "class A:\n    wsgi_app = print\napp = A()", "a2wsgi"),
        ("broken:app", "raise SystemExit('no configuration')", "no configuration"),
        (
            "broken:make()",
            "async def app(scope, receive, send):\n    await receive()\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
            "def make():\n    return app",
            "no database",
        ),
    ],
)
def test_one_that_cannot_start_says_why(
    engine: IsolatedEngine, tmp_path: Path, target: str, text: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text(text)
    declare(target, tmp_path, "broken", version=text)
    with client(engine, "broken") as broken:
        answer = broken.get("/")
    assert answer.status_code == 503
    assert said in answer.json()["detail"]
    assert "runpod_flash" not in answer.json()["detail"]
    assert "importlib" not in answer.json()["detail"]
    (row,) = [row for row in endpoints() if row["name"] == "broken"]
    assert said in row["why"] or row["waits"]["detail"]["failed_starts"] == 3


def test_it_is_told_of_its_end(engine: IsolatedEngine, folder: Path) -> None:
    told = folder / "told too"
    declare("main:app", folder, "short", requirements=("fastapi",), variables={"TOLD": str(told)}, idleTimeout=0)
    with client(engine, "short") as short:
        pid = short.get("/hello/Ada").json()["pid"]
    until(told.exists)
    until(lambda: not psutil.pid_exists(pid))
    assert told.read_text() == "closed"


def test_a_new_version_takes_over_and_the_old_one_finishes(engine: IsolatedEngine, tmp_path: Path) -> None:
    def version(number: int) -> None:
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        text = PLAIN.replace('"http", "only http"', '"http"').replace("scope['method']", f"'v{number}'")
        (folder / "plain.py").write_text(text)
        declare("plain:app", folder, "rolling", version=str(number), workersMax=2)

    version(1)
    with client(engine, "rolling") as rolling:
        assert rolling.get("/x").text.startswith("v1 ")
        version(2)
        assert rolling.get("/x").text.startswith("v2 ")


def test_a_resource_with_a_queue_serves_no_application() -> None:
    with pytest.raises(UsageError, match="CpuLiveLoadBalancer"):
        application.declaration(
            CpuLiveServerless(name="q"), Application("main:app", "/"), app="a", env="dev", origin="script"
        )
