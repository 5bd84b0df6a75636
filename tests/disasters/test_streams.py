"""Streams while something dies: what comes, comes once and in order, and what cannot come is said."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, WorkerLost, remote
from runpod_flash.client import background
from tests.disasters.scene import Scene, written
from tests.waiting import until

queue = CpuLiveServerless(name="streams", workersMax=1)
PROGRAM = """
import asyncio, sys
from runpod_flash import CpuLiveServerless, remote

@remote(CpuLiveServerless(name="streams", workersMax=1))
def for_ever(note):
    with open(note, "w") as file:
        file.write("begun\\n")
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        with open(note, "a") as file:
            file.write("closed\\n")

async def main(note):
    async for number in for_ever.stream(note):
        if number == 100:
            print(number, flush=True)
            await asyncio.sleep(60)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def link() -> object:
    """The link of this process, ended with the test: its engine is."""
    yield
    background.stop()


@remote(queue)
async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@remote(CpuLiveLoadBalancer(name="relayed", workersMax=1))
def relayed(count: int) -> Any:
    yield from range(count)


def test_a_reader_goes_on_over_the_death_of_the_engine_each_item_once(scene: Scene) -> None:
    async def read() -> list[int]:
        got = []
        async for number in numbers.stream(3000):
            got.append(number)
            if number in (50, 1500):
                await asyncio.to_thread(scene.kill_engine)
        return got

    assert asyncio.run(read()) == list(range(3000))


def test_a_spawned_stream_is_read_over_the_death_of_the_engine_each_item_once(scene: Scene) -> None:
    async def read() -> list[int]:
        handle = await numbers.spawn(2000)
        got = []
        async for number in handle.stream():
            got.append(number)
            if number == 300:
                await asyncio.to_thread(scene.kill_engine)
        assert await handle.result() == got
        return got

    assert asyncio.run(read()) == list(range(2000))


def test_a_worker_that_dies_in_the_middle_ends_the_stream_it_began(scene: Scene) -> None:
    async def read(stream: AsyncIterator[int]) -> list[int]:
        got = []
        with pytest.raises(WorkerLost):  # noqa: PT012 - raised by the loop
            async for number in stream:
                got.append(number)
                if number == 100:
                    await asyncio.to_thread(lambda: scene.kill(*(one.pid for one in scene.workers())))
        return got

    for stream in (numbers.stream(10**9), relayed.stream(10**9)):
        got = asyncio.run(read(stream))
        assert got == list(range(len(got)))
        assert len(got) > 100
    assert list(numbers.sync.stream(3)) == [0, 1, 2]


def test_a_reader_that_ends_with_its_program_ends_the_generator(scene: Scene, tmp_path: Path) -> None:
    program = tmp_path / "reader.py"
    program.write_text(PROGRAM)
    note = scene.file("note")
    reader = scene.start(note, script=program)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "100\n"
    reader.send_signal(signal.SIGINT)
    reader.wait(30)
    assert written(note, 2) == ["begun", "closed"]
    until(lambda: not scene.jobs(status="IN_PROGRESS"))
    assert [job["status"] for job in scene.jobs()] == ["CANCELLED"]
