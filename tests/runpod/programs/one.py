"""A worker with a plain handler: one job at a time, which nothing can interrupt."""

import os
import time
from typing import Any

import runpod  # type: ignore[import-not-found]


def handler(job: dict[str, Any]) -> Any:
    said = job["input"]
    if said.get("do") == "die" and not os.path.exists(said["mark"]):
        open(said["mark"], "w").close()
        os.kill(os.getpid(), 9)
    if "mark" in said:
        with open(said["mark"], "a") as mark:
            mark.write(f"{os.getpid()}\n")
    time.sleep(said.get("s", 0))
    while "until" in said and not os.path.exists(said["until"]):
        time.sleep(0.02)
    return {"pid": os.getpid(), "cards": [os.environ["CUDA_VISIBLE_DEVICES"], os.environ["RUNPOD_GPU_COUNT"]]}


runpod.serverless.start({"handler": handler})
