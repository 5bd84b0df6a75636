"""The FastAPI app of 01 Text Embeddings, for local development: `flash run` serves it."""

import logging
import os

from fastapi import FastAPI

from gpu_worker import gpu_router

logging.basicConfig(level=os.getenv("LOG_LEVEL", "INFO"))

app = FastAPI(
    title="01 Text Embeddings",
    description="Search by meaning: a sentence transformer that stays loaded in its worker.",
    version="0.1.0",
)
app.include_router(gpu_router, prefix="/gpu", tags=["GPU worker"])


@app.get("/")
async def home() -> dict[str, str]:
    """Say what this app is and where its documentation stands."""
    return {"name": "01 Text Embeddings", "docs": "/docs"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Answer without a worker, for health checks."""
    return {"status": "healthy"}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.getenv("FLASH_HOST", "localhost"), port=int(os.getenv("FLASH_PORT", "8888")))
