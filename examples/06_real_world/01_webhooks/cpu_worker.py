"""The CPU worker: work that a signed webhook starts, and its routes."""

import hashlib
import hmac
import logging
import os
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request, status
from pydantic import BaseModel, Field, ValidationError
from runpod_flash import CpuLiveServerless, JobHandle, JobNotFound, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="06_01_webhooks_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config, max_retries=2, timeout=60)
async def review_push(repository: str, commits: list[dict[str, Any]]) -> dict[str, Any]:
    """Judge the messages of pushed commits by the rules of conventional commits."""
    import re
    from collections import Counter

    form = re.compile(r"(feat|fix|docs|test|perf|refactor|build|chore)(\([\w-]+\))?!?: \S")
    kinds: Counter[str] = Counter()
    remarks: list[str] = []
    for commit in commits:
        subject = commit["message"].partition("\n")[0]
        found = form.match(subject)
        kinds[found[1] if found else "other"] += 1
        if found is None:
            remarks.append(f"{commit['id'][:7]}: the subject has no type: {subject}")
        if len(subject) > 72:
            remarks.append(f"{commit['id'][:7]}: the subject has {len(subject)} characters, 72 are enough")
    return {"repository": repository, "kinds": dict(kinds), "remarks": remarks}


class Commit(BaseModel):
    """One commit of a push."""

    id: str = Field(..., min_length=7)
    message: str = Field(..., min_length=1)


class Push(BaseModel):
    """What a code host sends; the rest of its fields does not matter here."""

    repository: str
    commits: list[Commit]


class DeliveryResponse(BaseModel):
    """What the sender gets, at once."""

    job_id: str = Field(description="The same when a delivery comes again")


class ReviewResponse(BaseModel):
    """How far a delivery is."""

    status: str
    review: dict[str, Any] | None


@cpu_router.post("/hooks/push", status_code=status.HTTP_202_ACCEPTED)
async def receive(
    request: Request,
    x_delivery: Annotated[str, Header(min_length=1, max_length=100)],
    x_signature_256: Annotated[str, Header()],
) -> DeliveryResponse:
    """Take a delivery, start its work and answer at once: senders of webhooks wait for seconds, and send again."""
    body = await request.body()
    if not _signed(body, x_signature_256):
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "The signature does not fit the body")
    try:
        push = Push.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, error.errors(include_url=False)) from None
    commits = [commit.model_dump() for commit in push.commits]
    handle = await review_push.spawn(push.repository, commits, idempotency_key=x_delivery)
    return DeliveryResponse(job_id=handle.id)


@cpu_router.get("/reviews/{job_id}")
async def review(
    job_id: str, wait: Annotated[bool, Query(description="Answer when it has ended")] = False
) -> ReviewResponse:
    """Show what became of a delivery."""
    handle = JobHandle.from_id(job_id)
    try:
        state = str(await handle.status())
        if not wait and state in ("IN_QUEUE", "IN_PROGRESS"):
            return ReviewResponse(status=state, review=None)
        job = await handle
    except JobNotFound:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no job {job_id}") from None
    if job.error:
        logger.error("review_push failed: %s", job.error, extra={"job_id": job.id})
    return ReviewResponse(status=job.status, review=None if job.error else job.unwrap())


def _signed(body: bytes, signature: str) -> bool:
    """Whether the sender knows the secret. Without a secret, nobody does."""
    secret = os.getenv("WEBHOOK_SECRET", "")
    wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return bool(secret) and hmac.compare_digest(wanted.encode(), signature.encode())
