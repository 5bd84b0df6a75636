"""The functions that Runpod's client asks for in these tests: a program of a user, which declares them by calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from runpod_flash import CpuLiveServerless, remote

many = CpuLiveServerless(name="many", workersMax=1)


@remote(CpuLiveServerless(name="echo", workersMax=1))
async def echo(input: Any) -> Any:
    return input


@remote(CpuLiveServerless(name="add", workersMax=1))
def add(left: int, right: int = 1) -> dict[str, int]:
    return {"sum": left + right}


@remote(CpuLiveServerless(name="soft", workersMax=1))
async def soft() -> dict[str, str]:
    return {"error": "a value like others"}


@remote(CpuLiveServerless(name="boom", workersMax=1), max_retries=0)
async def boom(path: str = "") -> str:
    from pathlib import Path

    if path and Path(path).exists():
        return "second time lucky"
    raise ValueError("boom")


@remote(CpuLiveServerless(name="slow", workersMax=1), max_retries=1)
async def slow(begun: str = "", seconds: float = 600) -> str:
    import asyncio
    from pathlib import Path

    if begun:
        Path(begun).touch()
    await asyncio.sleep(seconds)
    return "slept"


@remote(CpuLiveServerless(name="gate", workersMax=1), max_retries=1)
def gate(begun: str, opened: str) -> str:
    """Waits until a file is there."""
    import time
    from pathlib import Path

    Path(begun).touch()
    while not Path(opened).exists():
        time.sleep(0.01)
    return "through"


@remote(many)
def numbers(n: int) -> Iterator[dict[str, int]]:
    for number in range(n):
        yield {"n": number}


@remote(many)
async def letters(n: int) -> AsyncIterator[str]:
    for number in range(n):
        yield "abcdef"[number]


@remote(CpuLiveServerless(name="speaks", workersMax=1))
async def speaks(begun: str, opened: str) -> str:
    import asyncio
    from pathlib import Path

    from runpod_flash import progress

    progress({"step": 1})
    Path(begun).touch()
    while not Path(opened).exists():
        await asyncio.sleep(0.01)
    return "spoken"


@remote(CpuLiveServerless(name="time", workersMax=1))
async def not_json() -> Any:
    import datetime

    return {"at": [datetime.datetime.fromtimestamp(0, datetime.timezone.utc)]}


async def declare(folder: Path) -> None:
    """Calls each once."""
    (folder / "open").touch()
    begun, opened = str(folder / "begun"), str(folder / "open")
    await asyncio.gather(
        echo(1),
        add(1),
        soft(),
        boom(),
        slow(seconds=0),
        gate(begun, opened),
        numbers(1),
        letters(1),
        speaks(begun, opened),
        not_json(),
    )
