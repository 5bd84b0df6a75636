"""The FastAPI app of 01 Class-Based Worker, for local development: `flash run` serves it."""

import logging
import os

from fastapi import FastAPI

from cpu_worker import cpu_router

logging.basicConfig(level=os.getenv("LOG_LEVEL", "INFO"))

app = FastAPI(
    title="01 Class-Based Worker",
    description="A model that is trained once and lives in its worker between calls.",
    version="0.1.0",
)
app.include_router(cpu_router, prefix="/cpu", tags=["CPU worker"])


@app.get("/")
async def home() -> dict[str, str]:
    """Say what this app is and where its documentation stands."""
    return {"name": "01 Class-Based Worker", "docs": "/docs"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Answer without a worker, for health checks."""
    return {"status": "healthy"}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.getenv("FLASH_HOST", "localhost"), port=int(os.getenv("FLASH_PORT", "8888")))
