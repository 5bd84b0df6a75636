"""Calls from many threads, many event loops of several kinds, and processes that the program makes of itself."""

from __future__ import annotations

from typing import Final

import pytest

from tests.acceptance.launching.programs import DECLARED, Programs

WAYS: Final = """
import asyncio


def blocking():
    return answer.sync(Weight(21)).unwrap().value


async def main():
    return (await answer(Weight(21))).unwrap().value


def awaited():
    return asyncio.run(main())
"""

THREADS: Final = """
from threading import Thread

found = []
threads = [Thread(target=lambda way=way: found.append(way())) for way in [blocking] * 20 + [awaited] * 8]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [42] * 28, found
"""

ONE_LOOP_AFTER_ANOTHER: Final = """
import gc, psutil

assert awaited() == 42
before = psutil.Process().num_fds()
for _ in range(10):
    assert awaited() == 42
for _ in range(10):  # as programs do that do not know of asyncio.run
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(main()) == loop.run_until_complete(main()) == 42
    loop.close()
    del loop
    gc.collect()
assert awaited() == 42
gc.collect()
assert psutil.Process().num_fds() == before
"""

LOOPS_IN_TURNS: Final = """
one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
for loop in (one, other, one, other):
    assert loop.run_until_complete(main()) == 42
for loop in (one, other):
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
"""

OTHER_LOOPS: Final = """
import anyio, uvloop


async def group():
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(main)
    with anyio.fail_after(30):
        return await main()


assert uvloop.run(main()) == 42
assert anyio.run(main) == anyio.run(group) == anyio.run(group, backend_options={"use_uvloop": True}) == 42
assert awaited() == 42
"""

BLOCKING_INSIDE_A_LOOP: Final = """
async def inside():
    assert blocking() == await main() == 42
    assert await asyncio.to_thread(blocking) == 42
    assert await asyncio.get_running_loop().run_in_executor(None, awaited) == 42


asyncio.run(inside())
"""


@pytest.mark.parametrize(
    "program",
    [THREADS, ONE_LOOP_AFTER_ANOTHER, LOOPS_IN_TURNS, OTHER_LOOPS, BLOCKING_INSIDE_A_LOOP],
    ids=["threads", "loops one after another", "loops in turns", "uvloop and anyio", "blocking calls inside a loop"],
)
def test_every_call_of_a_program_ends_well_with(program: str, programs: Programs) -> None:
    programs.write({"program.py": DECLARED + WAYS + program + "print('done')\n"})
    assert programs.python("program.py") == "done\n"


FORKS: Final = """
import os, traceback


def forked(*ways):
    child = os.fork()
    if not child:
        try:
            os._exit(0 if all(way() == 42 for way in ways) else 1)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return 42


async def from_inside():
    assert await main() == 42
    forked(blocking)
    return await main()


forked(blocking)
forked(awaited)
assert blocking() == awaited() == 42
forked(blocking, awaited)
forked(lambda: blocking() and forked(blocking))
assert asyncio.run(from_inside()) == blocking() == awaited() == 42
print('done')
"""


def test_a_forked_child_calls_as_its_parent_does_before_and_after_it(programs: Programs) -> None:
    programs.write({"program.py": DECLARED + WAYS + FORKS})
    assert programs.python("-W", "ignore:This process:DeprecationWarning", "program.py") == "done\n"


POOLS: Final = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor


def both(_):
    return blocking() == awaited() == 42


def given(function):
    return function.sync(Weight(21))


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert all(pool.map(both, range(4)))
        # Remote functions, classes of the user's own and JobOutputs go between these processes as well.
        assert pool.submit(given, answer).result().value == 42
        assert pool.submit(given, answer.with_options(timeout=30)).result().value == 42
        assert pool.submit(answer.sync, Weight(21)).result().value == 42
    assert both(0)
    child = context.Process(target=answer.sync, args=(Weight(21),))
    child.start()
    child.join()
    print(child.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_pool_call_as_their_program_does(method: str, programs: Programs) -> None:
    programs.write({"program.py": DECLARED + WAYS + POOLS})
    assert programs.python("-W", "ignore:This process:DeprecationWarning", "program.py", method) == "0\n"
