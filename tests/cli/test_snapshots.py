"""How every verb looks to somebody who sees it for the first time: on terminals of two widths, in a pipe, and its help.

The files in snapshots/ are to be read when they change. `UPDATE_SNAPSHOTS=1 pytest tests/cli/test_snapshots.py` writes
them anew. Times are put to one moment; all else is as it was printed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from runpod_flash.cli.verbs import flash as root
from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import (
    JOB,
    OTHER,
    StandIn,
    endpoint_row,
    job_page,
    job_row,
    pool_row,
    rows,
    status_row,
    worker_row,
)

FOLDER = Path(__file__).with_name("snapshots")
NOW = round(time.time() * 1000)
HOUR = 3_600_000
AGO = NOW - 76 * HOUR - HOUR // 2
"""Three days and four hours: far enough from the next hour that no run of these tests gets there."""


def same(name: str, seen: str) -> None:
    """Holds a snapshot and what was seen equal."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen, encoding="utf-8")
    assert seen == path.read_text(encoding="utf-8")


def settled(text: str, home: Path) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "2026-11-20T10:00:00.000Z", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-20 10:00:00", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\.\d{3}\b", "10:00:00.000", text)
    text = text.replace(str(home), "/home/me/.local/share/flash").replace(f"pid {os.getpid()}", "pid 4711")
    return "\n".join(line.rstrip() for line in text.replace(f"engine {os.getpid()}", "engine 4711").splitlines()) + "\n"


def purged(dry: bool) -> dict[str, Any]:
    return {"jobs": 12, "by_status": {"IN_QUEUE": 12}, "by_function": {"demo.py:train": 12}, "dry_run": dry}


def ended(**changes: Any) -> dict[str, Any]:
    return job_row(created_at_ms=AGO, started_at_ms=AGO + 500, ended_at_ms=AGO + 2500, **changes)


FAILED = "ValueError: the learning rate must be positive, not -0.1"
TRACEBACK = f'Traceback (most recent call last):\n  File "demo.py", line 12, in train\n{FAILED}\n'
LINES = [
    {"job": JOB, "at_ms": AGO, "attempt": 1, "fd": 1, "worker": "w-1", "line": "epoch 1: loss 0.31"},
    {"job": OTHER, "at_ms": AGO + 1, "attempt": 1, "fd": 2, "worker": "w-2", "line": "warning: no GPU"},
    {"job": "", "at_ms": AGO + 2, "attempt": 0, "fd": 1, "worker": "w-1", "line": "between two calls"},
]
WAITS = {
    "code": "gpu", "why": "waiting for a GPU: GPU 0 is in use by trainer", "since_at_ms": AGO, "until_at_ms": None,
    "detail": {"leases": [{"gpu": 0, "worker": "w-1", "endpoint": "trainer"}]},
}  # fmt: skip
PS = [
    endpoint_row(
        why="", waits=None, queued=0, held=True, pools=[pool_row()],
        workers=[worker_row(job_since_at_ms=AGO, launched_at_ms=AGO),
                 worker_row(worker="w-2", state="idle", pid=4712, job="", fn="", job_since_at_ms=None,
                            launched_at_ms=AGO, gpus=[], cards=[], cpu_percent=0, cpu_ms=90)],
    ),
    endpoint_row(name="inferer", why=WAITS["why"], waits=WAITS, queued=2, delayed=1, running=0, workers=[], held=True,
                 pools=[pool_row(id=9, key="99cc", queued=2, delayed=1)]),
    endpoint_row(name="old", used_at_ms=1_700_000_000_000, why="", waits=None, queued=0, running=0, workers=[]),
]  # fmt: skip
ENVIRONMENTS = [
    {"id": "8d0a11", "requirements": ["numpy>=2", "torch"], "lock": [], "python": "3.11", "size": 4_100_000_000,
     "created_at_ms": AGO, "used_at_ms": AGO, "state": "ready", "kind": "python", "prefix": ""},
]  # fmt: skip
PAGE = job_page(
    status="FAILED", attempts=2, failures=2, out_size=0, created_at_ms=AGO, started_at_ms=AGO + 500,
    ended_at_ms=AGO + 2500, error=FAILED,
    attempts_list=[
        {"n": n, "epoch": n, "worker": f"w-{n}", "assigned_at_ms": AGO, "started_at_ms": AGO + 500 * n,
         "ended_at_ms": AGO + 1200 * n, "end": "failed", "error": FAILED, "exit": ""} for n in (1, 2)
    ],
    events=[{"at_ms": AGO + 1200, "kind": "again", "data": {"attempt": 1, "why": "retry 1 of 1"}}],
    error_info={"type": "ValueError", "message": FAILED[12:], "kind": "user", "traceback": TRACEBACK},
)  # fmt: skip
WAITING = job_page(
    status="IN_QUEUE", attempts=0, worker="", host="", started_at_ms=None, ended_at_ms=None, timing={}, out_size=0,
    created_at_ms=AGO, why=WAITS["why"], waits=WAITS, environment="", packages=None,
)  # fmt: skip

