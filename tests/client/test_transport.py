"""Calls over a real socket to an engine that stands in for the real one."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
import time
from typing import Any

import pytest

from runpod_flash import CpuLiveServerless, JobHandle, JobOutput, remote
from runpod_flash.client import transport
from runpod_flash.client.session import Stream
from runpod_flash.errors import EngineError, JobNotFound, JobTimeout, QueueFull, RemoteError, UsageError
from runpod_flash.wire import kinds, messages
from tests.client.engine_double import EngineDouble

config = CpuLiveServerless("calls")


@remote(config)
async def double(x: int) -> int:
    return x * 2


@remote(config)
def fail(text: str) -> None:
    raise ValueError(text)


@remote(config)
def size(data: bytes) -> int:
    return len(data)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


@remote(config)
def moved(point: Point) -> Point:
    return Point(point.x + 1)


def test_an_awaited_call_gives_a_job_output(engine: EngineDouble) -> None:
    job = asyncio.run(double(21))
    assert job.output == 42
    assert f"{job}" == "42", "it is also the value"
    assert job.status == "COMPLETED"
    assert (job.worker_id, job.started_at, job.ended_at) == ("w1", 2, 3)


def test_a_function_that_raises_gives_a_failed_job_with_the_original_exception(engine: EngineDouble) -> None:
    job = asyncio.run(fail("no"))
    assert job.error == "ValueError: no"
    assert isinstance(job.exception, ValueError)
    assert job.traceback is not None
    assert "raise ValueError(text)" in job.traceback
    with pytest.raises(ValueError, match="no"):
        job.unwrap()


def test_classes_of_the_users_modules_come_back_as_themselves(engine: EngineDouble) -> None:
    job = asyncio.run(moved(Point(1)))
    assert isinstance(job.output, Point)
    assert job.output.x == 2


def test_the_function_is_declared_once_however_many_calls_ask_for_it(engine: EngineDouble) -> None:
    async def main() -> list[int]:
        jobs = await asyncio.gather(*(double(n) for n in range(100)))
        return [job.unwrap() for job in jobs]

    assert asyncio.run(main()) == [n * 2 for n in range(100)]
    assert len(engine.of(messages.Declare)) == 1
    assert len(engine.of(messages.Hello)) == 1


def test_a_lost_engine_is_reconnected_and_everything_under_way_sent_again(engine: EngineDouble) -> None:
    engine.holding = True

    async def main() -> list[int]:
        calls = [asyncio.ensure_future(double(n)) for n in range(50)]
        await asyncio.to_thread(engine.wait_for, messages.Submit, 50)
        engine.holding = False
        await asyncio.to_thread(engine.restart)
        return [(await call).unwrap() for call in calls]

    assert asyncio.run(main()) == [n * 2 for n in range(50)]
    submits = engine.of(messages.Submit)
    assert len({head.job for head in submits}) == 50, "a call keeps its id when it is sent again"
    assert len(submits) == 100
    assert {head.fn // 1000 for head in submits[50:]} == {engine.starts}, "and is declared to the new engine"


def test_an_engine_that_forgot_a_function_is_told_again(engine: EngineDouble) -> None:
    async def main() -> list[int]:
        first = (await double(1)).unwrap()
        engine.forgets = True
        return [first, (await double(2)).unwrap()]

    assert asyncio.run(main()) == [2, 4]
    assert len(engine.of(messages.Declare)) == 2


def test_giving_up_waiting_cancels_the_job(engine: EngineDouble) -> None:
    engine.holding = True

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(double(1), 0.2)
        await asyncio.to_thread(engine.wait_for, messages.Cancel)

    asyncio.run(main())
    (cancel,) = engine.of(messages.Cancel)
    assert cancel.job == engine.of(messages.Submit)[0].job


def test_a_program_that_ends_cancels_what_it_awaited_and_not_what_it_spawned(engine: EngineDouble) -> None:
    engine.holding = True

    async def main() -> str:
        handle = await double.spawn(1)
        forgotten = asyncio.ensure_future(double(2))
        await asyncio.to_thread(engine.wait_for, messages.Submit, 2)
        assert not forgotten.done()
        return handle.id

    spawned = asyncio.run(main())
    (cancel,) = engine.wait_for(messages.Cancel)
    assert cancel.job != spawned


def test_a_spawned_job_is_taken_up_by_its_id(engine: EngineDouble) -> None:
    async def main() -> tuple[str, int, str]:
        handle = await double.spawn(4, idempotency_key="k")
        before = await handle.status()
        await asyncio.to_thread(engine.release)
        again = JobHandle.from_id(handle.id)
        return before, await again.result(), await again.status()

    assert asyncio.run(main()) == ("IN_QUEUE", 8, "COMPLETED")
    assert engine.of(messages.Submit)[0].idem == "k"


def test_a_job_that_is_not_there_is_an_error_that_says_so(engine: EngineDouble) -> None:
    with pytest.raises(JobNotFound, match="there is no job nothing"):
        asyncio.run(JobHandle.from_id("nothing").wait())


def test_waiting_for_a_result_ends_without_touching_the_job(home: Any) -> None:
    engine = EngineDouble(home)
    engine.start()
    engine_attach = messages.State(job="j", status="IN_QUEUE")

    def hold(connection: Any) -> None:
        connection.on_attach = lambda frame, head: connection.say(engine_attach, frame, flags=0)

    async def main() -> None:
        await double(1)
        for connection in engine.connections:
            hold(connection)
        with pytest.raises(JobTimeout, match="has not ended after"):
            await JobHandle.from_id("j").result(timeout=0.1)

    asyncio.run(main())
    assert engine.of(messages.Cancel) == []
    engine.stop()


def test_large_arguments_and_results_travel_in_files(engine: EngineDouble) -> None:
    data = os.urandom(2_000_000)
    assert asyncio.run(size(data)).output == 2_000_000
    (submit,) = engine.of(messages.Submit)
    assert submit.blobs


def test_map_keeps_the_order_of_its_input_and_bounds_what_is_under_way(engine: EngineDouble) -> None:
    read: list[int] = []

    def numbers() -> Any:
        for n in range(40):
            read.append(n)
            yield n

    async def main() -> list[int]:
        engine.holding = True
        jobs = double.map(numbers(), in_flight=8)
        first = asyncio.ensure_future(anext(jobs))
        await asyncio.to_thread(engine.wait_for, messages.Submit, 8)
        await asyncio.sleep(0.05)
        assert len(read) <= 9, "the input is read only as far as there is room"
        assert len(engine.of(messages.Submit)) == 8
        await asyncio.to_thread(engine.release)
        return [(await first).unwrap(), *[job.unwrap() async for job in jobs]]

    assert asyncio.run(main()) == [n * 2 for n in range(40)]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_without_end_keeps_nothing_of_what_is_through(engine: EngineDouble, ordered: bool) -> None:
    async def main() -> int:
        jobs = double.map(itertools.count(), in_flight=16, ordered=ordered)
        for _ in range(1000):
            await anext(jobs)
        alive = sum(isinstance(each, (Stream, JobOutput)) for each in gc.get_objects())
        await jobs.aclose()  # type: ignore[attr-defined]
        return alive

    gc.collect()
    before = sum(isinstance(each, (Stream, JobOutput)) for each in gc.get_objects())
    assert asyncio.run(main()) - before < 3 * 16


def test_map_gives_results_as_they_come_when_order_does_not_matter(engine: EngineDouble) -> None:
    async def main() -> list[int]:
        return sorted([job.unwrap() async for job in double.map(range(100), ordered=False, in_flight=7)])

    assert asyncio.run(main()) == [n * 2 for n in range(100)]


def test_map_reads_async_iterables_and_goes_through_several_side_by_side(engine: EngineDouble) -> None:
    @remote(config)
    def add(a: int, b: int) -> int:
        return a + b

    async def numbers() -> Any:
        for n in range(5):
            await asyncio.sleep(0)
            yield n

    async def main() -> list[Any]:
        mapped = [job.unwrap() async for job in add.map(numbers(), range(10, 15))]
        starred = [job.unwrap() async for job in add.starmap([(1, 2), (3, 4)])]
        return [mapped, starred]

    assert asyncio.run(main()) == [[10, 12, 14, 16, 18], [3, 7]]


def test_leaving_a_map_cancels_what_is_under_way(engine: EngineDouble) -> None:
    async def main() -> None:
        engine.holding = True
        jobs = double.map(range(100), in_flight=4)
        first = asyncio.ensure_future(anext(jobs))
        await asyncio.to_thread(engine.wait_for, messages.Submit, 4)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await jobs.aclose()  # type: ignore[attr-defined]
        await asyncio.to_thread(engine.wait_for, messages.Cancel, 4)

    asyncio.run(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_an_input_that_raises_cancels_what_is_under_way_and_ends_the_map(engine: EngineDouble, ordered: bool) -> None:
    broken = asyncio.Event()

    async def numbers() -> Any:
        yield 1
        await asyncio.to_thread(engine.wait_for, messages.Submit)
        engine.holding = True
        yield 2
        yield 3
        await broken.wait()
        raise KeyError("input")

    async def main() -> list[int]:
        jobs = double.map(numbers(), ordered=ordered)
        first = (await anext(jobs)).unwrap()
        await asyncio.to_thread(engine.wait_for, messages.Submit, 3)
        broken.set()
        with pytest.raises(KeyError, match="input"):
            await anext(jobs)
        await asyncio.to_thread(engine.wait_for, messages.Cancel, 2)
        return [first]

    assert asyncio.run(main()) == [2]


def test_results_that_had_come_before_an_input_raised_are_given_first(engine: EngineDouble) -> None:
    async def main() -> list[int]:
        raised = asyncio.Event()

        async def numbers() -> Any:
            yield 1
            yield 2
            while len(engine.jobs) < 2:
                await asyncio.sleep(0.001)
            await double(3)  # its outcome comes after theirs
            raised.set()
            raise KeyError("input")

        jobs = double.map(numbers())
        first = await anext(jobs)
        await raised.wait()
        second = await anext(jobs)
        with pytest.raises(KeyError, match="input"):
            await anext(jobs)
        return [first.unwrap(), second.unwrap()]

    assert asyncio.run(main()) == [2, 4]
    with pytest.raises(ZeroDivisionError):
        list(double.sync.map(1 // n for n in (1, 0)))


@pytest.mark.parametrize("how", ["async", "sync"])
def test_a_map_waits_for_room_in_a_full_queue_and_goes_on(engine: EngineDouble, how: str) -> None:
    engine.full = 5
    if how == "sync":
        found = [job.unwrap() for job in double.sync.map(range(20), in_flight=4)]
    else:
        found = asyncio.run(_all(double.map(range(20), in_flight=4)))
    assert found == [n * 2 for n in range(20)]
    assert len(engine.of(messages.Submit)) == 25
    engine.full = 1
    with pytest.raises(QueueFull):
        double.sync(1)


async def _all(jobs: Any) -> list[Any]:
    return [job.unwrap() async for job in jobs]


def test_leaving_a_map_that_waits_for_room_sends_nothing_more(engine: EngineDouble) -> None:
    async def main() -> None:
        engine.full = 1000
        jobs = double.map(range(10), in_flight=3)
        first = asyncio.ensure_future(anext(jobs))
        await asyncio.to_thread(engine.wait_for, messages.Submit, 3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await jobs.aclose()  # type: ignore[attr-defined]
        before = {head.job for head in engine.of(messages.Submit)}
        engine.full = 0
        await double(1)
        await asyncio.sleep(0.05)
        assert len({head.job for head in engine.of(messages.Submit)} - before) == 1

    asyncio.run(main())


def test_blocking_calls_work_in_threads_and_inside_a_running_loop(engine: EngineDouble) -> None:
    assert double.sync(1).output == 2

    async def main() -> int:
        return double.sync(2).unwrap()

    assert asyncio.run(main()) == 4
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(double.sync(n).unwrap())) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [n * 2 for n in range(8)]


def test_blocking_map_keeps_order_and_spawn_gives_a_handle(engine: EngineDouble) -> None:
    assert [job.unwrap() for job in double.sync.map(range(50), in_flight=5)] == [n * 2 for n in range(50)]
    unordered = double.sync.map(range(50), ordered=False, in_flight=5)
    assert sorted(job.unwrap() for job in unordered) == [n * 2 for n in range(50)]
    handle = double.sync.spawn(3)
    engine.release()
    assert handle.sync.result() == 6


def test_several_loops_one_after_the_other_each_have_their_link(engine: EngineDouble) -> None:
    for n in range(3):
        assert asyncio.run(double(n)).output == n * 2
    assert len(engine.of(messages.Hello)) == 3
    end = time.monotonic() + 5
    while engine.connections:
        assert time.monotonic() < end, "a loop that ends closes its link"
        time.sleep(0.005)


def test_a_forked_child_makes_its_own_connection(engine: EngineDouble) -> None:
    assert double.sync(1).output == 2
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(double.sync(5).output).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"10"
    os.close(read)
    os.waitpid(child, 0)
    assert double.sync(2).output == 4, "and the parent keeps its own"
    assert len(engine.of(messages.Hello)) == 2


def test_an_older_engine_makes_room_and_ours_is_asked_instead(home: Any) -> None:
    old = EngineDouble(home, version="0.0.1")
    new = EngineDouble(home)

    def replace() -> None:
        assert old._loop is not None
        old._stopping.set()
        threading.Thread(target=new.start).start()

    old.on_handover = replace
    old.start()
    assert asyncio.run(double(1)).output == 2
    assert [head.verb for head in old.of(messages.Admin)] == ["handover"]
    assert len(new.of(messages.Submit)) == 1
    new.stop()


def test_an_engine_that_refuses_is_an_error_with_its_words(engine: EngineDouble) -> None:
    engine.refuses.append(messages.Refuse(code="protocol", what="too old", fix="update it"))
    with pytest.raises(EngineError, match="too old"):
        asyncio.run(double(1))
    assert asyncio.run(double(1)).output == 2


def test_a_leaving_engine_that_refuses_is_waited_for(engine: EngineDouble) -> None:
    engine.refuses.append(messages.Refuse(code="leaving", what="handover", handover=True))
    assert asyncio.run(double(1)).output == 2


def test_what_a_job_prints_goes_to_standard_error(engine: EngineDouble, capsys: pytest.CaptureFixture[str]) -> None:
    def print_first(connection: Any, head: messages.Submit, sid: int) -> None:
        log = messages.Log(job=head.job, attempt=1, worker="worker-abcdef", fd=1, at_ms=0, n=0, lines=["one", "two"])
        connection.transport.write(log.encode(sid=sid))
        for phase in ("resolve", "ready"):
            connection.transport.write(messages.EnvState(env="e", phase=phase).encode(sid=sid))

    engine.extra = print_first
    asyncio.run(double(1))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[:3] == ["[double abcdef] one", "[double abcdef] two", "[double] building its environment …"]
    assert lines[3].startswith("[double] environment ready after")


def test_a_failed_job_raises_where_its_value_is_used(engine: EngineDouble) -> None:
    job = asyncio.run(fail("used"))
    with pytest.raises(RemoteError):
        job + 1  # type: ignore[operator]


def test_frames_of_the_link_itself_are_answered(engine: EngineDouble) -> None:
    async def main() -> None:
        await double(1)
        pongs: list[int] = []
        (connection,) = engine.connections
        connection.on_pong = lambda frame, head: pongs.append(frame.sid)  # type: ignore[attr-defined]
        engine.do(lambda: connection.transport.write(messages.Ping().encode(sid=2)))
        await asyncio.to_thread(engine.wait_for, messages.Pong)
        assert pongs == [2]
        assert kinds.PONG

    asyncio.run(main())


def test_a_request_that_cannot_be_sent_is_its_askers_trouble_and_no_others(engine: EngineDouble) -> None:
    async def main() -> None:
        link = transport.current()
        unsendable = messages.Attach(job="caf\udce9")  # as Python reads a name that is no UTF-8
        early = asyncio.ensure_future(link.request(unsendable))
        await asyncio.sleep(0)
        assert (await double(21)).output == 42, "it was asked for later, and the engine came up for both"
        with pytest.raises(UsageError):
            await early
        with pytest.raises(UsageError):
            await link.request(unsendable)

    asyncio.run(main())
