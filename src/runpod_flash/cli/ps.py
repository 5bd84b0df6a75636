"""`flash ps`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.views import Column, Row, examples, json_option


def _capacity(row: Row) -> str:
    return f"{len(row.get('workers') or ())} of {row['workers_min']}-{row['workers_max']}"


def _up(row: Row) -> str:
    launched = row.get("launched_at_ms")
    return views.duration(max(0, round(time.time() - launched / 1000))) if launched else ""


def _environment(pool: Row) -> str:
    state = pool.get("state") or ""
    return f"{_short(pool.get('environment') or '')} {'' if state == 'unknown' else state}".strip()


def _short(key: str) -> str:
    return key[: views.SHORT_ID] if views.on_terminal() else key


ENDPOINTS = (
    Column("ENDPOINT", lambda row: row["name"]),
    Column("APP", lambda row: row["app"]),
    Column("ENV", lambda row: row["env"]),
    Column("KIND", lambda row: row["kind"]),
    Column("WORKERS", _capacity, right=True),
    Column("QUEUED", lambda row: str(row["queued"]), right=True),
    Column("RUNNING", lambda row: str(row["running"]), right=True),
    Column("WAITS FOR", lambda row: row.get("why") or "", flexible=True),
)

POOLS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("POOL", lambda row: _short(row["pool"])),
    Column("ENVIRONMENT", lambda row: row["environment"]),
    Column("WORKER", lambda row: row.get("worker") or ""),
    Column("STATE", lambda row: row.get("state") or ""),
    Column("PID", lambda row: str(row.get("pid") or ""), right=True),
    Column("MEMORY", lambda row: views.size(row["rss_kb"] * 1024) if row.get("rss_kb") else "", right=True),
    Column("CPU", lambda row: views.duration(row["cpu_ms"] / 1000) if row.get("cpu_ms") else "", right=True),
    Column("GPU", lambda row: ",".join(str(gpu) for gpu in row.get("gpus") or ())),
    Column("UP", _up, right=True),
    Column("JOB", lambda row: views.job_id(row.get("job"))),
    Column("FUNCTION", lambda row: row.get("fn") or "", flexible=True),
)


@click.command(
    epilog=examples(
        "flash ps",
        "flash ps --endpoint train",
        "flash ps --json | jq '.[] | {name, queued, why}'",
        "watch flash ps",
    )
)
@click.option("--endpoint", metavar="NAME", help="Only this endpoint (name or id).")
@json_option
def ps(endpoint: str | None, as_json: bool) -> None:
    """Show endpoints, their pools and workers, and why something waits."""
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        rows = list(engine.all("endpoints"))
    if endpoint is not None:
        rows = [row for row in rows if endpoint in (row["name"], row["id"])]
    if as_json:
        views.show_json(rows)
        return
    if not rows:
        views.note("no such endpoint" if endpoint else "no endpoints: none was called yet")
        return
    views.show_table(ENDPOINTS, rows)
    lines = [line for row in rows for line in _pools(row)]
    if lines:
        click.echo()
        views.show_table(POOLS, lines)


def _pools(endpoint: Row) -> Iterator[dict[str, Any]]:
    """A line for each worker, and one for each pool that has none."""
    workers: Sequence[Row] = endpoint.get("workers") or ()
    for pool in endpoint.get("pools") or ():
        what = {
            "endpoint": endpoint["name"],
            "pool": pool["key"],
            "environment": _environment(pool),
        }
        own = [worker for worker in workers if worker["pool"] in (pool["id"], pool["key"])]
        yield from ({**worker, **what} for worker in own) if own else (what,)
