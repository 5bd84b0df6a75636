"""`flash ps`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from runpod_flash.cli import completing, views
from runpod_flash.cli.filters import refuse_unknown
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import VERY_WIDE, WIDE, Column, Row, json_option

OLD_MS = 86_400_000
"""An endpoint at rest for longer than a day is not shown unless somebody asks."""


def _capacity(row: Row) -> str:
    return f"{len(row.get('workers') or ())} of {row['workers_min']}-{row['workers_max']}"


def _up(row: Row) -> str:
    launched = row.get("launched_at_ms")
    return _since(launched) if launched else ""


def _since(at_ms: int) -> str:
    return views.duration(max(0, round(time.time() - at_ms / 1000)))


def _environment(pool: Row) -> str:
    state = pool.get("state") or ""
    return f"{_short(pool.get('environment') or '')} {'' if state == 'unknown' else state}".strip()


def _short(key: str) -> str:
    return key[: views.SHORT_ID] if views.on_terminal() else key


def _memory(worker: Row) -> str:
    """Of all its processes where the host has just measured it, else of the first one a moment ago."""
    kilobytes = worker.get("memory_kb") or worker.get("rss_kb")
    return views.size(kilobytes * 1024) if kilobytes else ""


def _cpu(worker: Row) -> str:
    return "" if worker.get("cpu_percent") is None else f"{worker['cpu_percent']}%"


def _cpu_time(worker: Row) -> str:
    return views.duration(worker["cpu_ms"] / 1000) if worker.get("cpu_ms") else ""


def _gpus(worker: Row) -> str:
    return ",".join(map(str, worker.get("gpus") or ()))


def _gpu_use(worker: Row) -> str:
    """`45% 12.9 GB` of each card, as far as its driver tells."""
    return ", ".join(filter(None, map(_card, worker.get("cards") or ())))


def _card(card: Row) -> str:
    told = [f"{card['percent']}%"] if card.get("percent") is not None else []
    if card.get("memory_used_mb") is not None:
        told.append(views.size(card["memory_used_mb"] * 2**20))
    return " ".join(told)


def _for(worker: Row) -> str:
    began = worker.get("job_since_at_ms")
    return _since(began) if began else ""


def _why(row: Row) -> str:
    """What its jobs wait for, and for how long they have."""
    waits = row.get("waits") or {}
    why = row.get("why") or ""
    if line := (waits.get("detail") or {}).get("line"):
        why = f"{why} ({line})"
    return f"{why}, for {_since(waits['since_at_ms'])} now" if why and waits.get("since_at_ms") else why


ENDPOINTS = (
    Column("ENDPOINT", lambda row: row["name"]),
    Column("APP", lambda row: row["app"], wide=WIDE),
    Column("ENV", lambda row: row["env"], wide=WIDE),
    Column("KIND", lambda row: row["kind"], wide=WIDE),
    Column("WORKERS", _capacity, right=True),
    Column("QUEUED", lambda row: str(row["queued"]), right=True),
    Column("DELAYED", lambda row: str(row.get("delayed") or 0), right=True),
    Column("RUNNING", lambda row: str(row["running"]), right=True),
    Column("WAITS FOR", _why, flexible=True, pipe_only=True),
)

POOLS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("POOL", lambda row: _short(row["pool"]), wide=VERY_WIDE),
    Column("ENVIRONMENT", lambda row: row["environment"], wide=VERY_WIDE),
    Column("WORKER", lambda row: row.get("worker") or ""),
    Column("STATE", lambda row: row.get("state") or ""),
    Column("PID", lambda row: str(row.get("pid") or ""), right=True, wide=WIDE),
    Column("CPU", _cpu, right=True),
    Column("MEMORY", _memory, right=True),
    Column(
        "CPU TIME", lambda row: views.duration(row["cpu_ms"] / 1000) if row.get("cpu_ms") else "", right=True, wide=WIDE
    ),
    Column("GPU", _gpus),
    Column("GPU USE", _gpu_use, wide=WIDE),
    Column("UP", _up, right=True, wide=WIDE),
    Column("JOB", lambda row: views.job_id(row.get("job"))),
    Column("FOR", _for, right=True),
    Column("FUNCTION", lambda row: row.get("fn") or "", flexible=True),
)


@click.command(
    cls=Page,
    codes={3: "there is no endpoint of that name"},
    see=("jobs", "logs --endpoint NAME", "engine status"),
    epilog=examples(
        "flash ps",
        "flash ps --endpoint train",
        "flash ps --json | jq '.[] | {name, queued, why: .waits.why}'",
        "watch flash ps",
    ),
)
@click.option(
    "--endpoint", metavar="NAME", help="Only this endpoint (name or id).", shell_complete=completing.names("endpoint")
)
@click.option("--all", "everything", is_flag=True, help="Also endpoints and pools that have been at rest for long.")
@json_option
def ps(endpoint: str | None, everything: bool, as_json: bool) -> None:
    """Show endpoints, their workers and what these use, and why something waits.

    CPU is the share of one processor that a worker and all its processes use right now; memory is shared out
    fairly among processes that share it. Endpoints without work or workers for a day are left out, and so are
    those that were taken away, and pools of older versions of the code.
    """
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        rows = list(engine.all("endpoints", {"measure": True}))
        if endpoint is not None:
            rows = [row for row in rows if endpoint in (row["name"], row["id"])]
            if not rows:
                refuse_unknown(engine, {"endpoint": endpoint})
    if as_json:
        views.show_json(rows)
        return
    shown = [row for row in rows if everything or endpoint or _is_of_interest(row)]
    if shown:
        _show(shown, everything)
    if not rows:
        views.note("no endpoints: none was called yet")
    elif hidden := len(rows) - len(shown):
        views.note(f"{views.count(hidden, 'endpoint')} at rest for more than a day, or taken away: flash ps --all")


def _is_of_interest(row: Row) -> bool:
    used = row.get("used_at_ms")
    if row.get("workers") or row["queued"] or row.get("delayed") or row.get("held"):
        return True
    return bool(row["workers_max"]) and not row.get("away") and (used is None or used > time.time() * 1000 - OLD_MS)


def _show(endpoints: Sequence[Row], everything: bool) -> None:
    views.show_table(ENDPOINTS, endpoints)
    if views.on_terminal():  # a sentence needs more room than a column has
        for row in endpoints:
            if why := _why(row):
                click.echo(f"\n{row['name']}: {views.clean(why)}")
    lines = [line for row in endpoints for line in _pools(row, everything)]
    if lines:
        click.echo()
        views.show_table(POOLS, lines)


def _pools(endpoint: Row, everything: bool) -> Iterator[dict[str, Any]]:
    """A line for each worker, and one for each pool that has none but has work, or an environment on its way."""
    workers: Sequence[Row] = endpoint.get("workers") or ()
    for pool in endpoint.get("pools") or ():
        what = {
            "endpoint": endpoint["name"],
            "pool": pool["key"],
            "environment": _environment(pool),
        }
        own = [worker for worker in workers if worker["pool"] in (pool["id"], pool["key"])]
        if own:
            yield from ({**worker, **what} for worker in own)
        elif everything or pool.get("queued") or pool.get("delayed") or pool.get("state") == "building":
            yield what
