"""The FastAPI app of 02 Scheduled Work, for local development: `flash run` serves it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from cpu_worker import cpu_router, run_slot
from schedule import SCHEDULES, keep

logging.basicConfig(level=os.getenv("LOG_LEVEL", "INFO"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the schedules while the app is served. Several replicas may: a slot has one run."""
    tasks = [asyncio.create_task(keep(name, run_slot), name=f"schedule {name}") for name in SCHEDULES]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


app = FastAPI(
    title="02 Scheduled Work",
    description="Work on a schedule that runs once a slot, however many replicas keep it.",
    version="0.1.0",
    lifespan=lifespan,
)
app.include_router(cpu_router, prefix="/cpu", tags=["CPU worker"])


@app.get("/")
async def home() -> dict[str, str]:
    """Say what this app is and where its documentation stands."""
    return {"name": "02 Scheduled Work", "docs": "/docs"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Answer without a worker, for health checks."""
    return {"status": "healthy"}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.getenv("FLASH_HOST", "localhost"), port=int(os.getenv("FLASH_PORT", "8888")))
