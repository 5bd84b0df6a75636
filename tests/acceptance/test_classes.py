"""Remote classes: one live instance for equal constructor arguments, in one worker, with its state between calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, JobOutput, UsageError, remote
from runpod_flash.cli.connection import connect
from runpod_flash.testing import IsolatedEngine
from tests.waiting import async_until, awaited

pytestmark = pytest.mark.usefixtures("engine")


class TooMany(Exception):
    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class Counting:
    """What the classes below inherit."""

    def __init__(self, name: str, notes: Path | None = None) -> None:
        self.name = name
        self.notes = notes
        self.count = 0
        self.note(f"made {name}")

    def note(self, text: str) -> None:
        if self.notes is not None:
            with self.notes.open("a") as file:
                file.write(f"{text}\n")

    async def add(self, by: int = 1) -> int:
        self.count += by
        return self.count

    def pid(self) -> int:
        import os

        return os.getpid()

    def me(self) -> Counting:
        return self

    async def hold(self, begun: Path, go: Path) -> int:
        import asyncio

        begun.touch()
        while not go.exists():
            await asyncio.sleep(0.005)
        return await self.add()


queue = CpuLiveServerless(name="counters", workersMax=2, idleTimeout=60)
brief = CpuLiveServerless(name="brief", workersMax=1, idleTimeout=0)
lb = CpuLiveLoadBalancer(name="served", workersMax=2)


class _Counter(Counting):
    MOST = 1000

    async def add(self, by: int = 1) -> int:
        if self.count + by > self.MOST:
            raise TooMany(self.MOST)
        return await super().add(by)

    async def upto(self, last: int) -> AsyncIterator[int]:
        while self.count < last:
            yield await self.add()

    @staticmethod
    def double(value: int) -> int:
        return 2 * value

    @classmethod
    def most(cls) -> int:
        return cls.MOST

    def close(self) -> None:
        self.note(f"closed {self.name}")


class _Session(Counting):
    """Opened and closed as with `async with`."""

    async def __aenter__(self) -> _Session:
        self.note("opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.note(f"closed {self.name}")


class _Stubborn(Counting):
    def __init__(self, name: str, notes: Path, ready: Path) -> None:
        super().__init__(name, notes)
        if not ready.exists():
            raise TooMany(0)


class _Slow(Counting):
    def __init__(self) -> None:

        super().__init__("slow")
        time.sleep(0.05)


class _Endless(Counting):
    def __init__(self, go: Path) -> None:

        super().__init__("endless")
        while not go.exists():
            time.sleep(0.01)


STEP = 1


class _Scaled(Counting):
    async def add(self, by: int = 1) -> int:
        return await super().add(by * STEP)


# Type checkers see the classes themselves; Any stands for what the handles have beyond these: verbs, awaitables.
Counter: Any = remote(queue)(_Counter)
Brief: Any = remote(brief)(_Counter)
BriefSession: Any = remote(brief)(_Session)
Stubborn: Any = remote(queue, max_retries=0)(_Stubborn)
Endless: Any = remote(queue)(_Endless)
Scaled: Any = remote(queue)(_Scaled)
Slow: Any = remote(queue)(_Slow)
Served: Any = remote(lb)(_Counter)


@awaited
async def test_state_is_kept_between_calls_of_all_methods_and_verbs() -> None:
    counter = Counter("verbs")
    assert await counter.add() == 1
    assert await counter.add(by=2) == 3
    assert await counter.double(4) == 8
    assert await counter.most() == 1000
    assert await (await counter.add.spawn()) == 4
    assert [job.output async for job in counter.add.map([1, 2, 3])] == [5, 7, 10]
    assert [job.output async for job in counter.add.starmap([(1,)], ordered=False)] == [11]
    assert await counter.add.with_options(timeout=5).remote() == 12
    assert await asyncio.to_thread(lambda: counter.add.sync().output) == 13
    assert (await counter.add.local()).output == 1, "that one lives here"
    assert [item async for item in counter.upto.stream(15)] == [14, 15]
    failed = await counter.add.with_options(max_retries=0)(5000)
    assert isinstance(failed.exception, TooMany)
    assert failed.exception.most == 1000


@awaited
async def test_equal_arguments_are_one_instance_and_others_are_others(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first, same, other = Counter("one", notes), Counter("one", notes=notes), Counter("one", tmp_path / "x")
    again = Counter("one", notes)
    assert await first.add() == 1
    assert await again.add() == 2
    assert await other.add() == 1
    assert await same.add() in (1, 3), "by name or by place may be one or two"
    assert notes.read_text().splitlines()[0] == "made one"


@awaited
async def test_an_instance_can_be_a_value_and_is_of_the_same_class_here() -> None:
    counter = Counter("traveller")
    await counter.add(7)
    back = (await counter.me()).output
    assert type(back) is _Counter
    assert back.count == 7


@awaited
async def test_handles_and_methods_travel_as_arguments_and_captures() -> None:
    captured, method = Counter("captured"), Counter("argument").add

    @remote(queue)
    def told(thing: Any) -> list[str]:
        return [repr(thing), repr(captured), repr(Brief)]

    brief_class = "<remote class _Counter on CpuLiveServerless 'brief'>"
    expected = ["<remote method add of <remote _Counter('argument')>>", "<remote _Counter('captured')>", brief_class]
    assert (await told(method)).unwrap() == expected


@awaited
async def test_calls_at_once_stay_in_one_worker_while_others_go_on(tmp_path: Path, engine: IsolatedEngine) -> None:
    counter, begun, go = Counter("sticky"), tmp_path / "begun", tmp_path / "go"
    held = asyncio.ensure_future(counter.hold(begun, go))
    await async_until(begun.exists)
    behind = [asyncio.ensure_future(counter.add()) for _ in range(5)]
    elsewhere = Counter("elsewhere")
    assert await elsewhere.add() == 1, "another instance has another worker"
    assert not any(call.done() for call in behind)
    go.touch()
    assert [job.output for job in await asyncio.gather(held, *behind)] == [1, 2, 3, 4, 5, 6]
    jobs = await asyncio.gather(*(counter.pid() for _ in range(5)))
    assert len({job.worker_id for job in jobs} | {held.result().worker_id}) == 1
    assert (await elsewhere.pid()).output != jobs[0].output


@awaited
async def test_a_constructor_that_raises_fails_the_call_and_is_tried_again_by_the_next(tmp_path: Path) -> None:
    notes, ready = tmp_path / "notes", tmp_path / "ready"
    stubborn = Stubborn("stubborn", notes, ready)
    for _ in range(2):
        job = await stubborn.add()
        assert isinstance(job.exception, TooMany)
        assert "TooMany(0)" in job.traceback
    ready.touch()
    assert await stubborn.add() == 1
    assert await stubborn.add() == 2
    assert notes.read_text().splitlines() == ["made stubborn"] * 3
    job = await Stubborn().add()
    assert "TypeError" in job.error
    assert "notes" in job.error


@pytest.mark.parametrize(("cls", "before"), [(Brief, []), (BriefSession, ["opened"])], ids=["close", "aexit"])
def test_an_instance_is_closed_when_its_worker_ends(tmp_path: Path, cls: Any, before: list[str]) -> None:
    notes = tmp_path / "notes"

    async def main() -> None:
        handle = cls("short", notes)
        first = await handle.add()
        await async_until(lambda: "closed short" in notes.read_text())
        again = await handle.add()
        assert (first.output, again.output) == (1, 1), "the state went with the worker"
        assert first.worker_id != again.worker_id
        assert notes.read_text().splitlines()[: len(before) + 2] == ["made short", *before, "closed short"]

    asyncio.run(main())


@awaited
async def test_a_worker_keeps_four_instances_and_closes_the_one_used_least_lately(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    one: Any = remote(CpuLiveServerless(name="crowded", workersMax=1))(_Counter)
    handles = [one(f"n{number}", notes) for number in range(5)]
    for handle in handles[:4]:
        assert await handle.add() == 1
    assert await handles[0].add() == 2
    assert await handles[4].add() == 1
    assert notes.read_text().splitlines()[4:] == ["closed n1", "made n4"]
    assert await handles[0].add() == 3
    assert await handles[1].add() == 1, "it was made anew"


@awaited
async def test_a_worker_that_dies_takes_the_state_along_and_the_record_says_which_it_was() -> None:
    counter = Counter("mortal")
    await counter.add(5)
    before: JobOutput[int] = await counter.pid()
    assert before.output is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(before.output, signal.SIGKILL)
    after = await counter.add()
    assert after.output == 1, "the next call constructs anew"
    with connect() as link:
        assert link.job(after.id)["worker"] == after.worker_id != before.worker_id


@awaited
async def test_a_worker_that_dies_in_a_call_loses_none_of_those_that_wait_for_it(tmp_path: Path) -> None:
    counter, begun, go = Counter("struck"), tmp_path / "begun", tmp_path / "go"
    pid = (await counter.pid()).output
    held = asyncio.ensure_future(counter.hold(begun, go))
    await async_until(begun.exists)
    behind = [asyncio.ensure_future(counter.add()) for _ in range(3)]
    other = Counter("unharmed")
    assert await other.add() == 1
    os.kill(pid, signal.SIGKILL)
    go.touch()
    jobs = await asyncio.gather(held, *behind)
    assert sorted(job.output for job in jobs) == [1, 2, 3, 4], "together in one new instance"
    assert len({job.worker_id for job in jobs}) == 1
    assert await other.add() == 2


@awaited
async def test_a_constructor_that_takes_too_long_times_out_and_hinders_nobody(tmp_path: Path) -> None:
    slow = Endless(tmp_path / "go")
    job = await slow.pid.with_options(timeout=0.3, max_retries=0)()
    assert job.status == "TIMED_OUT", job
    (tmp_path / "go").touch()
    assert await slow.add() == 1


@awaited
async def test_a_changed_class_is_another_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = Scaled("scaled")
    assert await scaled.add() == 1
    assert await scaled.add() == 2
    monkeypatch.setitem(globals(), "STEP", 10)
    assert await scaled.add() == 10


@awaited
async def test_an_instance_outlives_its_engine(engine: IsolatedEngine) -> None:
    counter = Counter("survivor")
    assert await counter.add(5) == 5
    before = await counter.pid()
    old = engine.facts["pid"]
    os.kill(old, signal.SIGKILL)
    await async_until(lambda: engine.facts.get("pid") not in (None, old))
    after = await asyncio.gather(*(counter.add() for _ in range(3)))
    assert [job.output for job in after] == [6, 7, 8]
    assert {job.worker_id for job in after} == {before.worker_id}


@awaited
async def test_construction_is_in_the_time_of_its_first_call() -> None:
    slow = Slow()
    first, second = await slow.add(), await slow.add()
    with connect() as link:
        first_load, second_load = (link.job(job.id)["timing"]["load"] for job in (first, second))
    assert first_load >= 50_000 > second_load, "microseconds"


@awaited
async def test_a_class_inside_a_function_is_made_by_each_call() -> None:
    @remote(queue)
    async def run_model(data: list[float]) -> dict[str, Any]:
        class MyModel:
            def __init__(self) -> None:
                self.calls = 0

            async def predict(self, data: list[float]) -> list[float]:
                self.calls += 1
                return [value * self.calls for value in data]

        return {"prediction": await MyModel().predict(data)}

    for _ in range(2):
        assert (await run_model([1.0, 2.0])).output == {"prediction": [1.0, 2.0]}


# ── load-balanced ─────────────────────────────────────────────────────────────────────────────────


@awaited
async def test_load_balanced_calls_of_an_instance_run_at_once_in_its_worker(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    counter, go = Served("many", notes), tmp_path / "go"
    held = [asyncio.ensure_future(counter.hold(tmp_path / f"begun{n}", go)) for n in range(6)]
    await async_until(lambda: all((tmp_path / f"begun{n}").exists() for n in range(6)))
    assert notes.read_text() == "made many\n", "calls that come while it is made wait for it"
    assert await counter.double(2) == 4
    go.touch()
    assert sorted(await asyncio.gather(*held)) == [1, 2, 3, 4, 5, 6]
    assert len({await counter.pid() for _ in range(3)}) == 1
    assert [item async for item in counter.upto.stream(8)] == [7, 8]
    with pytest.raises(TooMany):
        await counter.add(5000)
    with pytest.raises(UsageError, match="cannot be spawned"):
        await counter.add.spawn()


@awaited
async def test_load_balanced_calls_wait_for_a_full_worker_only_if_their_instance_lives_there(tmp_path: Path) -> None:
    one_at_once: Any = remote(CpuLiveLoadBalancer(name="narrow", workersMax=2, max_concurrency=1, scalerValue=1))(
        _Counter
    )
    counter, begun, go = one_at_once("narrow"), tmp_path / "begun", tmp_path / "go"
    held = asyncio.ensure_future(counter.hold(begun, go))
    await async_until(begun.exists)
    behind = asyncio.ensure_future(counter.add())
    assert await one_at_once("wide").add() == 1
    assert not behind.done()
    go.touch()
    assert (await held, await behind) == (1, 2)
