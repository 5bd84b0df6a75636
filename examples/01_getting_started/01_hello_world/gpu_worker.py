"""The GPU worker: what runs on it, and its routes."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import GpuGroup, LiveServerless, remote

logger = logging.getLogger(__name__)

# The name gpu_router is what `flash run` looks for in gpu_worker.py.
gpu_router = APIRouter()

gpu_config = LiveServerless(
    name="01_01_hello_world_gpu",
    gpus=[GpuGroup.ANY],
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=gpu_config)
async def gpu_hello(message: str) -> dict[str, Any]:
    """Greet from a GPU worker, with the cards that it sees. ValueError for a message of blanks."""
    # Imports stand inside: the function runs on another worker. Packages go into @remote(dependencies=[…]).
    import asyncio
    import platform
    import shutil

    if not message.strip():
        raise ValueError("the message has only blanks")

    gpus: list[str] = []
    if shutil.which("nvidia-smi"):
        process = await asyncio.create_subprocess_exec(
            "nvidia-smi", "--query-gpu=name", "--format=csv,noheader", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        gpus = output.decode().split("\n")[:-1]
    return {
        "status": "success",
        "message": message,
        "worker_type": "gpu",
        "gpus": gpus,
        "python_version": platform.python_version(),
    }


class GpuRequest(BaseModel):
    """What a client sends."""

    message: str = Field(..., min_length=1, max_length=1000, description="What to say", examples=["Hello, GPU"])


class GpuResponse(BaseModel):
    """What it gets."""

    status: str
    message: str
    worker_type: str
    gpus: list[str] = Field(description="Names of the cards that the worker sees")
    python_version: str


@gpu_router.post("/hello")
async def hello(request: GpuRequest) -> GpuResponse:
    """Greet from a GPU worker."""
    job = await gpu_hello(request.message)
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("gpu_hello failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return GpuResponse(**job.unwrap())


if __name__ == "__main__":
    import asyncio

    # In this process, where breakpoints stop. Without .local it runs on a worker.
    print(asyncio.run(gpu_hello.local("hello")))
