"""Requests whose heads have come before: they are not read again, and nobody can tell."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.conftest import echo
from tests.gateway.raw import AUTHORIZED, HOST, Client
from tests.gateway.stage import Asked, Stage, stage


def post(body: str, target: str = "/lb/web/echo?a=1", extra: str = "") -> str:
    return f"POST {target} HTTP/1.1\r\n{AUTHORIZED}{extra}Content-Length: {len(body)}\r\n\r\n{body}"


def test_the_same_head_again_is_answered_as_the_first_time_on_every_connection(shared: Stage) -> None:
    for _ in range(2):
        with Client(shared) as client:
            for body in ("one", "two", "three", "six", ""):
                answer = client.ask(post(body, extra="X-Kind: b\r\n"))
                assert (answer.status, answer.body) == (200, body.encode())
                said = [answer.headers[name] for name in ("x-method", "x-path", "x-query", "x-in-x-kind")]
                assert said == ["POST", "/echo", "a=1", "b"]
                assert answer.headers["x-in-x-forwarded-prefix"] == "/lb/web"
                assert not answer.closes


def test_a_known_head_with_its_body_in_pieces_or_more_behind_it_is_read_as_any_other(shared: Stage) -> None:
    with Client(shared) as client:
        assert client.ask(post("12345")).body == b"12345"
        whole = post("abcde")
        client.send(whole[:-3])
        client.send(whole[-3:])
        assert client.read().body == b"abcde"
        client.send(whole + post("fghij") + post("12345"))
        assert [client.read().body for _ in range(3)] == [b"abcde", b"fghij", b"12345"]


def test_what_was_refused_or_has_no_token_is_judged_each_time(shared: Stage) -> None:
    with Client(shared) as client:
        for _ in range(2):
            bare = f"POST /lb/web/echo?a=1 HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\none"
            assert client.ask(bare).status == 401
            assert client.ask(post("one")).status == 200
        assert client.ask(post("one", extra="Transfer-Encoding: chunked\r\n")).status == 400


def test_a_known_head_is_for_the_function_that_is_there_now(home: Path) -> None:
    async def second(asked: Asked) -> None:
        asked.answer(b"second")

    with stage(home) as one, Client(one) as client:
        one.serve("m:f", "GET /f", echo)
        request = f"GET /lb/web/f HTTP/1.1\r\n{AUTHORIZED}\r\n"
        for _ in range(2):
            assert client.ask(request).headers["x-path"] == "/f"
        one.serve("m:f", "GET /f", second, version="v2")
        for _ in range(2):
            assert client.ask(request).body == b"second"
        one.serve("m:f", "GET /f", second, app="another")
        for _ in range(2):
            answer = client.ask(request)
            assert (answer.status, b"choices" in answer.body) == (404, True)
