"""The FastAPI app of 03 Mixed Workers, for local development: `flash run` serves it."""

import csv
import logging
import os
from pathlib import Path

from fastapi import FastAPI, HTTPException, status
from pydantic import BaseModel, Field

from workers.cpu import cpu_router
from workers.cpu.endpoint import prepare_reviews, summarize
from workers.gpu import gpu_router
from workers.gpu.endpoint import score_features

logging.basicConfig(level=os.getenv("LOG_LEVEL", "INFO"))
logger = logging.getLogger(__name__)

with Path(__file__).with_name("inputs").joinpath("reviews.csv").open(encoding="utf-8", newline="") as file:
    REVIEWS = [(int(row["label"]), row["text"]) for row in csv.DictReader(file)]

app = FastAPI(
    title="03 Mixed Workers",
    description="A pipeline over CPU and GPU workers: which reviews are positive.",
    version="0.1.0",
)
app.include_router(gpu_router, prefix="/gpu", tags=["GPU worker"])
app.include_router(cpu_router, prefix="/cpu", tags=["CPU worker"])


class ClassifyRequest(BaseModel):
    """What a client sends."""

    texts: list[str] = Field(..., min_length=1, max_length=1000, description="Reviews to judge, in English")


class ClassifyResponse(BaseModel):
    """What it gets."""

    labels: list[str] = Field(description="positive, negative or unsure, for each text")
    scores: list[float] = Field(description="The probability that it is positive")
    positive_share: float


@app.post("/classify", tags=["Pipeline"])
async def classify(request: ClassifyRequest) -> ClassifyResponse:
    """Say which reviews are positive: features on CPU workers, scores on GPU workers, words on CPU workers."""
    prepared = await prepare_reviews([text for _, text in REVIEWS] + request.texts)
    if prepared.error:
        raise _failure("prepare_reviews", prepared.error, prepared.id)
    features = prepared.unwrap()
    scored = await score_features(features[: len(REVIEWS)], [label for label, _ in REVIEWS], features[len(REVIEWS) :])
    if scored.error:
        raise _failure("score_features", scored.error, scored.id)
    summary = await summarize(scored.unwrap())
    if summary.error:
        raise _failure("summarize", summary.error, summary.id)
    return ClassifyResponse(scores=scored.unwrap(), **summary.unwrap())


def _failure(step: str, error: str, job: str) -> HTTPException:
    logger.error("%s failed: %s", step, error, extra={"job_id": job})
    return HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, f"{step} failed. Check server logs.")


@app.get("/")
async def home() -> dict[str, str]:
    """Say what this app is and where its documentation stands."""
    return {"name": "03 Mixed Workers", "docs": "/docs"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Answer without a worker, for health checks."""
    return {"status": "healthy"}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host=os.getenv("FLASH_HOST", "localhost"), port=int(os.getenv("FLASH_PORT", "8888")))
