"""`flash cost`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.filters import Moment, named, refuse_unknown
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import WIDE, Column, Row, json_option

CAVEATS = (
    "Workers are billed by the second from start to end: their lines are what you would pay, those of functions "
    "the part of it that calls took.",
    "Other time of workers: starting, idle, load-balanced calls, and calls that are on record no more.",
    "On record are workers of the last day, and calls as long as their results are kept (FLASH_RETENTION_AWAITED, "
    "FLASH_RETENTION_SPAWNED).",
    "Times are those of this machine; another is faster or slower. Cards are priced as they were asked for.",
)


def _seconds(key: str) -> Any:
    return lambda row: f"{row[key]:.3f}" if key in row else ""


def _dollars(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.6f}"


def _hardware(row: Row) -> str:
    if row["gpu"]:
        used = f" (used: {', '.join(row['cards'])})" if row["cards"] else ""
        return f"{row['gpus']} x {row['gpu']}{used}"
    return f"{row['vcpus']:g} vCPU"


COLUMNS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("WHAT", lambda row: row.get("fn", "").rpartition(":")[2] or f"workers ({row['workers']})"),
    Column("HARDWARE", _hardware, flexible=True),
    Column("CALLS", lambda row: str(row.get("calls", "")), right=True),
    Column("SECONDS", _seconds("seconds"), right=True),
    Column("CPU S", _seconds("cpu_seconds"), right=True),
    Column("GPU S", lambda row: f"{row['gpu_seconds']:.3f}" if row["gpu"] else "", right=True),
    Column("PEAK", lambda row: views.size(row["peak_kb"] * 1024) if row.get("peak_kb") else "", right=True, wide=WIDE),
    Column("USD", _dollars("usd"), right=True),
    Column("USD/1000", _dollars("usd_per_1000_calls"), right=True, wide=WIDE),
)


@click.command(
    cls=Page,
    codes={3: "there is no endpoint, function, app or environment of that name"},
    see=("ps", "jobs"),
    epilog=examples(
        "flash cost",
        "flash cost --since 1h --endpoint trainer",
        "flash cost --vcpu-price 0.00002",
        "flash cost --json | jq .totals.usd",
    ),
)
@click.option("--since", type=Moment(), metavar="TIME", help="Only what ended, or ran, after then: 1h, or a date.")
@click.option(
    "--vcpu-price",
    type=click.FloatRange(min=0, max=1000),
    metavar="USD",
    help="Price of a vCPU for a second, in place of the assumed one: the price table has none.",
)
@named("endpoint", "function", "app", "env")
@json_option
def cost(since: int | None, vcpu_price: float | None, as_json: bool, **names: str | None) -> None:
    """Show what functions and workers took, and what it would cost in the cloud.

    Running costs nothing here. The prices are those of Runpod's serverless workers, so that one can tell before
    moving there; the source and its date are printed. They have no price for workers without a card, so one is assumed
    and marked as that.
    """
    from runpod_flash.cli.connection import connect

    words = {"function": "fn"}
    wanted: dict[str, Any] = {words.get(name, name): value for name, value in names.items() if value is not None}
    with connect() as engine:
        rows, _ = engine.some("cost", {**wanted, **({"since_ms": since} if since is not None else {})}, 10_000)
        if not rows:
            refuse_unknown(engine, wanted)
    told = report(rows, since, vcpu_price)
    if as_json:
        views.show_json(told)
    else:
        _show(told)


def report(rows: Sequence[Row], since: int | None, vcpu_price: float | None) -> Row:
    """The facts with their prices, and totals."""
    from runpod_flash.model.hardware import PRICE_DATE, PRICE_SOURCE, VCPU_PRICE, VCPU_PRICE_SOURCE

    source = VCPU_PRICE_SOURCE if vcpu_price is None else "as you said"
    vcpu_price = VCPU_PRICE if vcpu_price is None else vcpu_price
    functions = [_function(row, vcpu_price) for row in rows if row["what"] == "function"]
    workers = [{**_priced(row, vcpu_price), "workers": row["workers"]} for row in rows if row["what"] == "workers"]
    first = [row["first_at_ms"] for row in rows if row["first_at_ms"]]
    return {
        "since_at_ms": since or min(first, default=None),
        "price_source": PRICE_SOURCE,
        "price_date": PRICE_DATE,
        "vcpu_price": vcpu_price,
        "vcpu_price_source": source,
        "functions": functions,
        "workers": workers,
        "totals": _totals(functions, workers),
        "caveats": list(CAVEATS),
    }


def _function(row: Row, vcpu_price: float) -> Row:
    priced = _priced(row, vcpu_price)
    per_call = priced["usd"] / row["calls"] if priced["usd"] is not None and row["calls"] else None
    return {
        "fn": row["fn"],
        **priced,
        "calls": row["calls"],
        "attempts": row["attempts"],
        "cpu_seconds": round(row["cpu_ms"] / 1000, 6),
        "peak_kb": row["peak_kb"],
        "usd_per_1000_calls": None if per_call is None else round(per_call * 1000, 9),
    }


def _priced(row: Row, vcpu_price: float) -> Row:
    seconds = row["run_ms"] / 1000
    price = _price(row, vcpu_price)
    return {
        "endpoint": row["endpoint"],
        "app": row["app"],
        "env": row["env"],
        "gpu": row["gpu"],
        "gpus": row["gpus"],
        "cards": row["cards"],
        "vcpus": row["vcpus"],
        "seconds": round(seconds, 6),
        "gpu_seconds": round(seconds * row["gpus"], 6),
        "vcpu_seconds": round(seconds * row["vcpus"], 6),
        "memory_gb_seconds": None if row["memory_mb"] is None else round(seconds * row["memory_mb"] / 1024, 6),
        "usd_per_second": price,
        "usd": None if price is None else round(seconds * price, 9),
    }


def _price(row: Row, vcpu_price: float) -> float | None:
    """US dollars a second for one worker of this kind; None where nobody has said."""
    from runpod_flash.model.hardware import GpuGroup, GpuType

    if not row["gpu"]:
        return vcpu_price * float(row["vcpus"])
    for name in (row["gpu"], *row["cards"]):
        kind = GpuGroup.__members__.get(name) or next((one for one in GpuType if one.value == name), None)
        if kind is not None and kind.price_per_second is not None:
            return float(kind.price_per_second) * int(row["gpus"])
    return None


def _totals(functions: Iterable[Row], workers: Iterable[Row]) -> Row:
    functions, workers = list(functions), list(workers)
    used, lived = (round(sum(row["seconds"] for row in rows), 6) for rows in (functions, workers))
    prices = [row["usd"] for row in workers if row["usd"] is not None]
    return {
        "calls": sum(row["calls"] for row in functions),
        "function_seconds": used,
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in functions), 6),
        "worker_seconds": lived,
        "gpu_seconds": round(sum(row["gpu_seconds"] for row in workers), 6),
        "other_seconds": round(max(0.0, lived - used), 6),
        "usd": round(sum(prices), 9) if prices else None,
        "unpriced_seconds": round(sum(row["seconds"] for row in workers if row["usd"] is None), 6),
    }


def _show(told: Row) -> None:
    if not told["functions"] and not told["workers"]:
        views.note("nothing is on record: no function was called lately")
        return
    views.show_table(COLUMNS, [*told["functions"], *told["workers"]])
    totals = told["totals"]
    click.echo()
    price = "no price" if totals["usd"] is None else f"${totals['usd']:.6f}"
    if totals["usd"] is not None and totals["unpriced_seconds"]:
        price += f", without {totals['unpriced_seconds']:.3f} s that have no price"
    facts = {
        "calls": f"{totals['calls']}, {totals['function_seconds']:.3f} s",
        "workers": f"{totals['worker_seconds']:.3f} s, of which other time {totals['other_seconds']:.3f} s",
        "would cost": price,
        "since": views.when(told["since_at_ms"]),
        "prices": f"{told['price_source']}, {told['price_date']}",
    }
    if any(not row["gpu"] for row in told["workers"]):
        facts["vCPU"] = f"${told['vcpu_price']:.3g} a second, {told['vcpu_price_source']}"
    views.show_facts(facts)
    for caveat in told["caveats"]:
        views.note(caveat)
