"""The CPU worker: a log is read in pieces by several workers, and its routes."""

import logging
from collections import Counter
from typing import Any

from fastapi import APIRouter, HTTPException, UploadFile, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="05_03_log_analysis_cpu",
    workersMin=0,
    workersMax=4,
    idleTimeout=300,
)

PIECE_BYTES = 64 * 1024
"""Large enough that a call is worth its while, small enough that all workers have something to do."""


@remote(resource_config=cpu_config)
async def read_piece(piece: bytes) -> dict[str, Any]:
    """Count requests, bytes and states in whole lines of a log in the common format, and lines that are none."""
    import re
    from collections import Counter

    line = re.compile(rb'(\S+) \S+ \S+ \[[^\]]+\] "(\w+) (\S+)[^"]*" (\d{3}) (\d+|-)')
    states: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    sent = unreadable = 0
    for text in piece.splitlines():
        found = line.match(text)
        if found is None:
            unreadable += bool(text.strip())
            continue
        states[found[4].decode()] += 1
        paths[found[3].decode("utf-8", "replace")] += 1
        sent += 0 if found[5] == b"-" else int(found[5])
    return {"states": dict(states), "paths": dict(paths), "bytes": sent, "unreadable": unreadable}


def pieces(log: bytes, size: int) -> list[bytes]:
    """The log in pieces of about `size` bytes that end where a line ends."""
    found: list[bytes] = []
    start = 0
    while start < len(log):
        end = log.find(b"\n", min(start + size, len(log)) - 1)
        end = len(log) if end < 0 else end + 1
        found.append(log[start:end])
        start = end
    return found


class LogResponse(BaseModel):
    """What a log says."""

    requests: int
    states: dict[str, int] = Field(description="How many answers had which status")
    bytes_sent: int
    busiest: list[tuple[str, int]] = Field(description="The five paths that were asked for most")
    unreadable: int = Field(description="Lines in another format")
    pieces: int
    failed_pieces: int = Field(description="Pieces that no worker could read; what is in them is missing above")


@cpu_router.post("/logs")
async def analyze_log(file: UploadFile) -> LogResponse:
    """Analyze an access log of a web server, in the common or combined format."""
    log = await file.read()
    if not log.strip():
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Invalid input: the log is empty")
    parts = pieces(log, PIECE_BYTES)
    states: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    sent = unreadable = failed = 0
    # Ordered results would wait for the slowest piece; sums do not care.
    async for job in read_piece.map(parts, ordered=False):
        if job.error:
            logger.error("a piece could not be read: %s", job.error, extra={"job_id": job.id})
            failed += 1
            continue
        found = job.unwrap()
        states.update(found["states"])
        paths.update(found["paths"])
        sent += found["bytes"]
        unreadable += found["unreadable"]
    return LogResponse(
        requests=states.total(),
        states=dict(sorted(states.items())),
        bytes_sent=sent,
        busiest=paths.most_common(5),
        unreadable=unreadable,
        pieces=len(parts),
        failed_pieces=failed,
    )
