"""The routes of the GPU worker."""

import logging

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field

from .endpoint import score_features

logger = logging.getLogger(__name__)

# The name gpu_router is what `flash run` looks for in workers/gpu/.
gpu_router = APIRouter()


class ScoreRequest(BaseModel):
    """What a client sends."""

    known: list[dict[str, int]] = Field(..., min_length=2, description="Features of texts whose label is known")
    labels: list[int] = Field(..., min_length=2, description="1 for each that is positive, 0 for the others")
    features: list[dict[str, int]] = Field(..., min_length=1, description="Features of texts to score")


class ScoreResponse(BaseModel):
    """What it gets."""

    scores: list[float] = Field(description="For each the probability that it is positive")


@gpu_router.post("/score")
async def score(request: ScoreRequest) -> ScoreResponse:
    """Train on what is known and score the rest, which is the second step of the pipeline."""
    job = await score_features(request.known, request.labels, request.features)
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("score_features failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return ScoreResponse(scores=job.unwrap())
