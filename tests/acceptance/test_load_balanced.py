"""Load-balanced functions, called from a program: many at once in a worker, nothing kept, nothing run twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runpod_flash import CpuLiveLoadBalancer, RemoteError, UsageError, remote
from runpod_flash.errors import JobTimeout, WorkerLost
from runpod_flash.testing import IsolatedEngine
from tests.waiting import async_until, awaited

pytestmark = pytest.mark.usefixtures("engine")


class OutOfTea(Exception):
    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


lb = CpuLiveLoadBalancer(name="lb", workersMax=1)


@remote(lb)
async def echo(value: object) -> object:
    return value


@remote(lb)
async def pid() -> int:
    return os.getpid()


@remote(lb)
async def meet(folder: str, name: str, others: int) -> int:
    import asyncio
    import os
    from pathlib import Path

    (Path(folder) / name).touch()
    while len(os.listdir(folder)) < others:
        await asyncio.sleep(0.005)
    return os.getpid()


@remote(lb)
def meet_plainly(folder: str, name: str, others: int) -> int:
    import os
    from pathlib import Path

    (Path(folder) / name).touch()
    while len(os.listdir(folder)) < others:
        time.sleep(0.005)
    return os.getpid()


@remote(lb)
async def brew(left: int) -> None:
    raise OutOfTea(left)


@remote(lb)
async def hold(begun: str, ended: str) -> None:
    import asyncio
    from pathlib import Path

    Path(begun).write_text(str(os.getpid()))
    try:
        await asyncio.sleep(600)
    finally:
        Path(ended).touch()


@remote(lb)
async def say(word: str, folder: str, others: int) -> None:
    import asyncio

    for n in range(3):
        print(word, end=" ")
        (Path(folder) / f"{word}{n}").touch()
        while len(os.listdir(folder)) < others * (n + 1):
            await asyncio.sleep(0.005)
        print(n)


@awaited
async def test_a_call_gives_the_bare_value() -> None:
    assert await echo({"a": [1, 2]}) == {"a": [1, 2]}
    assert type(await echo((1, "2"))) is tuple
    assert await echo(None) is None


@awaited
async def test_a_large_value_goes_both_ways_and_the_answer_leaves_no_file(engine: IsolatedEngine) -> None:
    value = os.urandom(3_000_000)
    assert await echo(value) == value
    files = [path for path in (engine.home / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 1  # the argument's, which the next call of the same value names again


@pytest.mark.parametrize("function", [meet, meet_plainly])
@awaited
async def test_many_calls_run_at_once_in_one_worker(function: object, tmp_path: Path) -> None:
    assert callable(function)
    pids = await asyncio.gather(*(function(str(tmp_path), str(n), 8) for n in range(8)))
    assert len(set(pids)) == 1


@awaited
async def test_what_a_function_raises_is_raised_as_it_was() -> None:
    with pytest.raises(OutOfTea) as caught:
        await brew(3)
    assert caught.value.left == 3
    assert "raise OutOfTea(left)" in str(caught.value.__cause__)


@awaited
async def test_a_wrong_argument_is_a_type_error_of_the_call() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'left'"):
        await brew()  # type: ignore[call-arg]


@awaited
async def test_map_gives_the_values_in_order() -> None:
    assert [value async for value in echo.map(range(20))] == list(range(20))


@awaited
async def test_it_cannot_be_spawned_and_says_why() -> None:
    with pytest.raises(UsageError, match="cannot be spawned: it is load-balanced") as caught:
        await echo.spawn(1)
    assert "await echo" in (caught.value.fix or "")


@awaited
async def test_a_call_that_is_given_up_is_cancelled_in_its_worker(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    call = asyncio.ensure_future(hold(str(begun), str(ended)))
    await async_until(begun.exists)
    call.cancel()
    await async_until(ended.exists)


@awaited
async def test_an_asynchronous_call_that_takes_too_long_costs_nobody_else_anything(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    with pytest.raises(TimeoutError, match=r"took longer than its timeout of 0\.2 s"):
        await hold.with_options(timeout=0.2)(str(begun), str(ended))
    assert ended.exists()
    assert int(begun.read_text()) == await pid()


@remote(CpuLiveLoadBalancer(name="stuck", workersMax=1), timeout=0.3)
def sleep_plainly(seconds: float) -> int:

    time.sleep(seconds)
    return os.getpid()


@awaited
async def test_a_plain_call_that_takes_too_long_is_given_up_and_its_worker_replaced() -> None:
    before = await sleep_plainly(0)
    with pytest.raises(JobTimeout):
        await sleep_plainly(600)
    assert await sleep_plainly(0) != before
    await async_until(lambda: not psutil.pid_exists(before))


@awaited
async def test_a_worker_that_dies_is_told_of_and_the_next_call_finds_another(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    call = asyncio.ensure_future(hold(str(begun), str(tmp_path / "ended")))
    await async_until(lambda: begun.exists() and begun.read_text())
    os.kill(int(begun.read_text()), signal.SIGKILL)
    with pytest.raises(WorkerLost, match="its worker was killed by signal 9"):
        await call
    assert await echo(1) == 1


@awaited
async def test_what_calls_that_run_at_once_print_is_shown_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.gather(*(say(word, str(tmp_path), 3) for word in ("a", "b", "c")))
    lines = Counter(line.partition("] ")[2] for line in capsys.readouterr().err.splitlines())
    assert lines == Counter(f"{word} {n}" for word in "abc" for n in range(3))


@awaited
async def test_more_calls_at_once_than_scaler_value_bring_more_workers_which_leave_again(
    engine: IsolatedEngine, tmp_path: Path
) -> None:
    resource = CpuLiveLoadBalancer(name="scaled", workersMax=3, scalerValue=2, idleTimeout=0.3)
    function = remote(resource)(meet.__wrapped__)
    before = len(engine.workers())
    await function(str(tmp_path), "first", 1)
    calls = [asyncio.ensure_future(function(str(tmp_path), str(n), 100)) for n in range(5)]
    await async_until(lambda: len(engine.workers()) == before + 3)
    for n in range(5, 100):
        (tmp_path / str(n)).touch()
    await asyncio.gather(*calls)
    await async_until(lambda: len(engine.workers()) == before)


@awaited
async def test_new_code_gets_a_new_worker_while_calls_finish_on_the_old(tmp_path: Path) -> None:
    resource = CpuLiveLoadBalancer(name="versions", workersMax=2)

    def version(number: int) -> Callable[..., asyncio.Future[tuple[int, int]]]:
        async def which(folder: str, others: int) -> tuple[int, int]:
            while len(os.listdir(folder)) < others:
                await asyncio.sleep(0.005)
            return number, os.getpid()

        return remote(resource)(which)  # type: ignore[return-value]

    old, new = version(1), version(2)
    call = asyncio.ensure_future(old(str(tmp_path), 1))
    await asyncio.sleep(0)
    second = await new(str(tmp_path), 0)
    assert not call.done()
    (tmp_path / "go").touch()
    first = await call
    assert (first[0], second[0]) == (1, 2)
    assert first[1] != second[1]


@awaited
async def test_an_engine_that_dies_takes_calls_with_it_and_their_callers_are_told(
    engine: IsolatedEngine, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    call = asyncio.ensure_future(hold(str(begun), str(tmp_path / "ended")))
    await async_until(begun.exists)
    os.kill(engine.facts["pid"], signal.SIGKILL)
    with pytest.raises(RemoteError, match="connection to the engine was lost"):
        await call
    assert await echo("again") == "again"
