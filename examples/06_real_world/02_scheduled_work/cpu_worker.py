"""The CPU worker: what is done on a schedule, and the routes that show and hurry it."""

import logging
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

from schedule import SCHEDULES, runs_of, slot_of

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="06_02_scheduled_work_cpu",
    workersMin=0,
    workersMax=2,
    idleTimeout=300,
)


@remote(resource_config=cpu_config, max_retries=3, timeout=60)
async def check_disk(slot: str) -> dict[str, Any]:
    """How full the disk of the worker's machine is."""
    import shutil

    usage = shutil.disk_usage("/")
    return {
        "slot": slot,
        "total_gb": round(usage.total / 1e9, 1),
        "used_percent": round(100 * usage.used / usage.total),
    }


@remote(resource_config=cpu_config, max_retries=3, timeout=60)
async def check_load(slot: str) -> dict[str, Any]:
    """How busy the worker's machine is."""
    import os

    return {"slot": slot, "load": round(os.getloadavg()[0], 2), "processors": os.cpu_count()}


WORK = {"disk": check_disk, "load": check_load}


class ScheduleResponse(BaseModel):
    """One schedule, and what came of it lately."""

    name: str
    every_seconds: int
    next_at: datetime
    last_runs: list[str] = Field(description="Ids of its last jobs, the newest last")


class RunResponse(BaseModel):
    """One run."""

    job_id: str
    slot: str = Field(description="The span of time that the run is for; one has one run")
    result: dict[str, Any]


Name = Annotated[str, Path(description="Of a schedule")]


@cpu_router.get("/schedules")
async def schedules() -> list[ScheduleResponse]:
    """List what is done on a schedule."""
    now = datetime.now(timezone.utc)
    return [
        ScheduleResponse(name=name, every_seconds=every, next_at=slot_of(now, every, 1), last_runs=[*runs_of(name)])
        for name, every in SCHEDULES.items()
    ]


@cpu_router.post("/schedules/{name}/run")
async def run_now(name: Name) -> RunResponse:
    """Do the work of the current slot, unless it is done already: then show what came of it."""
    if name not in SCHEDULES:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"No schedule is called {name}; there are {', '.join(SCHEDULES)}"
        )
    return await run_slot(name, slot_of(datetime.now(timezone.utc), SCHEDULES[name]))


async def run_slot(name: str, slot: datetime) -> RunResponse:
    """Run the work of one slot once, whoever else asks for it: replicas of this app, a restart, a person."""
    text = slot.isoformat()
    handle = await WORK[name].spawn(text, idempotency_key=f"{name} {text}")
    job = await handle
    if job.error:
        logger.error("%s failed: %s", name, job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    if job.id not in runs_of(name):
        runs_of(name).append(job.id)
    return RunResponse(job_id=job.id, slot=text, result=job.unwrap())
