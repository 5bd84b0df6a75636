"""How programs end: calls at the last moment, threads that still call, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Final

import pytest

from runpod_flash import JobHandle
from tests.acceptance.launching.programs import DECLARED, Programs

ENDINGS: Final = {
    "a call from atexit": """
import atexit

atexit.register(lambda: print(answer.sync(Weight(21)).unwrap().value))
answer.sync(Weight(1))
""",
    "a call from atexit that was registered before the first call": """
import atexit, asyncio


async def main():
    return (await answer(Weight(21))).unwrap().value


def late():
    assert asyncio.run(main()) == answer.sync(Weight(21)).unwrap().value
    print(42)


atexit.register(late)
answer.sync(Weight(1))
""",
    "daemon threads that call on and on": """
import threading

called = threading.Event()


def call():
    while answer.sync(Weight(21)).unwrap().value == 42:
        called.set()


for _ in range(4):
    threading.Thread(target=call, daemon=True).start()
called.wait()
print(42)
""",
    "a thread that calls after the main one has ended": """
import threading

main = threading.current_thread()


def call():
    main.join()
    print(answer.sync(Weight(21)).unwrap().value)


threading.Thread(target=call).start()
""",
    "a file that nobody closed": """
file = open("left", "w")
file.write("42")
answer.sync(Weight(1))


class Last:
    def __del__(self):
        print(42)


last = Last()
""",
    "a call that nobody awaits any more": """
import asyncio


async def main():
    task = asyncio.ensure_future(answer(Weight(1)))
    await asyncio.sleep(0)
    print(42)


asyncio.run(main())
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_in_peace_with(ending: str, programs: Programs) -> None:
    programs.write({"program.py": DECLARED + ENDINGS[ending]})
    # The warning is Python's own, about a file that is closed for its owner.
    assert programs.python("-W", "ignore:unclosed file:ResourceWarning", "program.py") == "42\n"
    if ending == "a file that nobody closed":
        assert (programs.folder / "left").read_text() == "42"


WAITING: Final = """
import asyncio
import sys


@remote(CpuLiveServerless("launching", workersMax=2), max_retries=0)
def nap(seconds):
    import time

    print("napping", flush=True)
    time.sleep(seconds)


async def map_all():
    async for _ in nap.map([60] * 10):
        pass


async def wait():
    await JobHandle.from_id(sys.argv[2])


def blocking_map():
    for _ in nap.sync.map([60] * 10):
        pass


from runpod_flash import JobHandle

ways = {
    "map": lambda: asyncio.run(map_all()),
    "sync.map": blocking_map,
    "handle": lambda: asyncio.run(wait()),
}
print("go", flush=True)
ways[sys.argv[1]]()
"""


def _interrupted(program: subprocess.Popen[str], when: str) -> float:
    """Presses Ctrl-C when the program has printed `when`; seconds until it has ended."""
    assert program.stdout is not None
    with program, program.stdout:
        while when not in program.stdout.readline():
            assert program.poll() is None
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == -signal.SIGINT
        return time.monotonic() - began


def _start(programs: Programs, *words: str) -> subprocess.Popen[str]:
    programs.write({"program.py": DECLARED + WAITING})
    return subprocess.Popen(
        [sys.executable, "program.py", *words],
        cwd=programs.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("way", ["map", "sync.map"])
def test_ctrl_c_ends_a_map_and_cancels_all_of_it(way: str, programs: Programs) -> None:
    _interrupted(_start(programs, way), "napping")
    end = time.monotonic() + 20
    while programs.jobs("IN_QUEUE") or programs.jobs("IN_PROGRESS"):
        assert time.monotonic() < end


def test_ctrl_c_of_who_only_waits_for_a_job_leaves_the_job_alone(programs: Programs) -> None:
    from runpod_flash import CpuLiveServerless, remote

    @remote(CpuLiveServerless("launching", workersMax=2))
    def wait_for(path: str) -> str:
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.02)
        return "finished"

    mark = programs.folder / "mark"
    handle: JobHandle[str] = wait_for.sync.spawn(str(mark))
    _interrupted(_start(programs, "handle", handle.id), "go")
    mark.touch()
    assert handle.sync.result(timeout=30) == "finished"
