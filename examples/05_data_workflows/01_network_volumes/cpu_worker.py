"""The CPU worker: tables that stay on a volume when their workers are gone, and the routes that fill and ask them."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, NetworkVolume, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

# Made at the first call. Both functions see it at /tables, and nobody else does.
volume = NetworkVolume(name="example_tables", mount_path="/tables", size=1)

cpu_config = CpuLiveServerless(
    name="05_01_network_volumes_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
    networkVolumeId=volume.id,
)


@remote(resource_config=cpu_config)
async def store_csv(table: str, text: str) -> dict[str, Any]:
    """Store a CSV text with a heading as a table, in the place of an older one. ValueError if its rows are uneven."""
    import csv
    import io
    import os
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    def value(cell: str) -> float | str:
        """A number where it is one."""
        try:
            return float(cell)
        except ValueError:
            return cell

    heading, *rows = [row for row in csv.reader(io.StringIO(text)) if row]
    uneven = next((number for number, row in enumerate(rows, 2) if len(row) != len(heading)), None)
    if uneven:
        raise ValueError(f"line {uneven} has another number of cells than the heading")

    def quoted(name: str) -> str:
        """A name as SQL has it."""
        return '"' + name.strip().replace('"', '""') + '"'

    # The variable says where the volume is, also on machines that cannot mount it at /tables.
    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_TABLES"], "tables.db")
    with closing(sqlite3.connect(file, timeout=20)) as database, database:
        database.execute(f"DROP TABLE IF EXISTS {quoted(table)}")
        database.execute(f"CREATE TABLE {quoted(table)} ({', '.join(map(quoted, heading))})")
        places = ", ".join("?" * len(heading))
        database.executemany(
            f"INSERT INTO {quoted(table)} VALUES ({places})", [[value(cell) for cell in row] for row in rows]
        )
    return {"table": table, "rows": len(rows), "columns": heading}


@remote(resource_config=cpu_config, timeout=20)
async def run_query(sql: str) -> dict[str, Any]:
    """Ask the tables, which cannot be changed this way. ValueError for SQL that is none."""
    import os
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_TABLES"], "tables.db")
    if not file.exists():
        raise ValueError("there are no tables yet")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as database:
        try:
            found = database.execute(sql)
            return {"columns": [one[0] for one in found.description or ()], "rows": found.fetchmany(1000)}
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise ValueError(str(error)) from None


class TableRequest(BaseModel):
    """What a client sends."""

    table: str = Field(..., pattern=r"^[a-z][a-z0-9_]{0,40}$")
    csv: str = Field(..., min_length=1, max_length=5_000_000, description="With a heading")


class TableResponse(BaseModel):
    """What it gets."""

    table: str
    rows: int
    columns: list[str]


class QueryRequest(BaseModel):
    """A question."""

    sql: str = Field(..., min_length=1, max_length=10_000)


class QueryResponse(BaseModel):
    """Its answer: at most 1000 rows."""

    columns: list[str]
    rows: list[list[Any]]


@cpu_router.post("/tables")
async def store(request: TableRequest) -> TableResponse:
    """Store a table on the volume."""
    return TableResponse(**await _result(store_csv(request.table, request.csv)))


@cpu_router.post("/query")
async def query(request: QueryRequest) -> QueryResponse:
    """Ask the tables with SQL."""
    return QueryResponse(**await _result(run_query(request.sql)))


async def _result(call: Any) -> dict[str, Any]:
    job = await call
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("a call failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    result: dict[str, Any] = job.unwrap()
    return result
