"""The routes of the CPU worker."""

import logging

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field

from .endpoint import prepare_reviews

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in workers/cpu/.
cpu_router = APIRouter()


class PrepareRequest(BaseModel):
    """What a client sends."""

    texts: list[str] = Field(..., min_length=1, max_length=1000, description="Reviews, in English")


class PrepareResponse(BaseModel):
    """What it gets."""

    features: list[dict[str, int]] = Field(description="For each text its words and how often they occur")


@cpu_router.post("/prepare")
async def prepare(request: PrepareRequest) -> PrepareResponse:
    """Turn texts into features, which is the first step of the pipeline."""
    job = await prepare_reviews(request.texts)
    if job.error:
        logger.error("prepare_reviews failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return PrepareResponse(features=job.unwrap())
