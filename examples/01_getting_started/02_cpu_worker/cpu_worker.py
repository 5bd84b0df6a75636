"""The CPU worker: how hard a text is to read, and the routes that say so."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="01_02_cpu_worker_cpu",
    cpuCount=1,
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config)
async def analyze_text(text: str) -> dict[str, Any]:
    """Count words, sentences and syllables of an English text; Flesch reading ease. ValueError if it has no words."""
    import re
    from collections import Counter

    def syllables(word: str) -> int:
        """Groups of vowels; a silent e at the end does not count."""
        groups = len(re.findall(r"[aeiouy]+", word))
        silent = word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1
        return max(1, groups - silent)

    words = re.findall(r"[a-z]+(?:['’][a-z]+)?", text.lower())
    if not words:
        raise ValueError("the text has no words")

    sentences = max(1, len(re.findall(r"[.!?]+(?:\s|$)", text)))
    per_sentence = len(words) / sentences
    per_word = sum(map(syllables, words)) / len(words)
    return {
        "words": len(words),
        "sentences": sentences,
        "distinct_words": len(set(words)),
        "reading_ease": round(206.835 - 1.015 * per_sentence - 84.6 * per_word, 1),
        "frequent": Counter(word for word in words if len(word) > 4).most_common(3),
    }


class AnalyzeRequest(BaseModel):
    """What a client sends."""

    text: str = Field(..., min_length=1, max_length=100_000, description="English text")


class AnalyzeResponse(BaseModel):
    """What it gets."""

    words: int
    sentences: int
    distinct_words: int
    reading_ease: float = Field(description="Flesch: 100 is very easy, below 30 is hard")
    frequent: list[tuple[str, int]] = Field(description="The most frequent words of more than four letters")


@cpu_router.post("/analyze")
async def analyze(request: AnalyzeRequest) -> AnalyzeResponse:
    """Say how hard a text is to read."""
    job = await analyze_text(request.text)
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("analyze_text failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return AnalyzeResponse(**job.unwrap())
