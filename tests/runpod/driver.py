"""Runs in the environment of Runpod's package, and does there what the tests say: a line of JSON in, one out."""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp  # type: ignore[import-not-found]
import requests  # type: ignore[import-untyped]
import runpod  # type: ignore[import-not-found]


class Sooner:
    """The clock of a client that looks every tenth of a second, not every second, and does nothing else meanwhile.

    It counts its looks for a timeout, so that of `output(timeout=600)` is a minute.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 10)


runpod.endpoint.runner.time = Sooner()
runpod.api_key, runpod.endpoint_url_base = sys.argv[1:]
names = {"asyncio": asyncio, "aiohttp": aiohttp, "requests": requests, "runpod": runpod, "time": time}
for line in sys.stdin:
    said = json.loads(line)
    here = {**names, **said["given"]}
    try:
        exec(said["code"], here)
        answer = {"result": here.get("result")}
    except Exception as error:  # noqa: BLE001 - told to the test
        answer = {"raised": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
