"""The FastAPI app of 03 Nested Calls, for local development: `flash run` serves it."""

import logging
import os

from fastapi import FastAPI

from workers.cpu import cpu_router

logging.basicConfig(level=os.getenv("LOG_LEVEL", "INFO"))

app = FastAPI(
    title="03 Nested Calls",
    description="A remote function that hands out work to another, from inside its worker.",
    version="0.1.0",
)
app.include_router(cpu_router, prefix="/cpu", tags=["CPU worker"])


@app.get("/")
async def home() -> dict[str, str]:
    """Say what this app is and where its documentation stands."""
    return {"name": "03 Nested Calls", "docs": "/docs"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Answer without a worker, for health checks."""
    return {"status": "healthy"}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.getenv("FLASH_HOST", "localhost"), port=int(os.getenv("FLASH_PORT", "8888")))
