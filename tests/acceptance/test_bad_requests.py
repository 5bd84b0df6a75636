"""Bad requests to a load-balanced function: each is told what is wrong, and together they leave nothing behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from runpod_flash import CpuLiveLoadBalancer, remote
from runpod_flash.testing import IsolatedEngine, isolated_engine

PATIENCE_S = 30
Held = tuple[int, int, list[int]]
LIMIT = 1 << 20


@remote(CpuLiveLoadBalancer(name="shop", workersMax=2))
async def buy(item: str, count: int = 1) -> str:
    return item * count


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    with isolated_engine(FLASH_GATEWAY_BODY=str(LIMIT)) as one:
        assert buy.sync("a") == "a"
        yield one


@pytest.fixture
def client(engine: IsolatedEngine) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {(engine.home / 'token').read_text().strip()}"}
    with httpx.Client(base_url=engine.facts["gateway_url"], headers=headers, timeout=PATIENCE_S) as one:
        yield one


JSON = {"content-type": "application/json"}
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "too large": ({"content": b"x" * (LIMIT + 1), "headers": JSON}, 413, "FLASH_GATEWAY_BODY"),
    "no JSON": ({"content": b"{item", "headers": JSON}, 422, "JSON"),
    "not UTF-8": ({"content": b'{"item": "\xff\xfe"}', "headers": JSON}, 422, "JSON"),
    "an image": ({"content": b"\x89PNG", "headers": {"content-type": "image/png"}}, 415, "image/png"),
    "another type": ({"json": {"item": ["a"]}}, 422, "item"),
    "nothing": ({}, 422, "item"),
    "many headers": ({"json": {"item": "a"}, "headers": {f"x-{n}": "y" for n in range(200)}}, 431, "headers"),
    "a large header": ({"json": {"item": "a"}, "headers": {"x": "y" * 100_000}}, 431, "headers"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_told_what_is_wrong(client: httpx.Client, name: str) -> None:
    request, status, told = BAD[name]

    answer = client.post("/lb/shop/buy", **request)

    assert (answer.status_code, told in answer.text) == (status, True), answer.text
    assert client.post("/lb/shop/buy", json={"item": "a", "count": 2}).json() == "aa"


def test_many_of_them_leave_no_worker_no_socket_and_no_file(engine: IsolatedEngine, client: httpx.Client) -> None:
    client.post("/lb/shop/buy", json={"item": "a"})
    before = held(engine)

    for _ in range(20):
        for request, status, _told in BAD.values():
            assert client.post("/lb/shop/buy", **request).status_code == status
        vanish(engine, b"POST /lb/shop/buy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        vanish(engine, b"POST /lb/shop/buy HTTP/1.1\r\nhost: local")

    until(lambda: is_no_more(held(engine), before), lambda: (held(engine), before))


def is_no_more(now: Held, before: Held) -> bool:
    """Less may be open: what was being done at the beginning, bytecode for instance, may have come to an end."""
    return now[0] <= before[0] and now[1] <= before[1] and now[2] == before[2]


def vanish(engine: IsolatedEngine, data: bytes) -> None:
    """A client that goes away in the middle of its request."""
    port = int(engine.facts["gateway_url"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)


def held(engine: IsolatedEngine) -> Held:
    """Descriptors of the engine and of its worker, and which workers there are."""
    workers = engine.workers()
    return psutil.Process(engine.facts["pid"]).num_fds(), sum(psutil.Process(one).num_fds() for one in workers), workers


def until(condition: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.02)
