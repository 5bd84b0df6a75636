"""What happens to a request between the client and a worker: streams, cancellation, losses, limits, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import psutil
import pytest

from runpod_flash.engine import relay, waiting
from runpod_flash.gateway import connection as connections
from runpod_flash.wire import kinds
from tests.gateway.conftest import echo
from tests.gateway.raw import AUTHORIZED, HOST, Client, connected, reset
from tests.gateway.stage import Asked, Stage, Worker, stage
from tests.waiting import until

PATIENCE_S = 20


def get(path: str, more: str = "") -> str:
    return f"GET /lb/web{path} HTTP/1.1\r\n{AUTHORIZED}{more}\r\n"


class Held:
    """A function that holds its requests until the test lets them go."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.go: asyncio.Event | None = None

    async def __call__(self, asked: Asked) -> None:
        self.go = self.go or asyncio.Event()
        self.asked.append(asked)
        await self.go.wait()
        asked.answer(asked.worker.id.encode())

    def release(self, one: Stage) -> None:
        assert self.go is not None
        one.do(self.go.set)


async def count(asked: Asked) -> None:
    asked.begin(headers=[("content-type", "text/event-stream")])
    for n in range(3):
        await asked.data(f"data: {n}\n\n".encode())
        await asyncio.sleep(0)
    asked.end()


async def count_to_nine(asked: Asked) -> None:
    asked.begin(headers=[("content-length", "9")])
    await asked.data(b"12345")
    await asked.data(b"6789")
    asked.end()


async def promise_nine(asked: Asked) -> None:
    asked.begin(headers=[("Content-Length", "9")])
    await asked.data(b"12345")
    asked.end()


async def break_off(asked: Asked) -> None:
    asked.begin()
    await asked.data(b"12345")
    asked.end(broken=True)


async def split_header(asked: Asked) -> None:
    asked.answer(b"body", headers=[("x-a", "1\r\nset-cookie: stolen=1")])


async def no_content(asked: Asked) -> None:
    asked.answer(b"never sent", status=204)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> object:
    with stage(tmp_path_factory.mktemp("answers") / "home") as one:
        for function in (count, count_to_nine, promise_nine, break_off, split_header, no_content):
            one.serve(f"m:{function.__name__}", f"GET /{function.__name__}", function)
        yield one


def test_a_stream_comes_in_chunks_and_the_connection_goes_on(answers: Stage) -> None:
    with Client(answers) as client:
        answer = client.ask(get("/count"))
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert client.ask(get("/count")).status == 200


def test_a_stream_for_an_old_client_ends_with_its_connection(answers: Stage) -> None:
    with Client(answers) as client:
        answer = client.ask(f"GET /lb/web/count HTTP/1.0\r\n{AUTHORIZED}\r\n")
        assert "transfer-encoding" not in answer.headers
        assert answer.body.count(b"data: ") == 3


def test_a_stream_may_say_how_long_it_is_and_is_kept_to_it(answers: Stage) -> None:
    with Client(answers) as client:
        assert client.ask(get("/count_to_nine")).body == b"123456789"
        with pytest.raises(AssertionError, match="in the middle"):
            client.ask(get("/promise_nine"))


def test_an_answer_that_breaks_off_is_seen_to_break_off(answers: Stage) -> None:
    with Client(answers) as client, pytest.raises((EOFError, OSError, ValueError)):
        client.ask(get("/break_off"))


def test_head_of_a_stream_is_its_head_alone(answers: Stage) -> None:
    with Client(answers) as client:
        answer = client.ask(get("/count").replace("GET", "HEAD"), head=True)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert client.ask(get("/count_to_nine")).body == b"123456789"


def test_a_function_cannot_write_a_second_header_into_the_first(answers: Stage) -> None:
    with Client(answers) as client:
        answer = client.ask(get("/split_header"))
        assert answer.status == 500
        assert "set-cookie" not in answer.headers
        assert client.ask(get("/count_to_nine")).body == b"123456789"


def test_what_has_no_body_gets_none(answers: Stage) -> None:
    with Client(answers) as client:
        answer = client.ask(get("/no_content"))
        assert "content-length" not in answer.headers
        assert client.ask(get("/count_to_nine")).body == b"123456789"


# ── back-pressure ─────────────────────────────────────────────────────────────────────────────────


