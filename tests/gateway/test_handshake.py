"""What is read off a request that asks for another protocol, and off a path that names an endpoint."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from runpod_flash.engine.routes import Routes
from runpod_flash.gateway import handshake, target
from runpod_flash.gateway.frames import Frames

TOKEN = b"flash.bearer.the-token"


def test_a_token_among_the_subprotocols_is_put_where_it_belongs() -> None:
    headers = [(b"host", b"x"), (b"sec-websocket-protocol", b"chat, " + TOKEN), (b"sec-websocket-protocol", b"other")]
    assert handshake.with_token(headers) == [
        (b"host", b"x"),
        (b"sec-websocket-protocol", b"chat, other"),
        (b"authorization", b"Bearer the-token"),
    ]
    assert handshake.upgrade_of(headers).token_protocol == TOKEN.decode()


def test_one_in_authorization_goes_before_it() -> None:
    headers = [(b"authorization", b"Bearer mine"), (b"sec-websocket-protocol", TOKEN)]
    assert handshake.with_token(headers) == [(b"authorization", b"Bearer mine")]


def test_without_one_nothing_changes() -> None:
    headers = [(b"sec-websocket-protocol", b"chat"), (b"upgrade", b" WebSocket ")]
    assert handshake.with_token(headers) is headers
    assert handshake.upgrade_of(headers) == ("websocket", "")


@pytest.mark.parametrize(
    ("raw", "prefix", "below"),
    [
        (b"/lb/web/a%2Fb?x=/y", "/lb/web", "/a%2Fb?x=/y"),
        (b"/lb/web", "/lb/web", "/"),
        (b"/lb/web?x=/y", "/lb/web", "/?x=/y"),
        (b"/lb/w%65b//a", "/lb/web", "//a"),
        (b"http://localhost:80/lb/web/a?b", "/lb/web", "/a?b"),
        (b"http://web.localhost", "", "/"),
        (b"/a/b?c", "", "/a/b?c"),
        (b"/port/w1/8080/x", "/port/w1/8080", "/x"),
    ],
)
def test_what_stands_below_an_endpoint_stays_as_it_came(raw: bytes, prefix: str, below: str) -> None:
    assert target.below(raw, prefix) == below


def test_an_application_answers_whatever_no_function_does() -> None:
    routes = Routes([("GET", "/own", "function"), ("*", "/{path:path}", "application")])
    found = {(method, path): routes.find(method, path) for method in ("GET", "PURGE") for path in ("/own", "/", "/a/b")}
    assert {key: one.target for key, one in found.items() if one is not None} == {
        ("GET", "/own"): "function",
        ("PURGE", "/own"): "application",
        **{(method, path): "application" for method in ("GET", "PURGE") for path in ("/", "/a/b")},
    }


@given(st.lists(st.tuples(st.sampled_from([0, 1, 125, 126, 65535, 65536, 70000]), st.booleans())), st.integers(1, 4000))
def test_the_ends_of_frames_are_known_however_they_come(sizes: list[tuple[int, bool]], step: int) -> None:
    frames = [Frame(Opcode.BINARY, bytes(size)).serialize(mask=mask, extensions=[]) for size, mask in sizes]
    whole, ends = b"".join(frames), {0, *itertools.accumulate(map(len, frames))}
    seen = Frames()
    for at in range(0, len(whole), step):
        assert seen.between == (at in ends)
        seen.feed(whole[at : at + step])
    assert seen.between
