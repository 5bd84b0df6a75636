"""The CPU worker: an estimate of π that becomes better while one looks at it, and its routes."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, FlashError, JobHandle, JobNotFound, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="03_02_streaming_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config)
async def estimate_pi(batches: int, batch_size: int, seed: int) -> AsyncIterator[dict[str, Any]]:
    """Throw points at a square, batch by batch, and yield after each what share of them fell into the circle."""
    import random

    from runpod_flash import progress

    chance = random.Random(seed)
    inside = 0
    for batch in range(1, batches + 1):
        inside += sum(chance.random() ** 2 + chance.random() ** 2 <= 1 for _ in range(batch_size))
        progress({"batch": batch, "of": batches})
        yield {"points": batch * batch_size, "pi": round(4 * inside / (batch * batch_size), 5)}


class EstimateRequest(BaseModel):
    """What a client sends."""

    batches: int = Field(default=5, ge=1, le=1000)
    batch_size: int = Field(default=20_000, ge=1, le=1_000_000)
    seed: int = Field(default=1, description="The same seed gives the same estimates")


class JobResponse(BaseModel):
    """A job that runs by itself."""

    job_id: str


class EstimatesResponse(BaseModel):
    """What a job has yielded."""

    status: str
    progress: dict[str, int] | None = Field(description="How far it is")
    estimates: list[dict[str, Any]] = Field(description="All that it yields, from the first on; waits for its end")


@cpu_router.post("/estimate")
async def estimate(request: EstimateRequest) -> StreamingResponse:
    """Stream estimates as server-sent events. A client that goes away ends the work."""

    async def events() -> AsyncIterator[str]:
        try:
            async for item in estimate_pi.stream(request.batches, request.batch_size, request.seed):
                yield f"data: {json.dumps(item)}\n\n"
        except FlashError:
            # The status is sent by now: an event is the way to say that there will be no more.
            logger.exception("estimate_pi failed")
            yield 'event: error\ndata: {"detail": "Processing failed. Check server logs."}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")


@cpu_router.post("/jobs", status_code=status.HTTP_202_ACCEPTED)
async def start(request: EstimateRequest) -> JobResponse:
    """Start the same as a job that goes on when nobody listens; what it yields is kept."""
    handle = await estimate_pi.spawn(request.batches, request.batch_size, request.seed)
    return JobResponse(job_id=handle.id)


@cpu_router.get("/jobs/{job_id}")
async def estimates(job_id: str) -> EstimatesResponse:
    """Read what a job yields, from the start, however often and from wherever."""
    handle = JobHandle.from_id(job_id)
    try:
        found = [item async for item in handle.stream()]
        state = await handle.status()
    except JobNotFound:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no job {job_id}") from None
    return EstimatesResponse(status=str(state), progress=state.progress, estimates=found)
