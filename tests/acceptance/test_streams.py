"""Generators on workers: read as they yield, stopped by readers who are slow or leave, collected where awaited."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import (
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    JobHandle,
    JobOutput,
    UsageError,
    remote,
)
from runpod_flash.testing import IsolatedEngine
from runpod_flash.wire.kinds import STREAM_ITEMS
from tests.waiting import PATIENCE_S, async_until, awaited

pytestmark = pytest.mark.usefixtures("engine")

queue = CpuLiveServerless(name="queue", workersMax=1)
balanced = CpuLiveLoadBalancer(name="balanced", workersMax=1)


class OutOfTea(ValueError):
    pass


async def to_the_end(items: AsyncIterator[Any]) -> tuple[list[Any], BaseException | None]:
    """All the items, and the exception after them."""
    read: list[Any] = []
    try:
        async for item in items:
            read.append(item)  # noqa: PERF401 - those before an exception count
    except Exception as error:  # noqa: BLE001 - it is what the test asks for
        return read, error
    return read, None


def pour(cups: int, tea: int, note: str) -> Iterator[int]:
    """Yields up to `cups` numbers, notes how many it has made and that it was closed; fails when `tea` runs out."""
    with open(note, "a") as file:
        try:
            for cup in range(cups):
                if cup == tea:
                    raise OutOfTea(f"{cup} cups")
                file.write(".")
                file.flush()
                yield cup
        finally:
            file.write("closed")


async def pour_slowly(cups: int, tea: int, note: str) -> AsyncIterator[int]:
    for cup in pour(cups, tea, note):
        await asyncio.sleep(0)
        yield cup


FORMS: dict[str, Any] = {
    "queue": remote(queue)(pour),
    "queue-async": remote(queue)(pour_slowly),
    "balanced": remote(balanced)(pour),
    "balanced-async": remote(balanced)(pour_slowly),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


@every_form
@awaited
async def test_items_come_in_order_and_awaiting_gives_their_list(form: Any, note: Path) -> None:
    assert [cup async for cup in form.stream(100, -1, str(note))] == list(range(100))
    assert await form(5, -1, str(note)) == [0, 1, 2, 3, 4]
    assert [cup async for cup in form.stream(0, -1, str(note))] == []


@every_form
@awaited
async def test_a_generator_is_never_far_ahead_of_its_reader(form: Any, note: Path) -> None:
    read = 0
    async for _cup in form.stream(300, -1, str(note)):
        read += 1
        made = note.read_text().count(".")
        assert read <= made <= read + STREAM_ITEMS + 1
    assert read == 300


@every_form
@awaited
async def test_leaving_the_loop_ends_the_generator_and_its_finally_runs(form: Any, note: Path) -> None:
    cups = form.stream(10**9, -1, str(note))
    async for cup in cups:
        if cup == 40:
            break
    await cups.aclose()
    await async_until(lambda: note.read_text().endswith("closed"))
    assert await form(2, -1, str(note)) == [0, 1], "its worker takes the next call"


@every_form
@awaited
async def test_an_exception_comes_after_the_last_item(form: Any, note: Path) -> None:
    read, error = await to_the_end(form.stream(100, 33, str(note)))
    assert read == list(range(33))
    assert isinstance(error, OutOfTea)
    assert "33 cups" in str(error)


def test_blocking_callers_read_in_the_same_way(note: Path) -> None:
    for form in FORMS.values():
        assert list(form.sync.stream(40, -1, str(note))) == list(range(40))


# ── spawned ──────────────────────────────────────────────────────────────────────────────────────


@remote(queue, max_retries=0)
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@remote(queue)
def large(count: int, size: int) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number]) * size


@remote(queue, timeout=0.5, max_retries=0)
def for_ever() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@awaited
async def test_a_spawned_stream_is_kept_for_every_reader_from_its_first_item(tmp_path: Path) -> None:
    handle = await numbers.spawn(1000)
    first, second = handle.stream(), JobHandle.from_id(handle.id).stream()
    together = [(a, b) async for a, b in _side_by_side(first, second)]
    assert together == [(n, n) for n in range(1000)]
    job: JobOutput[Any] = await handle
    assert job.output == list(range(1000))
    reader = tmp_path / "reader.py"
    reader.write_text(
        "import sys\nfrom runpod_flash import JobHandle\nprint(sum(JobHandle.from_id(sys.argv[1]).sync.stream()))"
    )
    there = subprocess.run([sys.executable, reader, handle.id], capture_output=True, text=True, check=True, timeout=60)
    assert there.stdout == f"{sum(range(1000))}\n"


async def _side_by_side(first: AsyncIterator[Any], second: AsyncIterator[Any]) -> AsyncIterator[tuple[Any, Any]]:
    async for one in first:
        yield one, await anext(second)


@awaited
async def test_leaving_a_spawned_stream_does_not_touch_the_job(note: Path) -> None:
    handle = await FORMS["queue"].spawn(200, -1, str(note))
    items = handle.stream()
    async for item in items:
        if item == 3:
            break
    await items.aclose()
    assert await handle.result(PATIENCE_S) == list(range(200))
    failed = await FORMS["queue-async"].with_options(max_retries=0).spawn(9, 5, str(note))
    read, error = await to_the_end(failed.stream())
    assert (read, isinstance(error, OutOfTea)) == ([0, 1, 2, 3, 4], True)
    assert (await failed).error == "OutOfTea: 5 cups"


@awaited
async def test_items_of_any_size_come_whole_and_leave_no_files(engine: IsolatedEngine) -> None:
    sizes = [(len(item), set(item)) async for item in large.stream(6, 3 << 20)]
    assert sizes == [(3 << 20, {number}) for number in range(6)]
    balanced_large = remote(balanced)(large.__wrapped__)
    assert [len(item) async for item in balanced_large.stream(3, 2 << 20)] == [2 << 20] * 3
    await async_until(lambda: not [path for path in (engine.home / "blobs").glob("*/*") if path.is_file()])
    handle = await large.spawn(2, 1 << 20)
    assert [item[:2] for item in await handle.result()] == [b"\0\0", b"\1\1"]


@awaited
async def test_the_time_of_a_stream_is_that_of_the_whole_call() -> None:
    read, error = await to_the_end(for_ever.stream())
    assert read == list(range(len(read)))
    assert isinstance(error, TimeoutError)
    assert "longer than its timeout of 0.5 s" in str(error)


@awaited
async def test_what_has_no_stream_says_so() -> None:
    async def plain() -> int:
        return 1

    with pytest.raises(UsageError, match="plain gives no stream"):
        remote(queue)(plain).stream()
    job = await remote(queue)(plain)()
    with pytest.raises(UsageError, match=r"gives no stream(.|\n)*await the handle"):
        await anext(JobHandle.from_id(job.id).stream())


@remote(queue)
class Kettle:
    def __init__(self, first: int) -> None:
        self.first = first

    def cups(self, count: int) -> Iterator[int]:
        yield from range(self.first, self.first + count)


@awaited
async def test_a_method_that_yields_is_read_in_the_same_way() -> None:
    cups = Kettle(5).cups
    assert [cup async for cup in cups.stream(3)] == [5, 6, 7]  # type: ignore[attr-defined]
    handle = await cups.spawn(2)  # type: ignore[attr-defined]
    assert [cup async for cup in handle.stream()] == [5, 6]


@awaited
async def test_a_generator_with_local_is_read_in_this_process(note: Path) -> None:
    here = remote(queue, local=True)(pour)
    assert [cup async for cup in here.stream(3, -1, str(note))] == [0, 1, 2]
    assert note.read_text() == "...closed"
