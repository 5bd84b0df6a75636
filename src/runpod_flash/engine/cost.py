"""What workers and functions took, from what is on record: rows for `flash cost`. Prices are for whoever shows them.

Nothing is counted while calls run: the worker tells with each result how long it took, and workers have a row each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from runpod_flash.engine.listing import functions_named
from runpod_flash.engine.store.base import Store
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec
from runpod_flash.wire.messages import Machine

Row = dict[str, Any]

_TOLD: Final = """
    SELECT fn, count(*) AS calls, sum(state = 4) AS completed, total(CASE state WHEN 4 THEN run_us END) AS us,
        total(coalesce(cpu_us, run_us)) AS cpu_us, max(peak_kb) AS peak_kb, min(ended_ms) AS first_ms
    FROM (SELECT fn, state, ended_ms, json_extract(head, '$.run_us') AS run_us,
                 json_extract(head, '$.cpu_us') AS cpu_us, json_extract(head, '$.peak_kb') AS peak_kb
          FROM (SELECT fn, state, ended_ms, CAST(out_head AS TEXT) AS head
                FROM jobs WHERE state >= 4 AND ended_ms >= ?))
    GROUP BY fn"""
"""Calls that have ended. The time of an attempt that failed is in a row of its own."""
_FAILED: Final = """
    SELECT fn, count(*) AS attempts, total(max(0, a.ended_ms - coalesce(a.started_ms, a.assigned_ms, a.ended_ms))) AS ms
    FROM attempts a JOIN jobs j ON j.id = a.job WHERE a.ended_ms >= ? GROUP BY fn"""
_WORKERS: Final = """
    SELECT w.pool_id, w.gpus, max(w.launched_ms, ?1) AS from_ms, coalesce(w.ended_ms, ?2) AS to_ms, h.machine
    FROM workers w LEFT JOIN hosts h ON h.id = w.host WHERE coalesce(w.ended_ms, ?2) > ?1"""
_POOLS: Final = "SELECT p.id, p.spec, e.spec AS endpoint FROM pools p JOIN endpoints e ON e.id = p.endpoint_id"
_FUNCTIONS: Final = "SELECT id, pool_id, name FROM functions"

_pool = msgspec.json.Decoder(PoolSpec).decode
_endpoint = msgspec.json.Decoder(EndpointSpec).decode
_machine = msgspec.json.Decoder(Machine).decode


def read_cost(store: Store, names: Mapping[str, str], since_ms: int, now_ms: int) -> list[Row]:
    """One row for each function and share of the machine, and one for the workers of each endpoint and share.

    Runs in the reading thread.
    """
    pools = {row["id"]: _share(row) for row in store.read(_POOLS)}
    chosen = functions_named(store, names)
    functions = [row for row in store.read(_FUNCTIONS) if chosen is None or row["id"] in chosen]
    wanted = {row["pool_id"] for row in functions} if chosen is not None else set(pools)
    told = _merged(_of_functions(store, functions, pools, since_ms), ("calls", "attempts", "run_ms", "cpu_ms"))
    return [*told, *_merged(_of_workers(store, wanted, pools, since_ms, now_ms), ("workers", "run_ms"))]


def _share(row: Row) -> Row:
    """Whose workers those of a pool are, and what each has of the machine."""
    spec, endpoint = _pool(row["spec"]), _endpoint(row["endpoint"])
    gpu = spec.gpus[0] if spec.gpus else None
    return {
        "endpoint": endpoint.name,
        "app": endpoint.app,
        "env": endpoint.env,
        "gpu": gpu.name if gpu else "",
        "gpus": gpu.count if gpu else 0,
        "vcpus": spec.cpus,
        "memory_mb": spec.memory_mb,
    }


def _of_functions(store: Store, functions: list[Row], pools: Mapping[int, Row], since_ms: int) -> Iterator[Row]:
    told = {row["fn"]: row for row in store.read(_TOLD, (since_ms,))}
    failed = {row["fn"]: row for row in store.read(_FAILED, (since_ms,))}
    for function in functions:
        ended, tried = told.get(function["id"]), failed.get(function["id"])
        if not ended and not tried:
            continue
        ended = ended or {"calls": 0, "completed": 0, "us": 0, "cpu_us": 0, "peak_kb": None, "first_ms": None}
        tried = tried or {"attempts": 0, "ms": 0}
        yield {
            "what": "function",
            "fn": function["name"],
            **pools[function["pool_id"]],
            "cards": [],
            "calls": ended["calls"],
            "attempts": ended["completed"] + tried["attempts"],
            "run_ms": ended["us"] / 1000 + tried["ms"],
            "cpu_ms": ended["cpu_us"] / 1000,
            "peak_kb": ended["peak_kb"] or 0,
            "first_at_ms": ended["first_ms"],
        }


def _of_workers(store: Store, wanted: set[int], pools: Mapping[int, Row], since_ms: int, now_ms: int) -> Iterator[Row]:
    for row in store.read(_WORKERS, (since_ms, now_ms)):
        if row["pool_id"] in wanted and row["pool_id"] in pools:
            yield {
                "what": "workers",
                **pools[row["pool_id"]],
                "cards": _cards(row),
                "workers": 1,
                "run_ms": row["to_ms"] - row["from_ms"],
                "first_at_ms": row["from_ms"],
            }


def _cards(row: Row) -> list[str]:
    """The names of the cards that a worker had."""
    held = msgspec.json.decode(row["gpus"])
    known = {index: name for index, name, _memory in _machine(row["machine"]).gpus} if held and row["machine"] else {}
    return sorted({known[index] for index in held if index in known})


def _merged(rows: Iterator[Row], counted: tuple[str, ...]) -> list[Row]:
    """Rows of the same thing as one."""
    merged: dict[Any, Row] = {}
    keys = ("fn", "endpoint", "app", "env", "gpu", "gpus", "vcpus", "memory_mb")
    for row in rows:
        known = merged.setdefault((*(row.get(key) for key in keys), *row["cards"]), row)
        if known is row:
            continue
        for name in counted:
            known[name] += row[name]
        known["first_at_ms"] = min(one["first_at_ms"] or 0 for one in (known, row)) or None
        if "peak_kb" in row:
            known["peak_kb"] = max(known["peak_kb"], row["peak_kb"])
    return list(merged.values())
