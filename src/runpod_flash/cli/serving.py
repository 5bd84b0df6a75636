"""An endpoint that is served: declared, watched in the foreground, and taken away."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any, Final

import click

from runpod_flash.cli import views
from runpod_flash.cli.connection import Connection, LinkLost, connect
from runpod_flash.cli.serve import tell_waiting
from runpod_flash.client import program
from runpod_flash.client.program import Served
from runpod_flash.errors import FlashError
from runpod_flash.settings import load
from runpod_flash.wire import messages

_LOOK_S: Final = 0.3
_ENDED: Final = "ended before it was ready"
HOPELESS: Final = 3
"""Workers that ended before they asked for a job, none having ever done so, until we give up."""


def leave(served: Served, *, as_json: bool) -> None:
    """Serves without anybody who watches."""
    with connect() as engine:
        declared = _declare(engine, served)
        url = _tell_where(engine, served, declared)
    if as_json:
        views.show_json({"name": served.name, "endpoint": declared.endpoint, "url": url, "waiting": 0})
    views.note(f"it stays: flash ps, flash logs --endpoint {served.name} -f, flash serve --name {served.name} --stop")


def stay(served: Served, *, as_json: bool) -> None:
    """Serves until Ctrl-C, and shows what the workers print."""
    signal.signal(signal.SIGTERM, _interrupt)
    watched = _Watched(served, as_json=as_json)
    try:
        watched.watch()
    except KeyboardInterrupt:
        click.echo(err=True)
        watched.drain()
    except BaseException:
        watched.withdraw()
        raise


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Who stops a service says SIGTERM, and means what Ctrl-C means."""
    raise KeyboardInterrupt


def _declare(engine: Connection, served: Served) -> messages.Declared:
    declared: messages.Declared = engine.ask(program.declaration(served, load()))
    for notice in declared.notices:
        views.note(notice)
    return declared


def _tell_where(engine: Connection, served: Served, declared: messages.Declared) -> str:
    kind, rest = ("lb", "/") if served.command else ("v2", "/runsync")
    url = f"{engine.status()['gateway_url']}/{kind}/{declared.endpoint}"
    views.note(f"{served.title} is served as endpoint {served.name}: {url}")
    body = "" if served.command else " -d '{\"input\": {}}'"
    views.note(f'try it:  curl -H "Authorization: Bearer $(flash engine token)"{body} {url}{rest}')
    return url


class _Watched:
    """The endpoint while it is served in the foreground. It may meet several engines."""

    def __init__(self, served: Served, *, as_json: bool) -> None:
        self._served = served
        self._as_json = as_json
        self._endpoint = ""
        self._cursor = ""
        self._since_ms = round(time.time() * 1000)
        self._told = ""  # what was said last of how it stands
        self._failures = 0
        self._proven = False  # a worker has asked for jobs
        self._started: set[str] = set()

    def watch(self) -> None:
        """Until somebody interrupts, or the program cannot be started."""
        while True:
            try:
                with connect() as engine:
                    self._watch(engine)
            except LinkLost:
                views.note("the engine went away; looking for the next one")

    def _watch(self, engine: Connection) -> None:
        declared = _declare(engine, self._served)
        if not self._endpoint:
            _tell_where(engine, self._served, declared)
        self._endpoint = declared.endpoint
        while True:
            self._show_output(engine)
            self._look(engine)
            time.sleep(_LOOK_S)

    def _show_output(self, engine: Connection) -> None:
        while True:
            wanted = {"endpoint": self._endpoint, "since_ms": self._since_ms, "follow": True}
            page = engine.page("logs", wanted, self._cursor)
            self._cursor = page.next
            for row in page.rows:
                if self._as_json:
                    views.show_json(row, line=True)
                    continue
                job = views.job_id(row["job"]) or views.NOTHING
                click.echo(f"{job.ljust(views.SHORT_ID)}  {row['line']}")
            if not page.rows:
                return

    # ── how it stands ─────────────────────────────────────────────────────────────────────────────

    def _look(self, engine: Connection) -> None:
        row = self._row(engine)
        if row is None:
            return
        pool: dict[str, Any] = next((one for one in row["pools"] if one.get("newest")), {})
        workers = [one for one in row["workers"] if one["pool"] == pool.get("id")]
        self._tell_workers(workers)
        self._tell_failures(pool)
        self._tell(_words(row, pool, workers))

    def _row(self, engine: Connection) -> dict[str, Any] | None:
        return next((one for one in engine.all("endpoints") if one["id"] == self._endpoint), None)

    def _tell_workers(self, workers: list[dict[str, Any]]) -> None:
        for worker in workers:
            if worker["state"] != "starting" and worker["worker"] not in self._started:
                self._started.add(worker["worker"])
                if worker["state"] in {"idle", "busy"}:
                    self._proven = True
                    views.note(f"worker {worker['worker']} is ready (process {worker['pid']})")

    def _tell_failures(self, pool: dict[str, Any]) -> None:
        failures = pool.get("failed_starts") or 0
        if failures > self._failures:
            last = (pool.get("last_error") or "").strip()
            if failures >= HOPELESS and not self._proven:
                raise _does_not_start(self._served, last)
            views.note(f"a worker ended by itself ({failures} in a row): {last.rpartition(chr(10))[2]}")
        self._failures = failures

    def _tell(self, words: str) -> None:
        if words and words != self._told:
            views.note(words)
        self._told = words

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> None:
        """Lets the jobs that run come to their end; whoever interrupts again does not wait."""
        try:
            if not self.withdraw():
                return
            with connect() as engine:
                self._await_workers(engine)
        except KeyboardInterrupt:
            views.note("not waited for: what runs goes on, and its workers end after it")
            raise

    def _await_workers(self, engine: Connection) -> None:
        told = False
        while True:
            self._show_output(engine)
            row = self._row(engine)
            left = row["workers"] if row else []
            if not left:
                return
            running = sum(one["inflight"] for one in left)
            if running and not told:
                told = True
                left_to_do = views.count(running, self._served.work)
                views.note(f"{left_to_do} to come to an end first; Ctrl-C again does not wait")
            time.sleep(_LOOK_S)

    def withdraw(self) -> bool:
        """Takes the endpoint away; False if it never was there, or somebody else serves it, too."""
        if not self._endpoint:
            return False
        with connect() as engine:
            done = engine.ask(messages.Admin(verb="withdraw", args={"endpoint": self._endpoint})).data
        if not done["endpoints"]:
            return False
        views.note(f"{self._served.name} is taken away")
        tell_waiting(done["waiting"], self._served.name)
        return True


def _words(row: dict[str, Any], pool: dict[str, Any], workers: list[dict[str, Any]]) -> str:
    """What it waits for, if for anything."""
    if pool.get("state") == "building":
        return "its environment is being built"
    waits = pool.get("waits") or {}
    if waits.get("code") in {"workers_max", "gpu", "memory", "machine_full", "host"}:
        return str(waits["why"])
    return "a worker is starting" if workers and all(one["state"] == "starting" for one in workers) else ""


def _does_not_start(served: Served, last: str) -> FlashError:
    """Why every worker ended before it asked for a job, as far as its traceback tells."""
    where, line = program.blame(last, served.file)
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    # One that answers HTTP has a worker of ours beside it, which speaks last; what it says of an exit is no reason.
    error = lines[-2] if len(lines) > 1 and _ENDED in lines[-1] else lines[-1] if lines else ""
    what = f"{' '.join(served.command) or served.file.name} does not start: {error or 'it ends without a word'}"
    return FlashError(what, where=where or None, why=line or None, fix=program.mend(error, served))
