"""What people ask and order: QUERY and ADMIN, answered from memory, from the reading thread, or by the host."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash._version import __version__
from runpod_flash.engine.apps import Apps
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.overview import OnRecord, Overview
from runpod_flash.engine.purge import Purge
from runpod_flash.engine.queries import Queries
from runpod_flash.engine.records import Endpoint
from runpod_flash.engine.requests import refuse
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Admin, Head, ListEnvs, Measure, Ok, PruneEnvs, Query, Rows

logger = logging.getLogger(__name__)

_END: Final = kinds.END
_HOST_TRIES: Final = 40
_HOST_PAUSE_S: Final = 0.05
_MEASURE_S: Final = 2.0

OnStop = Callable[[str, dict[str, Any]], None]
"""Somebody wants the engine to leave: the verb, stop or handover, and how."""


class Questions:
    """Answers QUERY and ADMIN."""

    def __init__(
        self,
        state: State,
        hosts: Hosts,
        purge: Purge,
        apps: Apps,
        *,
        rundir: Path,
        clients: Callable[[], int],
        on_stop: OnStop,
        hold_blobs: Callable[[Link], None],
        withdraw: Callable[..., list[Endpoint]],
    ) -> None:
        self._state = state
        self._turn = state.turn
        self._hosts = hosts
        self._purge = purge
        self._apps = apps
        self._queries = Queries(state)
        self._overview = Overview(state)
        self._rundir = rundir
        self._clients = clients
        self._on_stop = on_stop
        self._hold_blobs = hold_blobs
        self._withdraw = withdraw
        self._started_at = state.clock.monotonic()
        self.handlers: dict[int, Callable[[Link, Frame, Any], None]] = {
            kinds.QUERY: self._query,
            kinds.ADMIN: self._admin,
        }

    # ── questions ─────────────────────────────────────────────────────────────────────────────────

    def _query(self, link: Link, message: Frame, head: Query) -> None:
        sid = message.sid
        if head.what == "endpoints":
            overview = partial(self._overview_of, link, sid, bool(head.filter.get("measure")))
            self._read(link, sid, head, self._overview.on_record, overview)
        elif head.what == "workers":
            self._answer(link, sid, self._overview.workers())
        elif head.what == "deps":
            self._ask_host(link, sid, ListEnvs(), lambda rows: self._answer(link, sid, Rows(rows=rows)))
        elif head.what == "status":
            self._read(link, sid, head, self._queries.counts, self._status)
        elif head.what in self._apps.readers:
            self._read(
                link, sid, head, partial(self._apps.readers[head.what], head.filter), lambda rows: Rows(rows=rows)
            )
        else:
            self._read(link, sid, head, self._queries.reader(head), lambda rows: self._queries.finish(head, rows))

    def _overview_of(self, link: Link, sid: int, measure: bool, known: OnRecord) -> Rows | None:
        """Answers at once, or when the host has measured; it must not be started for that, nor waited for in vain."""
        waiting = True

        def told(measured: list[dict[str, Any]] | None) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self._answer(link, sid, self._overview.endpoints(known, measured or ()))

        host = self._state.host
        if not measure or host is None or host.link is None or not self._hosts.ask(Measure(), told):
            return self._overview.endpoints(known)
        self._state.call_later(_MEASURE_S, told, None)
        return None

    def _read(
        self, link: Link, sid: int, head: Query, work: Callable[[], Any], finish: Callable[[Any], Rows | None]
    ) -> None:
        """Runs `work` in the reading thread and answers with what `finish` makes of it here; None: later."""

        def then(result: Any, error: Exception | None) -> None:
            if error is not None:
                self._tell_failure(link, sid, head.what, error)
            elif (rows := finish(result)) is not None:
                self._answer(link, sid, rows)

        self._turn.in_thread(work, then)

    def _tell_failure(self, link: Link, sid: int, what: str, error: Exception) -> None:
        if not isinstance(error, FlashError):
            logger.error("%s failed", what, exc_info=error)
            error = FlashError("the engine could not answer", why=str(error), fix="see engine.log")
        refuse(self._state, link, sid, error)

    def _answer(self, link: Link, sid: int, rows: Rows) -> None:
        self._turn.send(link, rows.encode(sid=sid, flags=_END))

    def _status(self, counts: dict[str, int]) -> Rows:
        host, store = self._state.host, self._state.store
        row = {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": kinds.PROTO_MAX,
            "socket": str(self._rundir / "s"),
            "data_dir": str(self._state.settings.home),
            "durability": store.durability,
            "start_no": store.start_no,
            "uptime_s": round(self._state.clock.monotonic() - self._started_at, 3),
            "gateway_url": self._state.gateway_url,
            "token_file": self._state.token_file,
            "jobs": counts,
            "workers": len(self._state.workers),
            "clients": self._clients(),
            "host": {"pid": host.pid, "connected": host.link is not None} if host else None,
            "machine": msgspec.to_builtins(host.machine) if host and host.machine else {},
        }
        return Rows(rows=[row])

    # ── the host knows ────────────────────────────────────────────────────────────────────────────

    def _ask_host(
        self,
        link: Link,
        sid: int,
        request: Head,
        then: Callable[[list[dict[str, Any]]], None],
        tries: int = _HOST_TRIES,
    ) -> None:
        def answered(rows: list[dict[str, Any]] | None) -> None:
            if rows is None:
                refuse(self._state, link, sid, FlashError("the host went away before it answered", fix="ask again"))
            else:
                then(rows)

        if self._hosts.ask(request, answered):
            return
        if tries:
            self._state.call_later(_HOST_PAUSE_S, self._ask_host, link, sid, request, then, tries - 1)
        else:
            error = FlashError("the host does not answer", fix="see logs/host.log in the data folder")
            refuse(self._state, link, sid, error)

    # ── orders ────────────────────────────────────────────────────────────────────────────────────

    def _admin(self, link: Link, message: Frame, head: Admin) -> None:
        if head.verb in {"stop", "handover"}:
            self._turn.send(link, Ok().encode(sid=message.sid, flags=_END))
            self._turn.after(lambda: self._on_stop(head.verb, head.args))
        elif head.verb == "purge":
            self._purge.start(head.args, partial(self._told, link, message.sid, head.verb))
        elif head.verb == "prune_deps":
            self._prune_deps(link, message.sid, everything=bool(head.args.get("all")))
        elif head.verb in self._apps.verbs:
            data = self._apps.verbs[head.verb](head.args)
            self._turn.promise(link, Ok(data=data).encode(sid=message.sid, flags=_END))
        elif head.verb == "withdraw":
            found = self._withdraw(link, str(head.args.get("endpoint", "")), held=bool(head.args.get("held")))
            waiting = sum(pool.queued for endpoint in found for pool in endpoint.pools)
            data = {"endpoints": [endpoint.spec.id for endpoint in found], "waiting": waiting}
            self._turn.promise(link, Ok(data=data).encode(sid=message.sid, flags=_END))
        elif head.verb == "hold_blobs":
            self._hold_blobs(link)
            self._turn.send(link, Ok().encode(sid=message.sid, flags=_END))
        else:
            raise _Unsupported(
                f"the engine has no verb {head.verb!r}",
                why="it is older than the program that asks",
                fix="flash engine restart",
            )

    def _told(self, link: Link, sid: int, what: str, data: dict[str, Any], error: Exception | None) -> None:
        if error is None:
            self._turn.promise(link, Ok(data=data).encode(sid=sid, flags=_END))
        else:
            self._tell_failure(link, sid, what, error)

    def _prune_deps(self, link: Link, sid: int, *, everything: bool) -> None:
        used = {pool.environment.lock for pool in self._state.pools.values() if pool.workers or pool.queued}
        if not everything:
            used |= {environment.lock for environment in self._state.environments.values()}

        def told(rows: list[dict[str, Any]]) -> None:
            names = {str(row["id"]) for row in rows}
            for environment in self._state.environments.values():
                if environment.lock in names:
                    environment.state = "unknown"
            freed = sum(int(row.get("size", 0)) for row in rows)
            data = {"removed": sorted(names), "bytes": freed}
            self._turn.send(link, Ok(data=data).encode(sid=sid, flags=_END))

        self._ask_host(link, sid, PruneEnvs(keep=sorted(used - {""})), told)


class _Unsupported(FlashError):
    code = "unsupported"
