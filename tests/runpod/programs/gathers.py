"""A worker that yields; a plain generator, whose items are gathered. It is replaced after each job."""

from typing import Any

import runpod  # type: ignore[import-not-found]


def handler(job: dict[str, Any]) -> Any:
    yield from (f"item {number}" for number in range(job["input"]["n"]))


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True, "refresh_worker": True})
