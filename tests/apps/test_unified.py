"""Many examples in one app: who answers where, and that none of them sees another."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from runpod_flash.apps import unified_app
from runpod_flash.apps.unified import UnifiedApp
from tests.apps.galleries import worker, write

APP = """
from fastapi import FastAPI
{imports}
app = FastAPI()
"""


@contextlib.asynccontextmanager
async def asking(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that no server has started."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@contextlib.asynccontextmanager
async def running(app: UnifiedApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that was started as servers do it."""
    async with app.router.lifespan_context(app), asking(app) as client:
        yield client


def get(app: Any, *paths: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with asking(app) as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask())


def post(app: Any, *paths: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with asking(app) as client:
            return [await client.post(path, json={}) for path in paths]

    return asyncio.run(ask())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "flash-examples"
    folder.mkdir()
    return folder


def test_both_patterns_answer_below_example_and_type_and_below_the_category(root: Path) -> None:
    write(root, {
        "01_first/01_hello/gpu_worker.py": worker("hello", "gpu"),
        "02_second/mixed/workers/__init__.py": "",
        "02_second/mixed/workers/cpu/__init__.py": worker("mixed", "cpu"),
        "02_second/mixed/workers/gpu/__init__.py": worker("mixed", "gpu"),
    })  # fmt: skip
    paths = {
        "/01_hello/gpu/say": ("hello", "gpu"),
        "/01_first/01_hello/gpu/say": ("hello", "gpu"),
        "/01_first/01_hello/say": ("hello", "gpu"),
        "/mixed/cpu/say": ("mixed", "cpu"),
        "/mixed/gpu/say": ("mixed", "gpu"),
        "/02_second/mixed/gpu/say": ("mixed", "gpu"),
    }
    answers = post(unified_app(root), *paths)
    assert [(one.json()["example"], one.json()["type"]) for one in answers] == list(paths.values())


def test_an_alias_that_several_workers_have_lists_the_choices(root: Path) -> None:
    write(root, {
        "01_a/mixed/cpu_worker.py": worker("mixed", "cpu"),
        "01_a/mixed/gpu_worker.py": worker("mixed", "gpu"),
    })  # fmt: skip
    (answer,) = post(unified_app(root), "/01_a/mixed/say")
    assert answer.status_code == 404
    assert answer.json()["choices"] == ["/mixed/cpu/say", "/mixed/gpu/say"]


def test_only_the_first_form_is_in_the_schema_and_its_tag_names_category_and_example(root: Path) -> None:
    write(root, {"01_getting_started/01_hello_world/gpu_worker.py": worker("hello", "gpu")})
    (answer,) = get(unified_app(root), "/openapi.json")
    schema = answer.json()
    assert list(schema["paths"]) == ["/01_hello_world/gpu/say"]
    operation = schema["paths"]["/01_hello_world/gpu/say"]["post"]
    assert operation["tags"] == ["01 Getting Started > 01 Hello World"]
    assert [tag["name"] for tag in schema["tags"]] == operation["tags"]


def test_models_of_one_name_stay_apart_in_the_schema(root: Path) -> None:
    write(root, {
        "01_a/one/gpu_worker.py": worker("one", "gpu", "text"),
        "01_a/two/gpu_worker.py": worker("two", "gpu", "number"),
        "01_a/three/gpu_worker.py": worker("three", "gpu", "text"),
    })  # fmt: skip
    (answer,) = get(unified_app(root), "/openapi.json")
    schema = answer.json()

    def fields(path: str) -> list[str]:
        content = schema["paths"][path]["post"]["requestBody"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        return list(schema["components"]["schemas"][name]["properties"])

    assert [fields(f"/{name}/gpu/say") for name in ("one", "two", "three")] == [["text"], ["number"], ["text"]]
    ids = [operation["operationId"] for item in schema["paths"].values() for operation in item.values()]
    assert len(set(ids)) == 3


def test_examples_of_one_name_in_two_categories_are_both_served(root: Path) -> None:
    write(root, {
        "01_a/hello/gpu_worker.py": worker("first", "gpu"),
        "02_b/hello/gpu_worker.py": worker("second", "gpu"),
    })  # fmt: skip
    app = unified_app(root)
    one, two, neither = post(app, "/01_a/hello/gpu/say", "/02_b/hello/say", "/hello/gpu/say")
    assert (one.json()["example"], two.json()["example"]) == ("first", "second")
    assert neither.status_code == 404
    assert neither.json()["choices"] == ["/01_a/hello/gpu/say", "/02_b/hello/gpu/say"]
    assert list(app.openapi()["paths"]) == ["/01_a/hello/gpu/say", "/02_b/hello/gpu/say"]


SPY = """
from fastapi import APIRouter
{type}_router = APIRouter()

@{type}_router.get("/seen")
async def seen() -> dict[str, str]:
    import importlib
    import workers.shared
    import workers.late as late
    from workers import shared
    from workers.shared import NAME
    from .. import shared as relative
    again = importlib.import_module("workers.shared")
    assert workers.shared is shared is relative is again
    return {{"name": NAME, "late": late.NAME, "module": again.NAME}}
"""


def test_packages_of_one_name_never_meet_also_in_imports_made_inside_a_route(root: Path) -> None:
    for name in ("one", "two"):
        write(root, {
            f"01_a/{name}/main.py": APP.format(imports="from workers.cpu import cpu_router\nimport helpers")
            + "app.include_router(cpu_router, prefix='/cpu')\n@app.get('/own')\ndef own(): return helpers.NAME\n",
            f"01_a/{name}/helpers.py": f"NAME = '{name}'\n",
            f"01_a/{name}/workers/__init__.py": "",
            f"01_a/{name}/workers/shared.py": f"NAME = '{name}'\n",
            f"01_a/{name}/workers/late.py": f"NAME = 'late {name}'\n",
            f"01_a/{name}/workers/cpu/__init__.py": SPY.format(type="cpu"),
        })  # fmt: skip
    path, modules = list(sys.path), set(sys.modules)
    answers = get(unified_app(root), "/one/cpu/seen", "/two/cpu/seen", "/two/own", "/one/own")
    assert [one.json() for one in answers] == [
        {"name": "one", "late": "late one", "module": "one"},
        {"name": "two", "late": "late two", "module": "two"},
        "two",
        "one",
    ]
    assert sys.path == path
    assert not {"workers", "helpers", "main"} & (set(sys.modules) - modules)


def test_an_example_keeps_its_own_app_its_middleware_its_handlers_and_its_addresses(root: Path) -> None:
    write(root, {
        "01_a/one/main.py": """
            from fastapi import FastAPI, Request
            from fastapi.responses import PlainTextResponse
            from gpu_worker import gpu_router

            app = FastAPI(title="The first")
            app.include_router(gpu_router, prefix="/gpu")

            @app.middleware("http")
            async def mark(request: Request, call_next):
                response = await call_next(request)
                response.headers["x-one"] = request.app.title
                return response

            @app.exception_handler(KeyError)
            async def handle(request: Request, error: KeyError):
                return PlainTextResponse(f"no {error}", 418)

            @app.get("/fails")
            async def fails():
                raise KeyError("tea")

            @app.get("/where")
            async def where(request: Request) -> str:
                return str(request.url_for("fails"))
        """,
        "01_a/one/gpu_worker.py": worker("one", "gpu"),
        "01_a/two/gpu_worker.py": worker("two", "gpu"),
    })  # fmt: skip
    app = unified_app(root)
    fails, where, there = get(app, "/one/fails", "/one/where", "/01_a/one/where")
    assert (fails.status_code, fails.text, fails.headers["x-one"]) == (418, "no 'tea'", "The first")
    assert where.json() == "http://localhost/one/fails"
    assert there.json() == "http://localhost/01_a/one/fails"
    one, two = post(app, "/one/gpu/say", "/two/gpu/say")
    assert ("x-one" in one.headers, "x-one" in two.headers) == (True, False)
    assert list(app.openapi()["paths"]) == ["/one/gpu/say", "/one/fails", "/one/where", "/two/gpu/say"]


def test_the_lifespan_of_each_example_runs_once_and_ends(root: Path) -> None:
    lifespan = """
        import contextlib
        from fastapi import FastAPI, Request

        @contextlib.asynccontextmanager
        async def lifespan(app):
            log = open(__file__ + ".log", "a")
            print("begin", file=log, flush=True)
            yield {"model": "%s"}
            print("end", file=log, flush=True)
            log.close()

        app = FastAPI(lifespan=lifespan)

        @app.get("/model")
        async def model(request: Request) -> str:
            return request.state.model
    """
    write(root, {f"01_a/{name}/main.py": lifespan % name for name in ("one", "two")})

    async def ask() -> list[str]:
        async with running(unified_app(root)) as client:
            return [(await client.get(f"/{name}/model")).json() for name in ("one", "one", "two")]

    assert asyncio.run(ask()) == ["one", "one", "two"]
    for name in ("one", "two"):
        assert (root / f"01_a/{name}/main.py.log").read_text().split() == ["begin", "end"]


BROKEN: dict[str, dict[str, str]] = {
    "not Python": {"main.py": "def (\n"},
    "an import that is not there": {"gpu_worker.py": "import no_such_module_at_all\n"},
    "an error in a line of its own": {"main.py": "limit = 1\nlimit / 0\n"},
    "an app that is none": {"main.py": "app = 3\n"},
    "an exit": {"main.py": "raise SystemExit(1)\n"},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_example_costs_only_itself_and_says_why(root: Path, what: str) -> None:
    write(root, {"01_a/good/gpu_worker.py": worker("good", "gpu")})
    write(root / "01_a/bad", BROKEN[what])
    app = unified_app(root)
    good, bad, health, index = [
        *post(app, "/good/gpu/say", "/bad/gpu/say"),
        *get(app, "/health", "/"),
    ]
    assert good.status_code == 200
    assert bad.status_code == 503
    assert f"{next(iter(BROKEN[what]))}" in bad.json()["reason"]
    assert "example_01_a" not in bad.json()["reason"]
    assert health.json() == {"status": "degraded", "examples_loaded": 1, "total_examples": 2}
    assert ">broken<" in index.text


def test_a_lifespan_that_fails_breaks_its_example_alone(root: Path) -> None:
    write(root, {
        "01_a/bad/main.py": """
            import contextlib
            from fastapi import FastAPI

            @contextlib.asynccontextmanager
            async def lifespan(app):
                raise RuntimeError("no model here")
                yield

            app = FastAPI(lifespan=lifespan)
        """,
        "01_a/good/gpu_worker.py": worker("good", "gpu"),
    })  # fmt: skip

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with running(unified_app(root)) as client:
            return await client.get("/bad/x"), await client.post("/good/gpu/say", json={})

    bad, good = asyncio.run(ask())
    assert (bad.status_code, good.status_code) == (503, 200)
    assert "no model here" in bad.json()["reason"]


def test_health_tells_how_far_loading_is(root: Path) -> None:
    write(root, {f"01_a/e{n}/gpu_worker.py": worker(f"e{n}", "gpu") for n in range(5)})

    async def ask() -> list[dict[str, Any]]:
        async with running(unified_app(root)) as client:
            return [health async for health in until_loaded(client)]

    told = asyncio.run(ask())
    assert told[-1] == {"status": "ok", "examples_loaded": 5, "total_examples": 5}
    assert all(one["status"] == "loading" for one in told[:-1])


async def until_loaded(client: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    while True:
        health: dict[str, Any] = (await client.get("/health")).json()
        yield health
        if health["status"] != "loading":
            return
        await asyncio.sleep(0)  # this client takes no turn of the loop by itself


def test_a_router_of_another_name_is_told_on_the_index_with_the_expected_one(root: Path) -> None:
    write(root, {"01_a/odd/gpu_worker.py": worker("odd", "gpu", name="router")})
    (index,) = get(unified_app(root), "/")
    assert "gpu_worker.py calls its router <code>router</code>; only <code>gpu_router</code> is found" in index.text


def test_the_index_shows_every_example_with_its_routes_before_anything_is_imported(root: Path) -> None:
    write(root, {
        "01_getting_started/01_hello_world/gpu_worker.py": "raise SystemExit\n" + worker("hello", "gpu"),
        "01_getting_started/01_hello_world/README.md": "# Hello\n\nA **first** example,\nin [words](x).\n\n## More\n",
    })  # fmt: skip
    (index,) = get(unified_app(root), "/")
    for text in ("01 Getting Started", "01 Hello World", "/gpu/say", "Say who answers.", "A first example, in words."):
        assert text in index.text
    assert "More words" not in index.text
    assert "http://" not in index.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in index.text


def test_names_of_folders_cannot_write_into_the_page(root: Path) -> None:
    write(root, {"01_a/<img src=x onerror=alert(1)>/gpu_worker.py": worker("x", "gpu")})
    (index,) = get(unified_app(root), "/")
    assert "<img" not in index.text


def test_an_example_that_is_not_there_is_answered_with_the_one_that_is_meant(root: Path) -> None:
    write(root, {"01_a/hello/gpu_worker.py": worker("hello", "gpu")})
    typo, alone = get(unified_app(root), "/helo/gpu/say", "/gpu/say")
    assert (typo.status_code, alone.status_code) == (404, 404)
    assert "Did you mean 'hello'?" in typo.json()["detail"]
    assert alone.json()["detail"] == "there is no example 'gpu'; /gpu/say is served as /hello/gpu/say here"
    assert alone.json()["choices"] == ["/hello/gpu/say"]


def test_an_example_named_as_one_of_our_pages_is_served_below_its_category(root: Path) -> None:
    write(root, {"01_a/docs/gpu_worker.py": worker("docs", "gpu")})
    app = unified_app(root)
    (answer,) = post(app, "/01_a/docs/gpu/say")
    page, asset = get(app, "/docs", "/_flash/docs/swagger-ui.css")
    assert answer.json()["example"] == "docs"
    assert "swagger-ui-bundle.js" in page.text
    assert asset.headers["content-type"].startswith("text/css")
    assert "https://" not in page.text


def test_the_pages_of_an_example_refer_to_nothing_elsewhere(root: Path) -> None:
    write(root, {"01_a/hello/gpu_worker.py": worker("hello", "gpu")})
    app = unified_app(root)
    for page in get(app, "/hello/docs", "/hello/redoc"):
        assert re.findall("https?://", page.text) == []
        for name in re.findall('(?:src|href)="(?!data:)([^"]+)"', page.text):
            (asset,) = get(app, f"/hello/{name}")  # beside the page, as a browser has it
            assert asset.status_code == 200
            assert b"https://cdn" not in asset.content


def test_a_gallerys_own_main_is_three_lines_and_may_have_routes_of_its_own(root: Path) -> None:
    write(root, {
        "01_a/hello/gpu_worker.py": worker("hello", "gpu"),
        "main.py": """
            from runpod_flash.apps import unified_app

            app = unified_app(__file__)

            @app.get("/extra")
            def extra() -> str:
                return "extra"
        """,
    })  # fmt: skip
    names: dict[str, Any] = {"__file__": str(root / "main.py")}
    exec((root / "main.py").read_text(), names)
    (extra,) = get(names["app"], "/extra")
    assert extra.json() == "extra"
    assert set(names["app"].openapi()["paths"]) == {"/extra"}


def test_categories_without_numbers_count_where_none_has_one_and_a_category_alone_is_a_gallery(root: Path) -> None:
    write(root, {"basics/hello/gpu_worker.py": worker("hello", "gpu"), "notes/x.md": ""})
    for place, name in ((root, "basics"), (root / "basics", "basics")):
        (served,) = unified_app(place).examples
        assert (served.example.category, served.example.name) == (name, "hello")
    write(root, {"01_a/other/gpu_worker.py": worker("other", "gpu")})
    (served,) = unified_app(root).examples
    assert served.example.name == "other"


def test_an_empty_folder_says_how_to_begin(root: Path) -> None:
    app = unified_app(root)
    index, health = get(app, "/", "/health")
    assert "flash init" in index.text
    assert health.json() == {"status": "ok", "examples_loaded": 0, "total_examples": 0}


def test_websockets_reach_their_example(root: Path) -> None:
    write(root, {
        "01_a/chat/main.py": """
            from fastapi import FastAPI, WebSocket
            app = FastAPI()

            @app.websocket("/echo")
            async def echo(socket: WebSocket) -> None:
                await socket.accept()
                await socket.send_text((await socket.receive_text()).upper())
                await socket.close()
        """,
    })  # fmt: skip
    sent: list[dict[str, Any]] = []
    inbox = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]

    async def receive() -> dict[str, Any]:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/chat/echo", "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(call(unified_app(root), scope, receive, send))
    assert [message.get("text") for message in sent if message["type"] == "websocket.send"] == ["HI"]


async def call(app: Any, scope: Any, receive: Callable[[], Coroutine[Any, Any, Any]], send: Any) -> None:
    await app(scope, receive, send)
