"""The routes of the CPU worker."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, UploadFile, status
from pydantic import BaseModel, Field
from runpod_flash import JobHandle, JobNotFound

from .endpoint import index_documents, search_sections

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in workers/cpu/.
cpu_router = APIRouter()


class UploadResponse(BaseModel):
    """What an upload gets, at once."""

    job_id: str


class IndexResponse(BaseModel):
    """What became of an upload."""

    status: str
    documents: int = Field(default=0, description="How many were indexed")
    sections: int = 0
    refused: dict[str, str] = Field(default_factory=dict, description="Those that could not be read, and why")


class Hit(BaseModel):
    """A section that has all words."""

    document: str
    heading: str
    snippet: str = Field(description="Where they are, with the words in brackets")
    score: float


class SearchResponse(BaseModel):
    """What was found, the best first."""

    hits: list[Hit]


@cpu_router.post("/documents", status_code=status.HTTP_202_ACCEPTED)
async def upload(files: list[UploadFile]) -> UploadResponse:
    """Take Markdown and text files for the index. They can be searched when the job has completed."""
    documents = [(file.filename or f"document {number}", await file.read()) for number, file in enumerate(files, 1)]
    if not any(content for _, content in documents):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Invalid input: all files are empty")
    handle = await index_documents.spawn(documents)
    return UploadResponse(job_id=handle.id)


@cpu_router.get("/documents/{job_id}")
async def progress(
    job_id: str, wait: Annotated[bool, Query(description="Answer when it has ended")] = False
) -> IndexResponse:
    """Show how far an upload is."""
    handle = JobHandle.from_id(job_id)
    try:
        state = str(await handle.status())
        if not wait and state in ("IN_QUEUE", "IN_PROGRESS"):
            return IndexResponse(status=state)
        job: Any = await handle
    except JobNotFound:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no job {job_id}") from None
    if job.error:
        logger.error("index_documents failed: %s", job.error, extra={"job_id": job.id})
        return IndexResponse(status=job.status)
    return IndexResponse(status=job.status, **job.unwrap())


@cpu_router.get("/search")
async def search(
    words: Annotated[str, Query(min_length=1, max_length=200)], limit: Annotated[int, Query(ge=1, le=50)] = 5
) -> SearchResponse:
    """Find the sections that have all words."""
    try:
        hits = await search_sections(words, limit)
    except ValueError as error:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {error}") from None
    return SearchResponse(hits=[Hit(**hit) for hit in hits])
