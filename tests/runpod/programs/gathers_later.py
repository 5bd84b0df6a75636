"""A worker that yields; an asynchronous generator, whose items are gathered."""

import asyncio
from typing import Any

import runpod  # type: ignore[import-not-found]


async def handler(job: dict[str, Any]) -> Any:
    for number in range(job["input"]["n"]):
        yield {"number": number}
        await asyncio.sleep(0)


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
