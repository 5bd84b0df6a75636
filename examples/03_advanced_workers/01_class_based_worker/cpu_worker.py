"""The CPU worker: a language model that is trained once and stays in its worker, and its routes."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="03_01_class_based_worker_cpu",
    workersMin=0,
    workersMax=2,
    idleTimeout=300,
)

TEXT = Path(__file__).parent / "inputs" / "sonnets.txt"


@remote(resource_config=cpu_config)
class WordModel:
    """Which word follows which, learned from a text. The instance lives in its worker between calls."""

    def __init__(self, text: str, order: int) -> None:
        """Learn, once. Runs in the worker, within the first call."""
        import os
        import time
        from collections import Counter, defaultdict

        began = time.perf_counter()
        words = text.split()
        if len(words) <= order:
            raise ValueError(f"a model of order {order} needs more than {len(words)} words")
        self.order = order
        self.follows: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for at in range(len(words) - order):
            self.follows[tuple(words[at : at + order])][words[at + order]] += 1
        self.calls = 0
        self.process = os.getpid()
        self.training_ms = round((time.perf_counter() - began) * 1000, 1)

    async def complete(self, prompt: str, words: int, seed: int) -> dict[str, object]:
        """Go on where a prompt ends, each word chosen as often as the text has it there."""
        import random

        self.calls += 1
        chance = random.Random(seed)
        said = prompt.split()
        for _ in range(words):
            known = self.follows.get(tuple(said[-self.order :]))
            if not known:
                break
            said.append(chance.choices(list(known), weights=list(known.values()))[0])
        return {"text": " ".join(said), "calls": self.calls}

    async def facts(self) -> dict[str, object]:
        """What the instance is, and that it is still the same one."""
        return {
            "contexts": len(self.follows),
            "calls": self.calls,
            "process": self.process,
            "training_ms": self.training_ms,
        }


class CompleteRequest(BaseModel):
    """What a client sends."""

    prompt: str = Field(..., min_length=1, max_length=1000, examples=["Shall I compare"])
    words: int = Field(default=20, ge=1, le=500)
    order: int = Field(default=2, ge=1, le=4, description="How many words the next one depends on")
    seed: int = Field(default=1, description="The same seed gives the same words")


class CompleteResponse(BaseModel):
    """What it gets."""

    text: str
    calls: int = Field(description="Calls that this instance has had, this one included")


class FactsResponse(BaseModel):
    """What an instance says of itself."""

    contexts: int
    calls: int
    process: int = Field(description="The process that it lives in")
    training_ms: float


@cache
def model(order: int) -> Any:
    """The handle of one model. Equal arguments mean the same instance, in whichever program the handle is made."""
    return WordModel(TEXT.read_text(encoding="utf-8"), order)


@cpu_router.post("/complete")
async def complete(request: CompleteRequest) -> CompleteResponse:
    """Complete a sentence in Shakespeare's words."""
    job = await model(request.order).complete(request.prompt, request.words, request.seed)
    if job.error:
        logger.error("complete failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return CompleteResponse(**job.unwrap())


@cpu_router.get("/model/{order}")
async def facts(order: int) -> FactsResponse:
    """Say how large a model is, what its training took, and how many calls it has had."""
    if not 1 <= order <= 4:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Invalid input: the order is between 1 and 4")
    job = await model(order).facts()
    if job.error:
        logger.error("facts failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return FactsResponse(**job.unwrap())
