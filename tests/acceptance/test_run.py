"""`flash run` beside a real engine: functions are called, stay warm over a change, and answer below /lb/."""

from __future__ import annotations

from pathlib import Path

import httpx

from runpod_flash.testing import IsolatedEngine
from tests.apps.galleries import write
from tests.apps.test_run import running

APP = """
from fastapi import FastAPI
from functions import count, greet

app = FastAPI()


@app.get("/count")
async def counted() -> dict[str, int]:
    return (await count()).unwrap()


@app.get("/greet")
async def greeted() -> str:
    return await greet("you")
"""
FUNCTIONS = """
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, remote


@remote(CpuLiveServerless(name="counter", workersMin=1))
async def count() -> dict[str, int]:
    import os

    print("counting")
    return {"pid": os.getpid()}


@remote(CpuLiveLoadBalancer(name="greeter"), method="GET", path="/hello/{name}")
async def greet(name: str, word: str = "Hello") -> str:
    return f"{word} {name}"


@remote(CpuLiveLoadBalancer(name="greeter"), method="POST", path="/size")
async def size(data: bytes) -> int:
    return len(data)
"""


def test_calls_are_told_workers_stay_warm_and_load_balanced_functions_need_no_token(
    flash_engine: IsolatedEngine, tmp_path: Path
) -> None:
    write(tmp_path, {"main.py": APP, "functions.py": FUNCTIONS})
    with running(tmp_path, "--auto-provision") as run:
        run.ready()
        run.until(r"auto-provision +ready +3 functions")
        while not flash_engine.workers():  # the least that `count` may have, before anybody has called it
            pass
        before = run.get("/count").json()
        run.until(r"count +\w+ +\| counting\n")
        run.until(r"count +\w+ +COMPLETED +[\d.]+ m?s")
        run.until(r"GET /count +200 +[\d.]+ m?s")

        url = f"{run.url}/lb/greeter"
        assert httpx.get(f"{url}/hello/you?word=Hi").json() == "Hi you"
        assert httpx.post(f"{url}/size", content=b"x" * 300_000).json() == 300_000
        assert httpx.post(f"{url}/size", content=iter([b"ab", b"cd"])).json() == 4
        for headers in ({"origin": "https://evil.example.com"}, {"host": "evil.example.com"}):
            assert httpx.get(f"{url}/hello/you", headers=headers).status_code == 403
        missing = httpx.get(f"{run.url}/lb/greter/hello/you")
        assert (missing.status_code, missing.json()["endpoints"]) == (404, ["greeter"])
        assert run.get("/greet").json() == "Hello you"

        write(tmp_path, {"main.py": APP.replace('"/greet"', '"/greeting"')})
        run.until(r"  reloaded +[\d.]+ s  \+ GET /greeting  - GET /greet\n")
        assert run.get("/count").json() == before
