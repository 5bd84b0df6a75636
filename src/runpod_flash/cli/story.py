"""The page that `flash job` shows: who, what, where the time went, each attempt, and the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.views import Column, Row

PHASES = (
    ("queued", "queued"),
    ("environment", "environment"),
    ("worker_start", "worker start"),
    ("load", "load"),
    ("run", "run"),
)
"""Where a job's time can go, in the order in which it goes there: name in `timing`, words."""

ATTEMPTS = (
    Column("TRY", lambda row: str(row["n"]), right=True),
    Column("END", lambda row: row["end"]),
    Column("WORKER", lambda row: row.get("worker") or ""),
    Column("STARTED", lambda row: views.exactly(row.get("started_at_ms"))),
    Column("TOOK", views.took, right=True),
    Column("EXIT", lambda row: _words(row.get("exit"))),
    Column("ERROR", lambda row: row.get("error") or "", flexible=True),
)


def show(job: Row) -> None:
    """Prints the whole page."""
    views.show_facts({"job": job["job"], "function": job["fn"], "endpoint": _endpoint(job)})
    click.echo(f"{'status':<12} {_status(job)}")
    views.show_facts(
        {
            "progress": views.progress(job.get("progress")),
            "waits for": (job.get("why") or "").removeprefix("waiting for "),
            "created": _created(job),
            "worker": _worker(job),
            "called by": job.get("parent") or "",
            "policy": _policy(job.get("policy") or {}),
            "version": job.get("version") or "",
            "environment": _environment(job),
            "requires": ", ".join(job.get("requirements") or ()),
            "pool": job.get("pool") or "",
            "arguments": views.size(job.get("args_size")),
            "result": views.size(job.get("out_size")) if job["status"] == "COMPLETED" else "",
        }
    )
    _waterfall(job.get("timing") or {})
    if job.get("attempts_list"):
        views.heading("attempts")
        views.show_table(_attempt_columns(job["attempts_list"]), job["attempts_list"])
    _calls(job)
    _events(job)
    _error(job)


def _attempt_columns(attempts: Sequence[Row]) -> list[Column]:
    """Without the column that has nothing to tell, as for most jobs: how workers ended."""
    return [one for one in ATTEMPTS if one.title != "EXIT" or any(map(one.cell, attempts))]


def _status(job: Row) -> str:
    tries = views.count(job["attempts"], "attempt")
    trouble = [
        views.count(number, noun)
        for number, noun in ((job.get("failures") or 0, "failure"), (job.get("losses") or 0, "lost worker"))
        if number
    ]
    took = f" after {views.took(job)}" if job.get("ended_at_ms") and views.took(job) else ""
    return f"{views.status_word(job['status'])}{took} ({', '.join([tries, *trouble])})"


def _endpoint(job: Row) -> str:
    return f"{job['endpoint']} (app {job['app']}, environment {job['env']})"


def _worker(job: Row) -> str:
    worker, host = job.get("worker") or "", job.get("host") or ""
    return f"{worker} (host {host})" if worker and host else worker


def _environment(job: Row) -> str:
    """`8d0a11 (Python 3.11, 5 packages)`, as much of it as is known."""
    told = [f"Python {job['python']}"] if job.get("python") else []
    if job.get("packages") is not None:
        told.append(views.count(job["packages"], "package"))
    return f"{job.get('environment') or 'not built yet'} ({', '.join(told)})" if told else job.get("environment") or ""


def _created(job: Row) -> str:
    at = job["created_at_ms"]
    return f"{views.exactly(at)} ({views.ago(at)})" if views.on_terminal() else views.exactly(at)


def _policy(policy: Mapping[str, Any]) -> str:
    told = []
    if policy.get("timeout_ms"):
        told.append(f"timeout {views.duration(policy['timeout_ms'] / 1000)}")
    if policy.get("max_retries") is not None:
        retries = policy["max_retries"]
        told.append(f"{retries or 'no'} {'retry' if retries == 1 else 'retries'}")
    if policy.get("ttl_ms"):
        told.append(f"ttl {views.duration(policy['ttl_ms'] / 1000)}")
    if policy.get("priority"):
        told.append(f"priority {policy['priority']}")
    if policy.get("delay_ms"):
        told.append(f"first start delayed by {views.duration(policy['delay_ms'] / 1000)}")
    return ", ".join(told)


def _waterfall(timing: Mapping[str, int]) -> None:
    parts = [(words, timing.get(name) or 0) for name, words in PHASES]
    total = sum(spent for _, spent in parts)
    if not total:
        return
    views.heading(f"where the time went: {views.duration(total / 1e6)}")
    before = 0
    for words, spent in parts:
        length = views.duration(spent / 1e6) if spent else views.NOTHING
        click.echo(f"  {words:<12} {length:>8}  {views.bar(before, spent, total)}".rstrip())
        before += spent


def _calls(job: Row) -> None:
    """What it called, and what that called."""
    calls = job.get("calls") or []
    if calls:
        views.heading("calls")
    for call in calls:
        click.echo(f"{'  ' * call['depth']}{views.job_id(call['job'])}  {call['status']}  {views.clean(call['fn'])}")


def _events(job: Row) -> None:
    events = job.get("events") or []
    if not events:
        return
    views.heading("events")
    for event in events:
        after = max(0, event["at_ms"] - job["created_at_ms"]) / 1000
        line = f"{event['kind']}  {_words(event.get('data'))}"
        click.echo(f"  +{views.duration(after) if after else '0 s':<9} {views.clean(line)}".rstrip())


def _error(job: Row) -> None:
    info = job.get("error_info")
    if not info:
        return
    views.heading("error")
    trace = (info.get("traceback") or "").rstrip()
    text = f"{info['type']}: {info['message']}" if info.get("message") else info["type"]
    if info.get("kind", "user") != "user":
        click.echo(f"{text}\n(kind: {info['kind']})")
    elif not trace.endswith(text):
        click.echo(text)
    if trace:
        click.echo(trace)


def _words(data: Any) -> str:
    """Details in a few words: `worker=w-1, signal=9`."""
    if isinstance(data, Mapping):
        return ", ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", [], {}))
    return "" if data is None else str(data)