def test_a_client_that_reads_slowly_costs_no_memory_and_gets_everything(home: Path) -> None:
    sent = 0
    piece, number = b"x" * 100_000, 1000

    async def large(asked: Asked) -> None:
        nonlocal sent
        asked.begin()
        for _ in range(number):
            await asked.data(piece)
            sent += len(piece)
        asked.end()

    with stage(home) as one, Client(one) as client:
        one.serve("m:large", "GET /large", large)
        before = psutil.Process().memory_info().rss
        client.send(get("/large"))
        assert client.head()[0] == 200
        seen = -1
        while sent != seen:  # it comes to a stand while nobody reads
            seen = sent
            time.sleep(0.2)
        assert sent < 16_000_000
        assert psutil.Process().memory_info().rss - before < 24_000_000
        assert len(client.chunks()) == number * len(piece)


def test_a_function_that_reads_slowly_has_the_client_wait(home: Path) -> None:
    reading: list[Asked] = []
    total = 0

    async def slow(asked: Asked) -> None:
        nonlocal total
        reading.append(asked)
        await asked.cancelled.wait()  # here: set by the test to let it read
        total = len(await asked.body())
        asked.answer(str(total).encode())

    with stage(home) as one, Client(one) as client:
        one.serve("m:slow", "POST /slow", slow)
        client.send(f"POST /lb/web/slow HTTP/1.1\r\n{AUTHORIZED}Content-Length: 40000000\r\n\r\n")
        client.socket.setblocking(False)
        taken, still = 0, 0
        while still < 40 and taken < 40_000_000:
            try:
                taken += client.socket.send(b"x" * min(65536, 40_000_000 - taken))
                still = 0
            except BlockingIOError:
                still += 1
                time.sleep(0.01)
        assert taken < 30_000_000  # what sockets hold, and what may be under way
        one.do(reading[0].cancelled.set)
        client.socket.setblocking(True)
        client.send(b"x" * (40_000_000 - taken))
        assert client.read().body == b"40000000"


