"""The program that meets the disasters: imported by the tests, and run beside them as a script.

program.py call|sync FUNCTION ARGUMENT…               prints "result …" at the end
program.py spawn|spawn-and-wait FUNCTION ARGUMENT…    prints the job's id at once
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from runpod_flash import CpuLiveServerless, PodTemplate, remote

cpu = CpuLiveServerless(name="disasters", workersMax=2)
small = CpuLiveServerless(name="small", workersMax=1, podTemplate=PodTemplate(memory_gb=0.3))
one = CpuLiveServerless(name="one", workersMax=1)


@remote(cpu)
async def echo(value: Any) -> Any:
    return value


@remote(cpu)
def where() -> tuple[int, int]:
    import os

    return os.getpid(), os.getppid()


@remote(cpu, max_retries=0)
def crash(how: str) -> str:
    import ctypes
    import os
    import signal

    print("last words before", how)
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    return "it lives"


@remote(cpu)
def crash_at_first(marker: str, times: int = 1) -> str:
    """Kills its worker so many times, then returns."""
    import os
    import signal

    with open(marker, "a+") as file:
        file.seek(0)
        crashed = len(file.read())
        file.write("x")
    if crashed < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"lives after {crashed}"


@remote(small, max_retries=0)
def eat(megabytes: int) -> int:
    import time

    kept = [b"\x01" * 1_000_000 for _ in range(megabytes)]
    time.sleep(20)
    return len(kept)


@remote(small)
def nibble(megabytes: int) -> int:
    return len([b"\x01" * 1_000_000 for _ in range(megabytes)])


@remote(cpu)
def babble(what: str) -> str:
    import os

    noise = {
        "garbage": bytes(range(256)) * 40,
        "invalid UTF-8": b"\xff\xfe\xc3\x28 not text \x80\n" * 10,
        "frames": b"FL\x01\x00\x00\x00\xff\xff\xff\xff" * 100,
        "a long line": b"x" * 1_000_000 + b"\n",
        "no end": b"never ended",
    }[what]
    while noise:
        noise = noise[os.write(1, noise) :]
    return what


@remote(cpu)
def hold(begun: str, go: str) -> int:
    """Writes its process id to one file and waits for another; the process id."""
    import os
    import time

    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)
    while not os.path.exists(go):
        time.sleep(0.005)
    return os.getpid()


@remote(cpu)
async def hold_async(begun: str, go: str) -> int:
    import asyncio
    import os

    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)
    while not os.path.exists(go):
        await asyncio.sleep(0.005)
    return os.getpid()


@remote(one)
def hold_only(begun: str, go: str) -> int:
    """The same where there is no second worker."""
    import os
    import time

    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)
    while not os.path.exists(go):
        time.sleep(0.005)
    return os.getpid()


@remote(one)
async def echo_only(value: Any) -> Any:
    return value


@remote(cpu, max_retries=0)
def hold_once(begun: str, go: str) -> int:
    import os
    import time

    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)
    while not os.path.exists(go):
        time.sleep(0.005)
    return os.getpid()


@remote(cpu)
def daemonize(script: str) -> int:
    import subprocess
    import sys

    return subprocess.Popen([sys.executable, script]).pid


@remote(cpu)
def tell(folder: str) -> int:
    """Prints a line for each file that it finds, and fails the first time that it has found all."""
    import os
    import time

    for step in ("one", "two", "three"):
        while not os.path.exists(f"{folder}/{step}"):
            time.sleep(0.005)
        print(step, flush=True)
    if not os.path.exists(f"{folder}/failed"):
        open(f"{folder}/failed", "w").close()
        raise ValueError("the first time")
    return 3


async def main(verb: str, name: str, *arguments: str) -> None:
    function = globals()[name]
    if verb.startswith("spawn"):
        handle = await function.spawn(*arguments)
        print(handle.id, flush=True)
        if verb == "spawn-and-wait":
            await handle
        return
    job = await function(*arguments)
    print(f"result {os.getpid()} {job.id} {job.status} {job.output if job.error is None else job.error}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        job = globals()[sys.argv[2]].sync(*sys.argv[3:])
        print("result", job.status, flush=True)
    else:
        asyncio.run(main(*sys.argv[1:]))
