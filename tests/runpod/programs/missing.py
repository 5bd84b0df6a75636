"""A worker that cannot start."""

import nowhere_to_be_found  # type: ignore[import-not-found]
import runpod  # type: ignore[import-not-found]

runpod.serverless.start({"handler": nowhere_to_be_found.handler})