def test_the_end_of_a_body_that_comes_before_there_is_a_worker_reaches_it(home: Path) -> None:
    with stage(home) as one, Client(one) as client:
        one.builds = "later"
        one.serve("m:echo", "POST /echo", echo)
        client.send(f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%s\r\n" % (kinds.WINDOW, b"x" * kinds.WINDOW))
        (pool,) = one.engine.state.pools.values()
        until(lambda: pool.requests and one.wanted)
        client.send(b"0\r\n\r\n")
        until(lambda: one.do(lambda: next(iter(one.gateway._connections))._current.complete))  # type: ignore[union-attr]
        one.builds = "ready"
        one.do(one.build)
        assert len(client.read().body) == kinds.WINDOW


# ── who goes away ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["closes", "is killed"])
def test_a_client_that_goes_away_has_its_request_cancelled(home: Path, how: str) -> None:
    held = Held()
    with stage(home) as one:
        one.serve("m:held", "GET /held", held)
        client = Client(one)
        client.send(get("/held"))
        until(lambda: held.asked)
        if how == "closes":
            client.close()
        else:
            client.file.close()
            reset(client.socket)
        one.wait(asyncio.wait_for(held.asked[0].cancelled.wait(), PATIENCE_S))
        held.release(one)
        until(lambda: one.do(lambda: not one.engine.exchanges._relay.busy))


def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing(home: Path) -> None:
    came: list[Asked] = []

    async def read(asked: Asked) -> None:
        came.append(asked)
        while not asked.cancelled.is_set():
            reading = asyncio.ensure_future(asked.read())
            await asyncio.wait({reading, asyncio.ensure_future(asked.cancelled.wait())}, return_when="FIRST_COMPLETED")
            reading.cancel()
        asked.end(broken=True)

    with stage(home) as one:
        one.serve("m:read", "POST /read", read)
        for size in (10, 2_000_000):  # before a worker has it, and after
            client = Client(one)
            client.send(f"POST /lb/web/read HTTP/1.1\r\n{AUTHORIZED}Content-Length: 3000000\r\n\r\n")
            client.send(b"x" * size)
            until(lambda: size < kinds.WINDOW or came)  # noqa: B023 - called in this round
            client.close()
        one.wait(asyncio.wait_for(came[0].cancelled.wait(), PATIENCE_S))
        until(lambda: connected(one) == 0)
        until(lambda: one.do(lambda: not one.engine.exchanges._relay.busy))
        assert len(came) == 1


def test_a_request_that_waits_for_a_worker_is_taken_back_when_its_client_goes(home: Path) -> None:
    held = Held()
    with stage(home) as one, contextlib.ExitStack() as stack:
        one.serve("m:held", "GET /held", held, workers_max=1, concurrency=1)
        clients = [stack.enter_context(Client(one)) for _ in range(3)]
        for client in clients:
            client.send(get("/held"))
        (pool,) = one.engine.state.pools.values()
        until(lambda: len(pool.requests) == 2)
        clients[2].close()
        until(lambda: len(pool.requests) == 1)
        held.release(one)
        assert [client.read().status for client in clients[:2]] == [200, 200]


# ── workers ───────────────────────────────────────────────────────────────────────────────────────


def the_worker(one: Stage) -> Worker:
    (worker,) = one.workers.values()
    return worker


def test_a_request_that_may_be_repeated_goes_to_another_worker(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as client:
        one.serve("m:held", "PUT /held", held)
        client.send(f"PUT /lb/web/held HTTP/1.1\r\n{AUTHORIZED}Content-Length: 4\r\n\r\nbody")
        until(lambda: held.asked)
        first = the_worker(one)
        one.do(first.die)
        until(lambda: len(held.asked) == 2)
        held.release(one)
        answer = client.read()
        assert answer.status == 200
        assert answer.body.decode() == the_worker(one).id != first.id
        assert one.wait(held.asked[1].body()) == b"body"


def test_one_that_may_not_is_told_that_its_worker_was_lost(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as client:
        one.serve("m:held", "POST /held", held)
        client.send(f"POST /lb/web/held HTTP/1.1\r\n{AUTHORIZED}Content-Length: 0\r\n\r\n")
        until(lambda: held.asked)
        one.do(the_worker(one).die)
        answer = client.read()
        assert answer.status == 502
        told = json.loads(answer.body)
        assert told["id"] == held.asked[0].head.call
        assert "killed by signal 9" in told["detail"]
        assert not answer.closes


def test_a_request_that_kills_every_worker_ends(home: Path) -> None:
    async def kill(asked: Asked) -> None:
        asked.worker.die()

    with stage(home) as one, Client(one) as client:
        one.serve("m:kill", "GET /kill", kill)
        assert client.ask(get("/kill")).status == 502


def test_a_worker_that_dies_in_the_middle_of_an_answer_cuts_it_off(home: Path) -> None:
    async def half(asked: Asked) -> None:
        asked.begin()
        await asked.data(b"half")
        asked.worker.die()

    with stage(home) as one, Client(one) as client:
        one.serve("m:half", "GET /half", half)
        client.send(get("/half"))
        assert client.head()[0] == 200
        with pytest.raises((EOFError, OSError, ValueError)):
            client.chunks()


def test_a_function_that_takes_too_long_and_does_not_say_so_is_a_504(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_SLACK_S", 0.0)
    held = Held()
    with stage(home) as one, Client(one) as client:
        one.serve("m:held", "GET /held", held, timeout_ms=100)
        answer = client.ask(get("/held"))
        assert answer.status == 504
        assert "timeout of 0.1 s" in json.loads(answer.body)["detail"]


def test_an_endpoint_that_can_have_no_worker_says_why(home: Path) -> None:
    with stage(home) as one, Client(one) as client:
        one.builds = "failed"
        one.serve("m:f", "GET /f", echo)
        answer = client.ask(get("/f"))
        assert answer.status == 503
        assert "no such package: left-pad" in json.loads(answer.body)["detail"]
        assert "retry-after" in answer.headers


def test_too_many_that_wait_are_told_to_come_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST", 1)
    held = Held()
    with stage(home) as one, contextlib.ExitStack() as stack:
        one.serve("m:held", "GET /held", held, workers_max=1, concurrency=1)
        clients = [stack.enter_context(Client(one)) for _ in range(3)]
        (pool,) = one.engine.state.pools.values()
        clients[0].send(get("/held"))
        until(lambda: held.asked)
        clients[1].send(get("/held"))
        until(lambda: len(pool.requests) == 1)
        answer = clients[2].ask(get("/held"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        held.release(one)
        assert [client.read().status for client in clients[:2]] == [200, 200]


# ── time, number, the end ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "begun",
    [
        "",
        "GET /lb/web/echo HTTP/1.1\r\nHost: local",
        f"POST /lb/web/echo HTTP/1.1\r\n{AUTHORIZED}Content-Length: 10\r\n\r\nabc",
        f"GET /health HTTP/1.1\r\n{HOST}\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "nothing more"],
)
def test_who_is_too_slow_is_told_and_let_go(home: Path, monkeypatch: pytest.MonkeyPatch, begun: str) -> None:
    for name in ("HEAD_S", "BODY_S", "IDLE_S"):
        monkeypatch.setattr(connections, name, 0.05)
    with stage(home) as one, Client(one) as client:
        one.serve("m:echo", "POST /echo", echo)
        client.send(begun)
        if begun.startswith("GET /health"):
            assert client.read().status == 200
        elif begun:
            answer = client.read()
            assert (answer.status, answer.closes) == (408, True)
        assert client.ended()
        client.close()
        until(lambda: connected(one) == 0)


def test_a_client_that_reads_nothing_is_cut_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_S", 0.05)
    cancelled: list[Asked] = []

    async def endless(asked: Asked) -> None:
        asked.begin()
        sending = asyncio.ensure_future(send_on(asked))
        await asked.cancelled.wait()
        sending.cancel()
        cancelled.append(asked)
        asked.end(broken=True)

    async def send_on(asked: Asked) -> None:
        while True:
            await asked.data(b"x" * 100_000)

    with stage(home) as one, Client(one) as client:
        one.serve("m:endless", "GET /endless", endless)
        client.send(get("/endless"))
        until(lambda: cancelled)


def test_hundreds_of_connections_that_ask_nothing_are_in_nobodys_way(shared: Stage) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(shared)) for _ in range(300)]
        for client in (*clients, clients[0]):
            assert client.ask(get("/echo")).status == 200
    until(lambda: connected(shared) == 0)


def test_an_engine_that_leaves_lets_requests_finish_and_takes_no_new_ones(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as first, Client(one) as second, Client(one) as idle:
        one.serve("m:held", "GET /held", held)
        assert idle.ask(f"GET /health HTTP/1.1\r\n{HOST}\r\n").status == 200
        first.send(get("/held"))
        until(lambda: held.asked)
        leaving = asyncio.run_coroutine_threadsafe(
            one.engine.stop(reason="stop", stop_host=False, grace_s=30), one.loop
        )
        until(lambda: one.engine.exchanges.draining)
        answer = second.ask(get("/held"))
        assert (answer.status, answer.closes) == (503, True)
        held.release(one)
        answer = first.read()
        assert (answer.status, answer.closes) == (200, True)
        leaving.result(30)
        one.wait(one.gateway.close(5))
        assert idle.ended()


def test_what_waits_for_a_worker_when_the_engine_has_left_may_come_again(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as client, Client(one) as waiting:
        one.serve("m:held", "GET /held", held, concurrency=1, workers_max=1)
        client.send(get("/held"))
        until(lambda: held.asked)
        waiting.send(get("/held"))
        until(lambda: any(pool.requests for pool in one.engine.state.pools.values()))
        one.wait(one.engine.stop(reason="handover", stop_host=False, grace_s=0))
        answer = waiting.read()
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert b"nothing has run" in answer.body


def test_what_is_not_finished_when_the_engine_has_left_is_told_so(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as client:
        one.serve("m:held", "GET /held", held)
        client.send(get("/held"))
        until(lambda: held.asked)
        one.wait(one.engine.stop(reason="stop", stop_host=False, grace_s=0))
        one.wait(one.gateway.close(5))
        assert client.read().status == 502
        assert client.ended()


def test_an_engine_that_reads_its_store_again_tells_those_who_wait(home: Path) -> None:
    held = Held()
    with stage(home) as one, Client(one) as client:
        one.serve("m:held", "GET /held", held)
        client.send(get("/held"))
        until(lambda: held.asked)
        one.do(lambda: one.engine._at_fault("a test", RuntimeError("on purpose")))
        assert client.read().status == 502