Answers = dict[Any, Callable[[Any], Any]]
SCENES: dict[str, tuple[str, Answers]] = {
    "ps": ("ps", {"endpoints": rows(*PS)}),
    "ps-all": ("ps --all", {"endpoints": rows(*PS)}),
    "jobs": ("jobs", {"jobs": rows(
        ended(), ended(job=OTHER, status="FAILED", attempts=2, error=FAILED),
        job_row(status="IN_QUEUE", attempts=0, created_at_ms=AGO, started_at_ms=None, ended_at_ms=None, worker=""),
    )}),
    "jobs-none": ("jobs --failed --since 1h", {"jobs": rows()}),
    "jobs-unknown-name": ("jobs --endpoint trianer", {"jobs": rows()}),
    "job": ("job 0001", {"job": rows(PAGE)}),
    "job-waiting": ("job 0001", {"job": rows(WAITING)}),
    "logs": ("logs 0001 -t", {"logs": rows(*LINES[:1])}),
    "logs-endpoint": ("logs --endpoint trainer --since 7d", {"logs": rows(*LINES)}),
    "cancel": ("cancel 0001 beef", {messages.Cancel: lambda _: [messages.Ok()]}),
    "retry": ("retry 0001", {messages.Retry: lambda one: [messages.Accepted(job=one.job)]}),
    "purge": (
        "purge --endpoint trainer --yes",
        {messages.Admin: lambda one: [messages.Ok(data=purged(bool(one.args.get("dry"))))]},
    ),
    "purge-dry": ("purge --endpoint trainer --dry-run", {messages.Admin: lambda _: [messages.Ok(data=purged(True))]}),
    "purge-unasked": ("purge --endpoint trainer", {messages.Admin: lambda _: [messages.Ok(data=purged(True))]}),
    "deps-ls": ("deps ls", {"deps": rows(*ENVIRONMENTS)}),
    "deps-prune": (
        "deps prune", {messages.Admin: lambda _: [messages.Ok(data={"removed": ["8d0a11"], "bytes": 4_100_000_000})]}
    ),
    "engine-status": ("engine status", {"status": rows(status_row(pid=4711))}),
    "engine-start": ("engine start", {"status": rows(status_row(pid=4711))}),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
def test_what_a_verb_shows(flash: Flash, engine: StandIn, name: str) -> None:
    line, answers = SCENES[name]
    engine.answers.update(answers)
    told = [f"$ flash {line}   # in a pipe\n"]
    code, out, err = flash(*line.split())
    told += [out, *(["--- stderr\n", err] if err else []), f"--- exit code {code}\n"]
    if name != "purge-unasked":  # a terminal can be asked
        for width in (80, 120):
            told += [
                f"\n$ flash {line}   # on a terminal of {width} columns\n",
                flash.on_terminal(*line.split(), NO_COLOR="1", COLUMNS=str(width)),
            ]
    same(name, settled("".join(told), flash.home))


def pages(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        found += pages(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("verb", pages(root), ids=lambda verb: " ".join(verb) or "flash")
def test_how_a_verb_explains_itself(verb: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(root, [*verb, "--help"], prog_name="flash", terminal_width=80)
    same("-".join(["help", *verb]), ended.output)
