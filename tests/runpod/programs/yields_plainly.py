"""A worker that yields; a plain generator, of which nothing is gathered."""

from typing import Any

import runpod  # type: ignore[import-not-found]


def handler(job: dict[str, Any]) -> Any:
    for number in range(job["input"]["n"]):
        yield {"number": number}


runpod.serverless.start({"handler": handler})
