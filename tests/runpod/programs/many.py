"""A worker as people write them, which does what its input says; up to four jobs at once."""

import asyncio
import os
import time
from typing import Any

import runpod  # type: ignore[import-not-found]


async def handler(job: dict[str, Any]) -> Any:
    said = job["input"]
    what = said.get("do", "echo")
    print(f"doing {what}")
    found = globals()[what](job, said)
    return await found if asyncio.iscoroutine(found) else found


def echo(job: dict[str, Any], said: dict[str, Any]) -> Any:
    return {"input": said, "id": job["id"], "keys": sorted(job), "worker": os.environ["RUNPOD_POD_ID"]}


def fail(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    raise ValueError("boom!")


def soft(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    return {"error": "not today", "half": 1}


def none(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    return None


def empty(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    return {}


def nan(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    return {"score": float("nan")}


async def sleep(_job: dict[str, Any], said: dict[str, Any]) -> Any:
    await asyncio.sleep(said["s"])
    return "slept"


async def progress(job: dict[str, Any], said: dict[str, Any]) -> Any:
    runpod.serverless.progress_update(job, {"percent": 50})
    while not os.path.exists(said["until"]):
        await asyncio.sleep(0.02)
    return "done"


def block(_job: dict[str, Any], said: dict[str, Any]) -> Any:
    time.sleep(said["s"])


def fill(_job: dict[str, Any], said: dict[str, Any]) -> Any:
    return len(b"x" * (said["mb"] << 20))


def refresh(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    return {"refresh_worker": True, "pid": os.getpid()}


def look(_job: dict[str, Any], _said: dict[str, Any]) -> Any:
    volume = os.listdir("/runpod-volume") if os.path.isdir("/runpod-volume") else None
    return {"variables": dict(os.environ), "here": os.getcwd(), "volume": volume}


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda _current: 4})
