"""Calls, as the engine sees them: what a worker answers to a START."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import pack_function
from runpod_flash.wire import blobs, kinds
from tests.worker.peer import Peer, head_of


@dataclasses.dataclass
class Point:
    x: int
    y: int

    def moved(self) -> Point:
        return Point(self.x + 1, self.y + 1)


class Colour(enum.Enum):
    RED = 1


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"{left} of {item} left")
        self.item = item


def echo(value: Any) -> Any:
    return value


def test_a_plain_function_runs_on_the_main_thread(peer: Peer) -> None:
    def where() -> bool:
        import threading

        return threading.current_thread() is threading.main_thread()

    assert peer.call(where).value is True


def test_a_coroutine_function_is_awaited_on_a_loop_that_stays(peer: Peer) -> None:
    async def loop_id() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    assert peer.call(loop_id).value == peer.call(loop_id).value


def test_what_a_plain_function_returns_is_awaited_if_it_can_be(peer: Peer) -> None:
    async def inner() -> str:
        return "inner"

    def outer() -> Any:
        return inner()

    assert peer.call(outer).value == "inner"


def test_generators_give_the_list_of_what_they_yield(peer: Peer) -> None:
    def count() -> Iterator[int]:
        yield from range(3)

    async def count_later() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    assert peer.call(count).value == [0, 1, 2]
    assert peer.call(count_later).value == [0, 1, 2]


def test_keyword_arguments_arrive(peer: Peer) -> None:
    def minus(a: int, b: int) -> int:
        return a - b

    assert peer.call(minus, 5, kwargs={"b": 3}).value == 2


def test_a_function_stays_loaded_between_calls(peer: Peer) -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    packed = pack_function(count)
    peer.define(packed.defs)
    empty = codec.encode(((), {})).parts
    for expected in (1, 2, 3):
        head = {
            "job": f"j{expected}",
            "attempt": 1,
            "epoch": 1,
            "name": "count",
            "version": "1",
            "digest": packed.digest,
        }
        peer.send(kinds.START, head, empty)
        assert peer.done().value == expected


def test_instances_of_the_callers_own_classes_keep_their_class(peer: Peer) -> None:
    def move(point: Point) -> Point:
        return point.moved()

    found = peer.call(move, Point(1, 2)).value
    assert type(found) is Point
    assert found == Point(2, 3)
    assert peer.call(echo, Colour.RED).value is Colour.RED


def test_two_functions_and_an_argument_mean_the_same_class_in_a_worker(peer: Peer) -> None:
    def remember(point: Any) -> None:
        import sys

        sys.point_class = (Point, type(point))  # type: ignore[attr-defined]

    def compare(point: Any) -> list[bool]:
        import sys

        return [Point is other for other in (*sys.point_class, type(point))]  # type: ignore[attr-defined]

    peer.call(remember, Point(1, 2))
    assert peer.call(compare, Point(3, 4)).value == [True, True, True]


def test_arrays_can_be_written_to_on_both_sides(peer: Peer) -> None:
    def double(array: Any) -> Any:
        array *= 2
        return array

    for size in (10, 20_000):  # inside the pickle, and beside it
        array = peer.call(double, numpy.ones(size)).value
        array += 1
        assert array.sum() == 3 * size


def test_large_arguments_and_results_travel_as_files(new_peer: Callable[..., Peer], tmp_path: Path) -> None:
    def double(array: Any) -> Any:
        return array * 2

    peer = new_peer()
    peer.connect(tmp_path)
    packed, encoded = pack_function(double), codec.encode(((numpy.ones(100_000),), {}))
    peer.define(packed.defs)
    inline, moved = blobs.spill(encoded.parts, lambda part: blobs.write(tmp_path, part))
    assert moved
    head = {"job": "j", "attempt": 1, "epoch": 1, "name": "double", "version": "1", "digest": packed.digest}
    peer.send(kinds.START, {**head, "blobs": moved}, inline)
    done = peer.done()
    assert done.head["blobs"]
    value = codec.decode(blobs.gather(tmp_path, done.parts, done.head["blobs"])[: done.head["values"]])
    assert value.sum() == 200_000


def test_the_json_view_is_made_only_when_asked_for(peer: Peer) -> None:
    done = peer.call(echo, {"a": Point(1, 2)}, want_json=True)
    assert done.head["json"] == 1
    assert done.parts[-1] == b'{"a":{"x":1,"y":2}}'
    assert "json" not in peer.call(echo, 1).head


def test_a_result_that_is_not_json_says_where_and_still_arrives(peer: Peer) -> None:
    done = peer.call(echo, {"numbers": {1, 2}}, want_json=True)
    assert done.value == {"numbers": {1, 2}}
    assert done.head["json_error"] == "$.numbers is a set"


# ── failures ─────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_arrives_with_its_type_its_traceback_and_the_source(peer: Peer) -> None:
    def sell(item: str) -> None:
        raise OutOfStock(item, 0)  # the shop is empty

    done = peer.call(sell, "tea")
    assert done.error["type"] == "OutOfStock"
    assert done.error["message"] == "0 of tea left"
    assert done.error["kind"] == "user"
    assert "raise OutOfStock(item, 0)  # the shop is empty" in done.error["traceback"]
    assert __file__ in done.error["traceback"]
    assert "worker/loop.py" not in done.error["traceback"]
    error = codec.decode(done.parts[done.head["values"] :])
    assert type(error) is OutOfStock
    assert error.item == "tea"


def test_source_is_shown_where_no_file_has_it(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    path.write_text("def fail():\n    unseen = 1\n    raise ValueError('from a file that is gone')\n")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    pack_function(namespace["fail"])  # while the file is there
    path.unlink()
    assert "    raise ValueError('from a file that is gone')" in peer.call(namespace["fail"]).error["traceback"]


def test_sys_exit_ends_the_job_and_not_the_worker(peer: Peer) -> None:
    def leave() -> None:
        sys.exit(3)

    async def leave_later() -> None:
        await asyncio.sleep(0)
        sys.exit(4)

    for function, message in ((leave, "3"), (leave_later, "4")):
        done = peer.call(function)
        assert (done.error["type"], done.error["message"]) == ("SystemExit", message)
    assert peer.call(echo, 1).value == 1


def test_ctrl_c_and_runaway_recursion_end_the_job_only(peer: Peer) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    def recurse() -> None:
        recurse()

    assert peer.call(interrupt).error["type"] == "KeyboardInterrupt"
    assert peer.call(recurse).error["type"] == "RecursionError"
    assert peer.call(echo, 1).value == 1


def test_arguments_that_do_not_fit_are_told_from_errors_of_the_function(peer: Peer) -> None:
    def one(a: int) -> int:
        return len(a)  # type: ignore[arg-type]

    assert peer.call(one).error["kind"] == "bind"
    assert peer.call(one, 1).error["kind"] == "user"


def test_a_result_that_cannot_be_pickled_is_an_encoding_failure(peer: Peer) -> None:
    def give_a_lock() -> dict[str, Any]:
        import threading

        return {"lock": threading.Lock()}

    error = peer.call(give_a_lock).error
    assert error["kind"] == "encode"
    assert error["message"].startswith("the value['lock'] holds a lock")


def test_a_function_whose_module_is_missing_is_a_load_failure(peer: Peer) -> None:
    import pydantic

    def use() -> Any:
        return pydantic.BaseModel

    body = TABLE.body(pack_function(use).digest).replace(b"pydantic", b"pydantiX")
    TABLE.add("0" * 32, body)
    peer.define(["0" * 32])
    head = {"job": "j", "attempt": 1, "epoch": 1, "name": "use", "version": "1", "digest": "0" * 32}
    peer.send(kinds.START, head, codec.encode(((), {})).parts)
    error = peer.done().error
    assert (error["kind"], error["type"]) == ("load", "ModuleNotFoundError")


def test_an_exception_of_a_package_that_only_the_worker_has_keeps_its_name(peer: Peer) -> None:
    def fail() -> None:
        raise type("Odd", (Exception,), {"__reduce__": lambda self: 1 / 0})("odd")

    done = peer.call(fail)
    assert (done.error["type"], done.error["message"]) == ("Odd", "odd")
    assert done.head.get("excs", 0) == 0


@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_ends_the_worker_and_the_page_names_the_job(peer: Peer, code: int) -> None:
    def leave(code: int) -> None:
        os._exit(code)

    job = peer.start(leave, code)
    assert peer.wait() == code
    assert peer.page.read().job == job


def test_a_crash_says_where_it_was(peer: Peer) -> None:
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    peer.start(crash)
    assert peer.wait() == -signal.SIGSEGV
    assert b"crash" in peer.err.read_until(b"test_calls.py")


def test_a_fork_of_user_code_that_comes_back_sends_nothing(peer: Peer) -> None:
    def fork() -> int:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return child

    assert peer.call(fork).value > 0
    assert peer.call(echo, 1).value == 1


# ── time and cancellation ────────────────────────────────────────────────────────────────────────


async def sleep_long() -> str:
    try:
        await asyncio.sleep(30)
    finally:
        print("cleaned up")
    return "slept"


async def refuse_to_end() -> str:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        pass
    return "on and on"


@pytest.mark.parametrize("function", [sleep_long, refuse_to_end])
def test_an_asynchronous_call_ends_at_its_timeout(peer: Peer, function: Callable[..., Any]) -> None:
    error = peer.call(function, timeout_ms=50).error
    assert (error["kind"], error["type"]) == ("timeout", "TimeoutError")
    assert error["message"] == "it took longer than its timeout of 0.05 s"


def test_the_deadline_stands_on_the_page_while_a_call_runs(peer: Peer) -> None:
    def look() -> Any:
        print("here", flush=True)
        sys.stdin.readline()
        time.sleep(0.2)

    job = peer.start(look, timeout_ms=60_000)
    peer.log.read_until(b"here")
    status = peer.page.read()
    assert (status.job, status.epoch, status.attempt) == (job, 1, 1)
    assert status.deadline_ns - status.started_ns == 60_000_000_000
    assert peer.done().value is None
    assert not peer.page.read().running


def test_a_running_asynchronous_call_can_be_cancelled(peer: Peer) -> None:
    async def announce_and_sleep() -> None:
        print("sleeping")
        await asyncio.sleep(30)

    job = peer.start(announce_and_sleep)
    peer.log.read_until(b"sleeping")
    peer.send(kinds.CANCEL, {"job": job, "epoch": 1, "cause": "nobody waits"})
    error = peer.done().error
    assert (error["kind"], error["message"]) == ("cancelled", "cancelled: nobody waits")
    assert peer.call(echo, 1).value == 1


def test_a_waiting_call_is_released_at_once_while_another_runs(peer: Peer) -> None:
    def hold(path: str) -> str:
        print("holding")
        while not os.path.exists(path):
            time.sleep(0.001)
        return "held"

    go = peer.scratch / "go"
    peer.start(hold, str(go))
    waiting = peer.start(echo, 1)
    peer.log.read_until(b"holding")
    peer.send(kinds.CANCEL, {"job": waiting, "epoch": 1})
    done = peer.done()
    assert (done.head["job"], done.error["kind"]) == (waiting, "released")
    go.touch()
    assert peer.done().value == "held"


def test_prefetched_calls_run_in_order(peer: Peer) -> None:
    jobs = [peer.start(echo, number) for number in range(20)]
    assert [peer.done().head["job"] for _ in jobs] == jobs


def test_drain_finishes_what_runs_and_gives_the_rest_back(peer: Peer) -> None:
    def hold(path: str) -> str:
        print("holding")
        while not os.path.exists(path):
            time.sleep(0.001)
        return "held"

    go = peer.scratch / "go"
    running, waiting = peer.start(hold, str(go)), peer.start(echo, 1)
    peer.log.read_until(b"holding")
    peer.send(kinds.DRAIN, {})
    assert peer.done().head["job"] == waiting
    go.touch()
    assert peer.done().value == "held"
    peer.send(kinds.ACK, {"acks": [[running, 1, "recorded"], [waiting, 1, "recorded"]]})
    assert peer.wait() == 0


def test_exit_ends_an_idle_worker_after_its_exit_functions(peer: Peer) -> None:
    def register() -> None:
        import atexit

        atexit.register(lambda: os.write(1, b"bye"))

    peer.call(register)
    peer.send(kinds.EXIT, {})
    assert peer.wait() == 0
    assert peer.out.read_until(b"bye")


# ── lost links ───────────────────────────────────────────────────────────────────────────────────


def test_an_unacknowledged_result_is_sent_again_on_a_new_stream(peer: Peer) -> None:
    job = peer.start(echo, 7)
    assert peer.done().value == 7
    peer.disconnect()
    ready = peer.connect()
    assert ready["held"] == [[job, 1]]
    assert not ready.get("fresh")
    assert peer.done().value == 7
    peer.send(kinds.ACK, {"acks": [[job, 1, "stale"]]})
    peer.call(echo, 1)
    peer.disconnect()
    assert peer.connect()["held"] == []


def test_acknowledgements_ride_on_the_next_start(peer: Peer) -> None:
    first = peer.start(echo, 1)
    peer.done()
    second = peer.start(echo, 2, acks=[[first, 1, "recorded"]])
    peer.done()
    peer.disconnect()
    assert peer.connect()["held"] == [[second, 1]]


def test_a_call_goes_on_without_a_link_and_is_delivered_to_the_next_engine(peer: Peer) -> None:
    def hold(path: str) -> str:
        print("holding")
        while not os.path.exists(path):
            time.sleep(0.001)
        return "held"

    go = peer.scratch / "go"
    job = peer.start(hold, str(go))
    peer.log.read_until(b"holding")
    peer.disconnect()
    ready = peer.connect()  # while user code runs
    assert ready["held"] == [[job, 1]]
    go.touch()
    assert peer.done().value == "held"


def test_a_start_that_lies_in_a_dead_stream_is_not_lost(peer: Peer) -> None:
    job = peer.start(echo, 5)
    peer.disconnect()
    assert peer.connect()["held"] == [[job, 1]]
    assert peer.done().value == 5


def test_the_same_start_twice_runs_once(peer: Peer) -> None:
    def count(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        return 1

    path = peer.scratch / "count"
    for _ in range(2):
        peer.start(count, str(path), job="same")
    assert peer.done().value == 1
    assert peer.call(echo, 1).value == 1
    assert path.read_text() == "x"


def test_the_worker_leaves_when_its_host_is_gone(peer: Peer) -> None:
    peer.control.close()
    assert peer.wait() == 70


def test_the_worker_leaves_in_the_middle_of_a_call_when_its_host_is_gone(peer: Peer) -> None:
    def hold() -> None:
        print("holding")
        time.sleep(30)

    peer.start(hold)
    peer.log.read_until(b"holding")
    peer.control.close()
    assert peer.wait() == 70


def test_frames_that_a_worker_does_not_know_are_answered_and_forgotten(peer: Peer) -> None:
    peer.send(kinds.QUERY, {"what": "jobs"})
    assert head_of(peer.receive(kinds.ERROR))["code"] == "unsupported"
    peer.send(kinds.PING, {})
    peer.receive(kinds.PONG)
    assert peer.call(echo, 1).value == 1


def test_user_code_finds_out_which_job_it_is(peer: Peer) -> None:
    def who() -> Any:
        from runpod_flash.worker.context import CURRENT

        found = CURRENT.get()
        return found and (found.job, found.attempt, found.worker)

    assert peer.call(who, job="mine").value == ("mine", 1, "w0")


def test_a_subprocess_of_user_code_runs(peer: Peer) -> None:
    def run() -> str:
        return subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout

    assert peer.call(run).value == "hello\n"
