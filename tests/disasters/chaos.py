"""Jobs of every kind that leave a line for each time they are executed, and somebody who kills everything at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

from runpod_flash import CpuLiveServerless, JobOutput, remote
from tests.disasters.scene import Scene

chaos = CpuLiveServerless(name="chaos", workersMax=3)
IN_FLIGHT = 30
SOME = 3


def note(record: str, token: int) -> int:
    """One line for one execution; how many of this job there are now."""
    import os

    fd = os.open(record, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"{token}\n".encode())
        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(fd)) as file:
            return file.read().split().count(str(token))
    finally:
        os.close(fd)


@remote(chaos)
async def nothing(record: str, token: int) -> int:
    note(record, token)
    return token


@remote(chaos)
async def sleeps(record: str, token: int, seconds: float) -> int:
    import asyncio

    note(record, token)
    await asyncio.sleep(seconds)
    return token


@remote(chaos)
def works(record: str, token: int, seconds: float) -> int:
    import time

    note(record, token)
    time.sleep(seconds)
    return token


@remote(chaos)
def prints(record: str, token: int, lines: int) -> int:
    import os

    note(record, token)
    for n in range(lines):
        print("line", n)
        os.write(1, b"bare line\n")
    return token


@remote(chaos, max_retries=3)
def flaky(record: str, token: int, failures: int) -> int:
    """Fails at its first executions; being lost uses up some of them."""
    if note(record, token) <= failures:
        raise ConnectionError("not yet")
    return token


@remote(chaos, max_retries=1)
async def fails(record: str, token: int) -> int:
    note(record, token)
    raise ValueError("as it must")


@remote(chaos, max_retries=0)
def once(record: str, token: int, seconds: float) -> int:
    import time

    note(record, token)
    time.sleep(seconds)
    return token


def pick(rand: random.Random, record: str, token: int) -> tuple[Any, tuple[Any, ...]]:
    """A function and its arguments."""
    seconds = rand.uniform(0.02, 0.2)
    return rand.choice(
        [
            (nothing, (record, token)),
            (nothing, (record, token)),
            (sleeps, (record, token, seconds)),
            (sleeps, (record, token, seconds)),
            (works, (record, token, seconds)),
            (prints, (record, token, rand.randint(1, 50))),
            (flaky, (record, token, rand.randint(1, 2))),
            (fails, (record, token)),
            (once, (record, token, seconds)),
        ]
    )


class Run:
    """So many jobs, half of them awaited and half of them spawned and taken up later."""

    def __init__(self, scene: Scene, jobs: int, seed: int) -> None:
        self.scene = scene
        self.record = scene.folder / "executions"
        self.count = jobs
        self.kinds: dict[int, str] = {}
        self.jobs: dict[int, str] = {}
        self.ends: dict[int, JobOutput[Any]] = {}
        self._rand = random.Random(seed)

    async def go(self) -> None:
        """Until every job has ended."""
        room = asyncio.Semaphore(IN_FLIGHT)
        await asyncio.gather(*[self._one(token, room) for token in range(self.count)])

    async def _one(self, token: int, room: asyncio.Semaphore) -> None:
        function, arguments = pick(self._rand, str(self.record), token)
        spawned = self._rand.random() < 0.5
        self.kinds[token] = function.__name__
        async with room:
            call: Awaitable[JobOutput[Any]] = await function.spawn(*arguments) if spawned else function(*arguments)
            self.ends[token] = job = await call
            self.jobs[token] = job.id

    def executions(self) -> Counter[int]:
        """How often each job was executed."""
        return Counter(map(int, self.record.read_text().split()))


class Killer:
    """Kills engine, host, zygotes and workers at random, in a thread, until it is told to stop.

    After an engine or a host it lets some jobs end first: on a slow machine there would be nothing else to kill.
    """

    def __init__(self, scene: Scene, run: Run, seed: int, pause: tuple[float, float]) -> None:
        self.killed: Counter[str] = Counter()
        self._scene = scene
        self._run = run
        self._rand = random.Random(seed)
        self._pause = pause
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._kill_on, name="killer")

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _kill_on(self) -> None:
        victims: list[tuple[str, Callable[[], list[psutil.Process]]]] = [
            ("engine", lambda: self._scene.having("runpod_flash.daemon")),
            ("host", lambda: self._scene.having("runpod_flash.host")),
            ("zygote", self._scene.zygotes),
            ("worker", self._scene.workers),
        ]
        due = self._rand.sample(victims, len(victims))  # each kind once, however soon all jobs have ended
        while not self._enough.wait(self._rand.uniform(*self._pause)):
            (name, find), roll = self._rand.choices(victims, (2, 1, 2, 5))[0], self._rand.random()
            if due:
                name, find = due[0]
            if found := find():
                with contextlib.suppress(psutil.Error):
                    found[int(roll * len(found))].kill()
                    self.killed[name] += 1
                    due = due[1:]
                    if name in ("engine", "host"):
                        self._let_some_end()

    def _let_some_end(self) -> None:
        before = len(self._run.ends)
        while len(self._run.ends) < before + SOME and not self._enough.wait(0.01):
            pass
