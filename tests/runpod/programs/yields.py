"""A worker that yields; an asynchronous generator, of which nothing is gathered."""

import asyncio
from typing import Any

import runpod  # type: ignore[import-not-found]


async def handler(job: dict[str, Any]) -> Any:
    for number in range(job["input"]["n"]):
        if number == job["input"].get("fail"):
            raise RuntimeError("in the middle")
        yield {"number": number}
        await asyncio.sleep(0)


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda _current: 4})
