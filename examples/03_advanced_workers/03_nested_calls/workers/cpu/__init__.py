"""The routes of the CPU worker."""

import logging

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field

from .endpoint import report

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in workers/cpu/.
cpu_router = APIRouter()


class ReportRequest(BaseModel):
    """What a client sends."""

    text: str = Field(..., min_length=1, max_length=1_000_000, description="English text")
    parts: int = Field(default=4, ge=1, le=100, description="How many parts are counted beside each other")
    top: int = Field(default=5, ge=1, le=100)


class ReportResponse(BaseModel):
    """What it gets."""

    parts: int
    workers: int = Field(description="How many workers took part")
    words: int
    most_common: list[tuple[str, int]] = Field(description="Words of more than three letters")


@cpu_router.post("/report")
async def word_report(request: ReportRequest) -> ReportResponse:
    """Count the words of a text in parts."""
    job = await report(request.text, request.parts, request.top)
    if job.error:
        logger.error("report failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return ReportResponse(**job.unwrap())
