"""The CPU worker: requests that come alone and are worked on together, and their routes."""

import logging
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveLoadBalancer, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

# Load-balanced: one worker takes many requests at once, so that they can meet in it.
cpu_config = CpuLiveLoadBalancer(
    name="04_02_batching_cpu",
    workersMin=0,
    workersMax=1,
    idleTimeout=300,
)


@remote(resource_config=cpu_config)
class Scorer:
    """A model with a price for each run and little for each item in it, as models on cards have."""

    def __init__(self, window_ms: int, largest: int) -> None:
        """Requests of one window go into one run, at most `largest` of them."""
        import asyncio

        self.window = window_ms / 1000
        self.largest = largest
        self.waiting: list[tuple[str, asyncio.Future[tuple[float, int]]]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.runs = 0
        self.items = 0

    async def score(self, text: str) -> dict[str, float]:
        """Score one text, together with those of others that come at the same time."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[float, int]] = loop.create_future()
        self.waiting.append((text, done))
        if len(self.waiting) >= self.largest:
            self._run()
        elif self.timer is None:
            self.timer = loop.call_later(self.window, self._run)
        score, batch = await done
        return {"score": score, "batch": batch}

    async def facts(self) -> dict[str, int]:
        """How many runs there were, and how many items in them."""
        return {"runs": self.runs, "items": self.items}

    def _run(self) -> None:
        import time

        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        batch, self.waiting = self.waiting, []
        time.sleep(0.02)  # what a run costs, however many items are in it
        self.runs += 1
        self.items += len(batch)
        for text, done in batch:
            if not done.done():  # its request was cancelled
                vowels = sum(letter in "aeiou" for letter in text.lower())
                done.set_result((round(vowels / max(1, len(text)), 3), len(batch)))


# A handle: equal arguments are the same instance, in the one worker.
scorer: Any = Scorer(window_ms=10, largest=32)


class ScoreRequest(BaseModel):
    """What a client sends."""

    text: str = Field(..., min_length=1, max_length=10_000)


class ScoreResponse(BaseModel):
    """What it gets."""

    score: float = Field(description="The share of vowels")
    batch: int = Field(description="How many requests went into the run that answered this one")


class FactsResponse(BaseModel):
    """What the worker has done so far."""

    runs: int
    items: int


@cpu_router.post("/score")
async def score(request: ScoreRequest) -> ScoreResponse:
    """Score one text."""
    return ScoreResponse(**await scorer.score(request.text))


@cpu_router.get("/facts")
async def facts() -> FactsResponse:
    """Say how many runs there were for how many requests."""
    return FactsResponse(**await scorer.facts())
