"""The CPU worker: work that takes a while, and a route that asks for it."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

# None while nothing waits, four at most, gone a second after the last job: what the load test shows.
cpu_config = CpuLiveServerless(
    name="04_01_autoscaling_cpu",
    workersMin=0,
    workersMax=4,
    idleTimeout=1,
    scalerType="QUEUE_DELAY",
)


@remote(resource_config=cpu_config)
async def work(seconds: float) -> dict[str, Any]:
    """Hash for as long as it is told to, and say how much that was."""
    import hashlib
    import time

    end = time.perf_counter() + seconds
    digest, rounds = b"", 0
    while time.perf_counter() < end:
        digest = hashlib.sha256(digest).digest()
        rounds += 1
    return {"rounds": rounds}


class WorkRequest(BaseModel):
    """What a client sends."""

    seconds: float = Field(default=0.1, gt=0, le=10)


class WorkResponse(BaseModel):
    """What it gets."""

    rounds: int
    worker_id: str
    queued_ms: int = Field(description="How long the job waited for a worker")
    ran_ms: int


@cpu_router.post("/work")
async def do_work(request: WorkRequest) -> WorkResponse:
    """Work for a while on whichever worker is free."""
    job = await work(request.seconds)
    if job.error:
        logger.error("work failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return WorkResponse(worker_id=job.worker_id, queued_ms=job.delay_time, ran_ms=job.execution_time, **job.unwrap())
