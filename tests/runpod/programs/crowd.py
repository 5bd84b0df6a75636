"""A worker that takes hundreds of jobs at once."""

from typing import Any

import runpod  # type: ignore[import-not-found]


async def handler(job: dict[str, Any]) -> Any:
    return job["input"]["n"] + 1


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda _current: 250})
