"""HTTP as it comes from outside: what is well-formed is answered, what is not is refused, and nothing hangs."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.raw import AUTHORIZED, HOST, Client
from tests.gateway.stage import TOKEN, Stage


def test_a_request_reaches_its_function_and_the_answer_comes_back(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"POST /lb/web/echo?a=1&b= HTTP/1.1\r\n{AUTHORIZED}X-One: 1\r\nContent-Length: 2\r\n\r\nhi")
    assert (answer.status, answer.body) == (200, b"hi")
    told = {name: answer.headers[f"x-{name}"] for name in ("method", "path", "query", "in-x-one")}
    assert told == {"method": "POST", "path": "/echo", "query": "a=1&b=", "in-x-one": "1"}
    assert answer.headers["x-in-x-forwarded-prefix"] == "/lb/web"
    assert {"date", "server"} <= answer.headers.keys()


def test_the_token_does_not_reach_the_function(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n")
    assert TOKEN not in str(answer)


def test_a_connection_is_kept_for_the_next_request(shared: Stage) -> None:
    with Client(shared) as client:
        for n in range(3):
            assert client.ask(f"GET /lb/web/items/{n} HTTP/1.1\r\n{AUTHORIZED}\r\n").headers["x-params"] == f"name={n}"
        assert client.ask(f"GET /nowhere HTTP/1.1\r\n{HOST}\r\n").status == 404
        last = client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Connection: close\r\n\r\n")
        assert last.closes
        assert client.ended()


def test_requests_sent_ahead_are_answered_in_their_order(shared: Stage) -> None:
    with Client(shared) as client:
        client.send("".join(f"GET /lb/web/items/{n} HTTP/1.1\r\n{AUTHORIZED}\r\n" for n in range(10)))
        assert [client.read().headers["x-params"] for _ in range(10)] == [f"name={n}" for n in range(10)]


def test_who_sends_far_too_many_ahead_gets_the_first_and_is_told_to_come_again(shared: Stage) -> None:
    with Client(shared) as client:
        client.send(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n" * 200)
        answers = [client.read()]
        while not answers[-1].closes:
            answers.append(client.read())
        assert {answer.status for answer in answers} == {200}
        assert 10 < len(answers) < 40


def test_a_body_in_chunks_arrives_whole(shared: Stage) -> None:
    with Client(shared) as client:
        client.send(f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n")
        for piece in (b"abc", b"d" * 100_000, b"e"):
            client.send(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
        client.send(b"0\r\nX-Trailer: ignored\r\n\r\n")
        assert client.read().body == b"abc" + b"d" * 100_000 + b"e"
        assert client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n").status == 200


def test_a_body_larger_than_what_may_be_under_way_arrives_whole(shared: Stage) -> None:
    body = bytes(range(256)) * 14_000
    with Client(shared) as client:
        client.send(f"PUT /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n")
        client.send(body)
        assert client.read().body == body
        assert client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n").status == 200


def test_a_client_that_expects_100_gets_it_before_it_sends_its_body(shared: Stage) -> None:
    with Client(shared) as client:
        head = f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        assert client.ask(head).status == 100
        assert client.ask("hi").body == b"hi"
        refused = client.ask(head.replace("echo", "nothing"))
        assert (refused.status, refused.closes) == (404, True)


def test_head_is_answered_as_get_without_its_body(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"HEAD /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 3\r\n\r\nabc", head=True)
        assert (answer.status, answer.headers["content-length"], answer.headers["x-method"]) == (200, "3", "HEAD")
        assert client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n").status == 200


def test_old_clients_get_an_end_instead_of_chunks(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /lb/web/echo HTTP/1.0\r\nAuthorization: {TOKEN}\r\n\r\n")
        assert (answer.status, answer.closes) == (200, True)
        assert client.ended()


def test_the_whole_address_may_be_the_target(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET http://localhost:1/lb/web/echo?x HTTP/1.1\r\n{AUTHORIZED}\r\n")
        assert (answer.status, answer.headers["x-query"]) == (200, "x")
        assert client.ask(f"GET http://evil.example/lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n").status == 403


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/items/a%20b", "name=a b"),
        ("/items/%E2%98%83", "name=\xe2\x98\x83"),
        ("/items/a+b", "name=a+b"),
        ("/items/a%2525", "name=a%25"),
        ("/items/..", "name=.."),
        ("/items/x/", "name=x"),
    ],
)
def test_what_a_path_says_is_decoded_once(shared: Stage, path: str, seen: str) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /lb/web{path} HTTP/1.1\r\n{AUTHORIZED}\r\n")
        assert (answer.status, answer.headers["x-params"]) == (200, seen)


BROKEN = {
    "no version": (f"GET /lb/web/echo\r\n{AUTHORIZED}\r\n", 400),
    "another protocol": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a greeting of TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    "no host": (f"GET /lb/web/echo HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n", 400),
    "two hosts": (f"GET /lb/web/echo HTTP/1.1\r\nHost: localhost\r\n{AUTHORIZED}\r\n", 400),
    "a strange host": (f"GET /lb/web/echo HTTP/1.1\r\nHost: a b\r\nAuthorization: Bearer {TOKEN}\r\n\r\n", 400),
    "two lengths": (f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
    "length and chunks": (
        f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "an unknown coding": (f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: gzip\r\n\r\n", 400),
    "a length of letters": (f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: two\r\n\r\n", 400),
    "a negative length": (f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: -2\r\n\r\n", 400),
    "a chunk of letters": (
        f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "half an escape": (f"GET /lb/web/items/%2 HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "no escape": (f"GET /lb/web/items/%zz HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "no UTF-8": (f"GET /lb/web/items/%ff HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "a NUL": (f"GET /lb/web/items/%00 HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "no path": (f"OPTIONS * HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "a tunnel": (f"CONNECT localhost:1 HTTP/1.1\r\n{AUTHORIZED}\r\n", 400),
    "too long a target": (f"GET /lb/web/items/{'a' * 20_000} HTTP/1.1\r\n{AUTHORIZED}\r\n", 414),
    "too many headers": (f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}{'A: b' + chr(13) + chr(10):s}" + "X: y\r\n" * 200
                         + "\r\n", 431),
    "too large a header": (f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}X: {'a' * 100_000}\r\n\r\n", 431),
    "headers without end": (f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}X: {'a' * 100_000}", 431),
    "too large a body": (f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 4000001000\r\n\r\n", 413),
    "another expectation": (f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Expect: cake\r\n\r\n", 417),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_request_is_refused_and_the_next_connection_does_not_notice(shared: Stage, case: str) -> None:
    request, status = BROKEN[case]
    with Client(shared) as client:
        answer = client.ask(request)
        assert answer.status == status, answer
        assert b"detail" in answer.body
    with Client(shared) as client:
        assert client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}\r\n").status == 200


def test_a_body_in_chunks_that_grows_too_large_is_refused_on_the_way(shared: Stage) -> None:
    with Client(shared) as client:
        client.send(f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            client.send(b"186a0\r\n" + b"a" * 100_000 + b"\r\n")
        assert client.read().status == 413
        assert client.ended()


def test_an_upgrade_is_not_made_and_the_request_is_answered_as_it_is(shared: Stage) -> None:
    with Client(shared) as client:
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        answer = client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}{upgrade}\r\n")
        assert (answer.status, answer.closes) == (200, True)


PIECES = st.sampled_from(
    [
        b"GET /lb/web/echo HTTP/1.1\r\n",
        b"POST /lb/web/echo HTTP/1.1\r\n",
        AUTHORIZED.encode(),
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"\0\xff\r\r\n\n: ",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=12))
def test_whatever_comes_is_answered_without_a_fault_and_never_hangs(shared: Stage, pieces: list[bytes]) -> None:
    with Client(shared) as client:
        with contextlib.suppress(OSError):  # it may be refused before it has said everything
            for piece in pieces:
                client.send(piece)
            client.socket.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.socket.recv(65536):
                said += piece
    assert b"HTTP/1.1 5" not in said
