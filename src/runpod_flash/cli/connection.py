"""A blocking link to the engine: one request at a time, and its typed reply.

Programs with an event loop have their own (`client.transport`); a command that asks once needs less.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from runpod_flash._version import __version__
from runpod_flash.client import launch
from runpod_flash.errors import (
    EngineRefused,
    EngineUnavailable,
    FlashError,
    JobNotFound,
    UsageError,
    error_from_code,
)
from runpod_flash.settings import Settings, load
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame, FrameError, FrameReader

REPLY_SECONDS: Final = 30.0
"""How long an engine may think about a question."""
HANDOVER_SECONDS: Final = 20.0
"""How long an engine may take to make room for the next one."""
PAGE: Final = 1000
"""Rows asked for at a time."""

Found = TypeVar("Found")

_READ = 1 << 20
_MEANT = {
    # What the engine's words for a refusal are in the error tree, where the two differ.
    "no_job": JobNotFound.code,
    "ambiguous_job": UsageError.code,
    "bad_request": UsageError.code,
    "already_ended": FlashError.code,
    "not_retryable": FlashError.code,
    "deploy_failed": FlashError.code,
}


class LinkLost(EngineUnavailable):
    """The engine went away in the middle of an answer."""


class Connection:
    """An engine that said WELCOME. Close it, or use it in a `with`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader()
        self._arrived: list[Frame] = []
        self._sid = -1
        self._kept: dict[int, deque[Frame]] = {}
        hello = messages.Hello(
            proto_min=kinds.PROTO_MIN,
            proto_max=kinds.PROTO_MAX,
            role="client",
            version=__version__,
            pid=os.getpid(),
        )
        try:
            sock.settimeout(REPLY_SECONDS)
            self._send(hello.encode())
            answer = messages.decode(self._next())
            if isinstance(answer, messages.Refuse):
                raise Refused(answer)
        except BaseException:
            sock.close()
            raise
        self.welcome: messages.Welcome = answer

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self._sock.close()

    def some(self, what: str, filter: Mapping[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` facts, and whether there are more."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while len(found) < limit:
            page = self._page(what, filter, min(PAGE, limit - len(found)), cursor)
            found += page.rows
            cursor = page.next
            if not cursor:
                break
        return found, bool(cursor)

    def all(self, what: str, filter: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every fact, page by page: there may be more than fit into memory."""
        cursor = ""
        while True:
            page = self._page(what, filter or {}, PAGE, cursor)
            yield from page.rows
            cursor = page.next
            if not cursor:
                return

    def page(self, what: str, filter: Mapping[str, Any], cursor: str) -> messages.Rows:
        """One page of facts, for who goes on from its cursor at his own pace."""
        return self._page(what, filter, PAGE, cursor)

    def job(self, job: str) -> dict[str, Any]:
        """One job, named by its id or a part of it that no other job has."""
        return self._one("job", {"job": job})

    def status(self) -> dict[str, Any]:
        """The engine about itself."""
        return self._one("status", {})

    def ask(self, request: messages.Head, timeout: float | None = REPLY_SECONDS, parts: Sequence[bytes] = ()) -> Any:
        """The reply to one request; an ERROR is raised. None waits as long as it takes."""
        for reply in self.follow(request, timeout, parts):
            return reply
        raise EngineRefused(
            "the engine answered with something this program does not know",
            why="the two are of different versions",
            fix="flash engine restart",
        )

    def follow(
        self, request: messages.Head, timeout: float | None = None, parts: Sequence[bytes] = ()
    ) -> Iterator[Any]:
        """Sends a request now; gives every reply to it, up to the last. Others may be asked meanwhile."""
        self._sid += 2
        try:
            data = request.encode(parts, sid=self._sid)
        except UnicodeEncodeError as error:  # what a shell passes on may be any bytes
            raise UsageError(
                f"{error.object!r} cannot be the name or id of anything",
                why="it has bytes that are no UTF-8",
                fix="type it anew, or see what there is: flash jobs, flash ps --all",
            ) from None
        self._kept[self._sid] = deque()
        self._send(data)
        return self._replies(self._sid, timeout)

    def _replies(self, sid: int, timeout: float | None) -> Iterator[Any]:
        try:
            while True:
                frame = self._next_of(sid, timeout)
                if frame.kind == kinds.ERROR:
                    raise _error(messages.decode(frame))
                if frame.kind in messages.HEADS:
                    yield messages.decode(frame)
                if frame.flags & kinds.END:
                    return
        finally:
            del self._kept[sid]

    def _next_of(self, sid: int, timeout: float | None) -> Frame:
        while not self._kept[sid]:
            self._sock.settimeout(timeout)
            frame = self._next()
            if frame.sid in self._kept:
                self._kept[frame.sid].append(frame)
            # Else a GOODBYE, which the end of the link says as well, or the rest of an older answer.
        return self._kept[sid].popleft()

    def wait_until_closed(self, timeout: float | None) -> None:
        """Returns when the engine has hung up."""
        self._sock.settimeout(timeout)
        try:
            while True:
                self._next()
        except LinkLost:
            return

    def _page(self, what: str, filter: Mapping[str, Any], limit: int, cursor: str) -> messages.Rows:
        query = messages.Query(what=what, filter=dict(filter), limit=limit, cursor=cursor)
        page: messages.Rows = self.ask(query)
        return page

    def _one(self, what: str, filter: Mapping[str, Any]) -> dict[str, Any]:
        rows, _ = self.some(what, filter, 1)
        if not rows:
            raise JobNotFound(
                f"there is no {what} {' '.join(map(str, filter.values()))}".strip(),
                why="it was never there, or was removed after its retention",
                fix="see which there are: flash jobs",
            )
        return rows[0]

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise _lost(error) from None

    def _next(self) -> Frame:
        while not self._arrived:
            try:
                data = self._sock.recv(_READ)
            except TimeoutError:
                raise EngineUnavailable(
                    "the engine does not answer",
                    why=f"nothing came for {self._sock.gettimeout():.0f} s",
                    fix="look at it with: flash engine status; start it anew with: flash engine restart",
                ) from None
            except OSError as error:
                raise _lost(error) from None
            if not data:
                raise _lost(None)
            try:
                self._arrived = self._reader.feed(data)
            except FrameError as error:
                raise EngineUnavailable(
                    "what the engine says cannot be read", why=str(error), fix="flash engine restart"
                ) from None
        return self._arrived.pop(0)


class Refused(EngineRefused):
    """The engine answered HELLO with REFUSE."""

    def __init__(self, said: messages.Refuse) -> None:
        super().__init__(f"the engine refused: {said.what}", why=said.why or None, fix=said.fix or None)
        self.handover = said.handover


def connect() -> Connection:
    """The engine, started if none runs: history can be read whenever somebody wants to."""
    where = place(load())
    return _again_while_leaving(lambda: Connection(launch.connect(where)))


def connect_running() -> Connection | None:
    """The engine if one runs. Changes nothing: starts none, makes no folder."""
    home = load().home

    def look() -> Connection | None:
        found = launch.try_connect(home)
        return Connection(found) if found else None

    return _again_while_leaving(look)


def place(settings: Settings) -> launch.Place:
    """Where the engine lives that is started; EngineUnavailable if that can only be a passing one."""
    # Asked here, for a program that calls makes do with a passing folder, and says so.
    if why := launch.unwritable(settings.home):
        raise EngineUnavailable(
            f"there is no engine to ask, and none can be started in {settings.home}",
            why=f"the folder cannot be written: {why}",
            fix="make it writable, or set FLASH_HOME to another folder",
        )
    return launch.place(settings)


def _again_while_leaving(attempt: Callable[[], Found]) -> Found:
    """An engine that is just leaving refuses or hangs up; its successor does not."""
    end = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            return attempt()
        except (Refused, LinkLost) as error:
            if time.monotonic() > end or (isinstance(error, Refused) and not error.handover):
                raise
            time.sleep(0.05)


def _lost(error: OSError | None) -> LinkLost:
    return LinkLost(
        "the engine went away before it answered",
        why=str(error) if error else "it closed the connection",
        fix="ask again: the engine is started if it is not there; its log is engine.log in the data folder",
    )


def _error(said: messages.Error) -> FlashError:
    return error_from_code(
        _MEANT.get(said.code, said.code),
        said.what,
        why=said.why or None,
        fix=said.fix or None,
        retry_after_ms=said.retry_after_ms,
    )
