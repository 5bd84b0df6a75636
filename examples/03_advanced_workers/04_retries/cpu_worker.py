"""The CPU worker: payments that are made once although calls fail and orders come twice, and their routes."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, NetworkVolume, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

# The ledger outlives attempts and workers.
ledger = NetworkVolume(name="example_retries_ledger", mount_path="/ledger", size=1)

cpu_config = CpuLiveServerless(
    name="03_04_retries_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
    networkVolumeId=ledger.id,
)


@remote(resource_config=cpu_config, max_retries=3, timeout=30)
async def pay(order_id: str, cents: int, outages: int) -> dict[str, Any]:
    """Book one payment. The first `outages` attempts fail as a payment service does that is down.

    At least once is what a queue promises, so a second run must not book again: the order's id is the key of its row.
    """
    import os
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_RETRIES_LEDGER"], "payments.db")
    with closing(sqlite3.connect(file, timeout=20)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS attempts (order_id TEXT)")
        database.execute("CREATE TABLE IF NOT EXISTS payments (order_id TEXT PRIMARY KEY, cents INTEGER)")
        database.execute("INSERT INTO attempts VALUES (?)", (order_id,))
        (attempts,) = database.execute("SELECT count(*) FROM attempts WHERE order_id = ?", (order_id,)).fetchone()
    if attempts <= outages:
        raise ConnectionError(f"the payment service is down (attempt {attempts})")
    with closing(sqlite3.connect(file, timeout=20)) as database, database:
        booked = database.execute("INSERT OR IGNORE INTO payments VALUES (?, ?)", (order_id, cents)).rowcount
    return {"attempts": attempts, "booked": bool(booked)}


@remote(resource_config=cpu_config)
async def payments_of(order_id: str) -> list[int]:
    """The amounts that were booked for one order."""
    import os
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_RETRIES_LEDGER"], "payments.db")
    if not file.exists():
        return []
    with closing(sqlite3.connect(file, timeout=20)) as database:
        rows = database.execute("SELECT cents FROM payments WHERE order_id = ?", (order_id,)).fetchall()
    return [cents for (cents,) in rows]


class PaymentRequest(BaseModel):
    """What a client sends."""

    order_id: str = Field(..., min_length=1, max_length=100, pattern=r"^[\w-]+$")
    cents: int = Field(..., gt=0)
    outages: int = Field(default=0, ge=0, le=5, description="How many attempts shall fail, to see what happens")


class PaymentResponse(BaseModel):
    """What it gets."""

    order_id: str
    job_id: str = Field(description="The same for an order that comes again")
    attempts: int = Field(description="How many attempts it took")


class OrderResponse(BaseModel):
    """What is booked for an order."""

    order_id: str
    payments: list[int]


@cpu_router.post("/payments")
async def make_payment(request: PaymentRequest) -> PaymentResponse:
    """Pay an order once, however often it is sent."""
    # The key makes the second request find the first one's job, also while that is under way.
    handle = await pay.spawn(request.order_id, request.cents, request.outages, idempotency_key=request.order_id)
    job = await handle
    if job.error:
        logger.error("pay failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_502_BAD_GATEWAY, "The payment service is down. Nothing was booked.")
    return PaymentResponse(order_id=request.order_id, job_id=job.id, attempts=job.unwrap()["attempts"])


@cpu_router.get("/orders/{order_id}")
async def order(order_id: str) -> OrderResponse:
    """Show what was booked for an order."""
    job = await payments_of(order_id)
    if job.error:
        logger.error("payments_of failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return OrderResponse(order_id=order_id, payments=job.unwrap())
