"""Which function a request is for, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runpod_flash.engine.routes import Routes
from runpod_flash.wire import messages
from tests.gateway.conftest import echo
from tests.gateway.raw import AUTHORIZED, Answer, Client
from tests.gateway.stage import Asked, Stage, stage


def ask(one: Stage, request: str) -> Answer:
    with Client(one) as client:
        return client.ask(f"{request} HTTP/1.1\r\n{AUTHORIZED}\r\n", head=request.startswith("HEAD"))


def test_an_endpoint_is_found_by_its_id_its_name_and_its_host(shared: Stage) -> None:
    (endpoint,) = json.loads(ask(shared, "GET /").body)["endpoints"]
    assert ask(shared, f"GET /lb/{endpoint['id']}/echo").status == 200
    assert ask(shared, "GET /lb/web/echo").status == 200
    with Client(shared) as client:
        request = f"GET /echo HTTP/1.1\r\n{AUTHORIZED}\r\n".replace("localhost", "WEB.localhost:80")
        answer = client.ask(request)
        assert (answer.status, answer.headers["x-path"]) == (200, "/echo")


def test_another_method_is_told_which_there_are(shared: Stage) -> None:
    answer = ask(shared, "DELETE /lb/web/echo")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST, PUT")
    assert ask(shared, "OPTIONS /lb/web/echo").status == 204


def test_what_does_not_exist_is_told_with_what_is_probably_meant(shared: Stage) -> None:
    assert "Did you mean 'web'?" in json.loads(ask(shared, "GET /lb/wev/echo").body)["detail"]
    assert "GET /items/{name}" in json.loads(ask(shared, "GET /lb/web/itemz").body)["routes"]
    assert ask(shared, "GET /lb/").status == 404


def test_a_name_that_two_apps_have_is_asked_back(home: Path) -> None:
    with stage(home) as one:
        for app in ("a", "b"):
            one.serve("m:f", "GET /f", echo, app=app)
        answer = ask(one, "GET /lb/web/f")
        choices = json.loads(answer.body)["choices"]
        assert answer.status == 404
        assert [choice["app"] for choice in choices] == ["a", "b"]
        assert ask(one, f"GET {choices[0]['path']}").status == 200


def test_a_redefinition_takes_the_place_of_the_function_and_another_function_is_refused(home: Path) -> None:
    async def second(asked: Asked) -> None:
        asked.answer(b"second")

    with stage(home) as one:
        one.serve("m:f", "GET /f", echo)
        assert isinstance(one.serve("m:f", "GET /g", second, version="v2"), messages.Declared)
        assert ask(one, "GET /lb/web/g").body == b"second"
        assert ask(one, "GET /lb/web/f").status == 404
        refused = one.serve("m:other", "GET /g/", second)
        assert isinstance(refused, messages.Error)
        assert refused.code == "config"
        assert "m:f (m:f.py:1) and m:other (m:other.py:1)" in refused.what
        assert isinstance(one.serve("m:other", "POST /g", second), messages.Declared)


def test_a_function_that_nobody_declares_any_more_gives_its_route_to_the_next(home: Path) -> None:
    with stage(home) as one:
        one.serve("m:old", "GET /f", echo)
        one.do(lambda: one.engine.left(one.client))
        one.do(one.connect_client)
        assert isinstance(one.serve("m:new", "GET /f", echo), messages.Declared)
        assert json.loads(ask(one, "GET /").body)["endpoints"][0]["routes"] == ["GET /f"]


def test_what_functions_say_of_themselves_is_put_together(home: Path) -> None:
    with stage(home) as one:
        one.serve("m:plain", "GET /plain", echo)
        schema = json.dumps({"summary": "An item.", "parameters": [{"name": "n", "in": "path", "required": True}]})
        one.serve("m:item", "GET /items/{n:path}", echo, schema=schema)
        one.serve("m:odd", "PUT /items/{n:path}", echo, schema="no JSON")
        document = json.loads(ask(one, "GET /lb/web/openapi.json").body)
    assert document["servers"] == [{"url": "/lb/web"}]
    assert list(document["paths"]) == ["/items/{n}", "/plain"]
    assert document["paths"]["/items/{n}"]["get"]["summary"] == "An item."
    assert document["paths"]["/items/{n}"]["put"]["operationId"] == "odd_put"


def test_the_page_of_an_endpoint_needs_nothing_from_elsewhere(shared: Stage) -> None:
    page = ask(shared, "GET /lb/web/docs")
    assert b"http://" not in page.body
    assert b"https://" not in page.body
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "show.js"):
        assert f"/lb/web/docs/{name}".encode() in page.body
        assert ask(shared, f"GET /lb/web/docs/{name}").status == 200
    assert ask(shared, "GET /lb/web/docs/token").status == 404


def test_an_endpoint_says_whether_it_is_ready(home: Path) -> None:
    with stage(home) as one:
        one.serve("m:f", "GET /f", echo)
        assert ask(one, "GET /lb/web/ping").status == 204
        assert ask(one, "GET /lb/web/f").status == 200
        assert ask(one, "GET /lb/web/ping").status == 200


@pytest.mark.parametrize(
    ("method", "path", "who", "params"),
    [
        ("GET", "/a", "a", {}),
        ("GET", "/a/", "a", {}),
        ("HEAD", "/a", "a", {}),
        ("GET", "/b/", "b slash", {}),
        ("GET", "/b", "b", {}),
        ("GET", "/users/me", "me", {}),
        ("GET", "/users/you", "user", {"id": "you"}),
        ("DELETE", "/users/you", "gone", {"who": "you"}),
        ("GET", "/users/you/x.txt", "file", {"id": "you", "rest": "x.txt"}),
        ("GET", "/users/you/x/y", "file", {"id": "you", "rest": "x/y"}),
        ("GET", "/v1.5", "version", {"n": "1.5"}),
        ("GET", "/a(b)", "odd", {}),
        ("POST", "/a", None, {}),
        ("GET", "/users", None, {}),
        ("GET", "/A", None, {}),
        ("GET", "//a", None, {}),
    ],
)
def test_routes_are_found_by_what_says_most(method: str, path: str, who: str | None, params: dict[str, str]) -> None:
    routes = Routes(
        [
            ("GET", "/users/{id}/{rest:path}", "file"),
            ("GET", "/users/{id}", "user"),
            ("DELETE", "/users/{who}", "gone"),
            ("GET", "/users/me", "me"),
            ("GET", "/v{n}", "version"),
            ("GET", "/a", "a"),
            ("GET", "/b", "b"),
            ("GET", "/b/", "b slash"),
            ("GET", "/a(b)", "odd"),
        ]
    )
    found = routes.find(method, path)
    assert (found and found.target, found.params if found else {}) == (who, params)
