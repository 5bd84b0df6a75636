"""Who may ask: whoever has the token and is of this machine."""

from __future__ import annotations

import base64

import pytest

from runpod_flash.errors import ConfigError
from runpod_flash.gateway.token import open_token
from tests.gateway.raw import HOST, Client
from tests.gateway.stage import TOKEN, Stage


@pytest.mark.parametrize("said", [f"Bearer {TOKEN}", f"bearer {TOKEN}", TOKEN, f"  Bearer   {TOKEN} "])
def test_the_token_may_stand_there_in_two_ways(shared: Stage, said: str) -> None:
    with Client(shared) as client:
        assert client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{HOST}Authorization: {said}\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "said", ["", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Basic YTpi", "Bearer", "Bearer \xff"]
)
@pytest.mark.parametrize("path", ["/lb/web/echo", "/lb/web/nothing", "/lb/nobody/x"])
def test_without_it_nothing_is_done_and_nothing_is_told(shared: Stage, said: str, path: str) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET {path} HTTP/1.1\r\n{HOST}Authorization: {said}\r\n\r\n")
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert b"flash engine token" in answer.body


@pytest.mark.parametrize("path", ["/", "/health", "/lb/web/ping", "/lb/web/docs", "/lb/web/openapi.json"])
def test_what_only_shows_needs_no_token(shared: Stage, path: str) -> None:
    with Client(shared) as client:
        assert client.ask(f"GET {path} HTTP/1.1\r\n{HOST}\r\n").status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.1.2.3", "[::1]:8", "a.b.localhost"])
def test_names_of_this_machine_are_trusted(shared: Stage, host: str) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /lb/web/ping HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"]
)
def test_other_names_are_not_whoever_they_lead_to(shared: Stage, host: str) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert answer.status == 403
        assert b"not local" in answer.body


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
        ("file://", 403),
    ],
)
def test_pages_of_other_machines_cannot_ask_through_a_browser(shared: Stage, origin: str, status: int) -> None:
    with Client(shared) as client:
        answer = client.ask(
            f"GET /lb/web/echo HTTP/1.1\r\n{HOST}Authorization: Bearer {TOKEN}\r\nOrigin: {origin}\r\n\r\n"
        )
        assert answer.status == status
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_token_is_made_once_and_is_its_owners_alone(shared: Stage) -> None:
    token = open_token(shared.home)
    assert open_token(shared.home) == token
    file = shared.home / "token"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    open_token(shared.home)
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="holds no token"):
        open_token(shared.home)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("", 200),
        ("Sec-Fetch-Site: none\r\n", 200),
        ("Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n", 200),
        ("Sec-Fetch-Site: same-site\r\n", 401),
        ("Sec-Fetch-Site: cross-site\r\n", 401),
        ("Origin: http://localhost:3000\r\n", 401),
    ],
)
def test_a_password_that_a_browser_adds_by_itself_counts_for_pages_of_ours_alone(
    shared: Stage, more: str, status: int
) -> None:
    with Client(shared) as client:
        head = f"GET /lb/web/echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic(TOKEN)}\r\n{more}\r\n"
        answer = client.ask(head)
        assert answer.status == status
        assert "x-in-authorization" not in answer.headers


def test_a_browser_is_told_to_ask_for_the_token(shared: Stage) -> None:
    with Client(shared) as client:
        answer = client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{HOST}Accept: text/html,*/*\r\n\r\n")
        assert answer.status == 401
        assert "Basic" in answer.headers["www-authenticate"]
        wrong = client.ask(f"GET /lb/web/echo HTTP/1.1\r\n{HOST}Authorization: {basic('not it')}\r\n\r\n")
        assert wrong.status == 401
