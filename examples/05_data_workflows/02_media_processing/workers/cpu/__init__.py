"""The routes of the CPU worker."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response, UploadFile, status
from pydantic import BaseModel, Field

from .endpoint import measure_sound, thumbnail

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in workers/cpu/.
cpu_router = APIRouter()

LARGEST = 20_000_000


class SoundResponse(BaseModel):
    """What a recording is like."""

    seconds: float
    loudness_lufs: float | None = Field(description="Integrated loudness by EBU R 128; null if it is too short")
    levels: list[float] = Field(description="The course of its peaks, at most 60 of them, each between 0 and 1")


@cpu_router.post("/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
async def make_thumbnail(file: UploadFile, width: Annotated[int, Query(ge=16, le=2000)] = 160) -> Response:
    """Make a small picture of a large one."""
    return Response(await _result(thumbnail(await _content(file), width)), media_type="image/jpeg")


@cpu_router.post("/sound")
async def sound(file: UploadFile) -> SoundResponse:
    """Measure how long and how loud a recording is."""
    return SoundResponse(**await _result(measure_sound(await _content(file))))


async def _content(file: UploadFile) -> bytes:
    content = await file.read()
    if not content:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Invalid input: the file is empty")
    if len(content) > LARGEST:
        raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"The file has more than {LARGEST} bytes")
    return content


async def _result(call: Any) -> Any:
    job = await call
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("a call failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return job.unwrap()
