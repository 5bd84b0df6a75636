"""An engine that knows a few facts: it speaks the real frames over a real socket, and keeps nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from runpod_flash.wire import kinds, messages, rundir
from runpod_flash.wire.frame import FrameReader


class Then(Enum):
    """What follows the last head of an answer, if not the end of its stream."""

    HANG_UP = 1
    SAY_NO_MORE = 2


Answer = Callable[[Any], Iterable[messages.Head | Then]]
"""What to say to a request: some heads, the last of which ends the stream."""

JOB = "01939d1e-aaaa-7bbb-8ccc-ddddeeee0001"
OTHER = "01939d1e-aaaa-7bbb-8ccc-ddddeeee0002"


NAMES = {
    "endpoint": ["trainer", "other"],
    "endpoint_id": ["epabc", "epdef"],
    "app": ["digits"],
    "env": ["dev"],
    "fn": ["demo.py:train"],
}
"""What is declared."""


def job_row(**changes: Any) -> dict[str, Any]:
    """A job that completed, as a listing has it."""
    return {
        "job": JOB, "fn": "demo.py:train", "endpoint": "trainer", "app": "digits", "env": "dev",
        "status": "COMPLETED", "attempts": 1, "worker": "w-1", "created_at_ms": 1_700_000_000_000,
        "started_at_ms": 1_700_000_000_500, "ended_at_ms": 1_700_000_002_500, "error": "", **changes,
    }  # fmt: skip


def job_page(**changes: Any) -> dict[str, Any]:
    """The same job with all that is known about it."""
    return {
        **job_row(), "version": "3fa9c1d2", "pool": "77aa", "environment": "8d0a11", "python": "3.11",
        "packages": 5, "requirements": ["numpy>=2"], "host": "h1", "waits": None,
        "policy": {"timeout_ms": 3_600_000, "max_retries": 1, "ttl_ms": None, "priority": 0, "delay_ms": 0},
        "failures": 0, "losses": 0, "args_size": 1234, "out_size": 56, "why": "", "error_info": None,
        "timing": {"queued": 400, "environment": 0, "worker_start": 9600, "load": 5000, "run": 1_985_000},
        "attempts_list": [], "parent": "", "calls": [], "events": [], **changes,
    }  # fmt: skip


def pool_row(**changes: Any) -> dict[str, Any]:
    """A pool of `endpoint_row`."""
    return {
        "id": 7, "key": "77aa", "environment": "8d0a", "state": "ready", "queued": 0, "delayed": 0,
        "used_at_ms": 1_700_000_000_000, "newest": True, "waits": None, **changes,
    }  # fmt: skip


def worker_row(**changes: Any) -> dict[str, Any]:
    """A worker of `pool_row`, as the host has just measured it."""
    return {
        "worker": "w-1", "pool": 7, "host": "h1", "state": "busy", "pid": 4711, "start": "fork", "rss_kb": 84_000,
        "memory_kb": 88_000, "processes": 3, "cpu_ms": 1500, "cpu_percent": 93, "job": JOB, "fn": "demo.py:train",
        "job_since_at_ms": 1_700_000_000_000, "inflight": 1, "launched_at_ms": 1_700_000_000_000, "gpus": [0, 1],
        "cards": [{"gpu": 0, "name": "NVIDIA L4", "percent": 45, "memory_mb": 23_034, "memory_used_mb": 12_288}],
        **changes,
    }  # fmt: skip


def endpoint_row(**changes: Any) -> dict[str, Any]:
    """An endpoint with one worker, and a second pool whose environment is being built."""
    why = "building its environment"
    return {
        "id": "epabc", "app": "digits", "env": "dev", "name": "trainer", "kind": "queue", "workers_min": 0,
        "workers_max": 3, "idle_timeout_s": 300, "queued": 5, "delayed": 0, "running": 1, "held": False,
        "used_at_ms": 1_700_000_000_000, "why": why,
        "waits": {"code": "environment", "why": why, "since_at_ms": None, "until_at_ms": None, "detail": {}},
        "pools": [pool_row(), pool_row(id=8, key="88bb", environment="9e1b", state="building")],
        "workers": [worker_row()], **changes,
    }  # fmt: skip


def status_row(**changes: Any) -> dict[str, Any]:
    """What an engine says about itself."""
    return {
        "pid": os.getpid(), "version": "0.1.0", "protocol": 1, "socket": "/run/s", "data_dir": "/data",
        "durability": "process", "start_no": 3, "uptime_s": 7320.0, "gateway_url": None, "token_file": None,
        "jobs": {"IN_QUEUE": 4, "IN_PROGRESS": 1, "COMPLETED": 0}, "workers": 2, "clients": 1,
        "host": {"pid": 4712}, "machine": {"cpus": 2, "memory_mb": 4096, "gpus": []}, **changes,
    }  # fmt: skip


def rows(*found: dict[str, Any]) -> Answer:
    """Answers a query with these facts."""
    return lambda _: [messages.Rows(rows=list(found))]


def refusal(code: str, what: str, why: str = "", fix: str = "") -> Answer:
    """Answers with an ERROR."""
    return lambda _: [messages.Error(code=code, what=what, why=why, fix=fix)]


class StandIn:
    """Answers each request as `answers` says: by the class of its head, or by what a query asks for."""

    def __init__(self, home: Path) -> None:
        self.answers: dict[type[messages.Head] | str, Answer] = {
            "job": self._job,
            "status": rows(status_row()),
            "names": rows(NAMES),
            messages.Hello: lambda _: [welcome(home)],
        }
        self.asked: list[Any] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._address = rundir.prepare(home) / rundir.SOCKET
        self._listener.bind(os.fspath(self._address))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stops listening and leaves nothing behind."""
        self._listener.close()
        self._address.unlink()
        self._address.parent.rmdir()

    def requests(self, kind: type[messages.Head]) -> list[Any]:
        """What was asked of this kind."""
        return [request for request in self.asked if isinstance(request, kind)]

    def queries(self, what: str) -> list[messages.Query]:
        """The queries for these facts."""
        return [query for query in self.requests(messages.Query) if query.what == what]

    def _job(self, query: messages.Query) -> Iterable[messages.Head]:
        """JOB and OTHER exist, and any end of their ids names them."""
        for job in (JOB, OTHER):
            if job.endswith(query.filter["job"]):
                return [messages.Rows(rows=[job_page(job=job)])]
        return [messages.Error(code="no_job", what=f"there is no job {query.filter['job']}")]

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        reader = FrameReader()
        with link:
            while data := link.recv(65536):
                for frame in reader.feed(data):
                    head = messages.decode(frame)
                    self.asked.append(head)
                    if not self._answer(link, frame.sid, head):
                        return

    def _answer(self, link: socket.socket, sid: int, head: Any) -> bool:
        topic = head.what if isinstance(head, messages.Query) else type(head)
        said = list(self.answers[topic](head))
        for number, one in enumerate(said, 1):
            if isinstance(one, Then):
                return one is not Then.HANG_UP
            failed = kinds.FAILED if isinstance(one, messages.Error) else 0
            link.sendall(one.encode(sid=sid, flags=failed | (kinds.END if number == len(said) else 0)))
        return True


def welcome(home: Path, pid: int | None = None) -> messages.Welcome:
    """The engine's greeting."""
    return messages.Welcome(
        proto=1, engine="e1", start_no=3, version="0.1.0", pid=pid or os.getpid(), data_dir=str(home),
        blob_dir=str(home / "blobs"), durability="process", lease_ms=30_000, beat_ms=10_000,
    )  # fmt: skip
