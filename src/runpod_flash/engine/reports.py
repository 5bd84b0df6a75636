"""What workers and the host report: results, items, progress, output, ends. Each is given to the part it concerns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.dispatcher import Dispatcher
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.records import Worker
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import State
from runpod_flash.engine.streams import Streams
from runpod_flash.engine.turn import Link
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Chunk, Done, ErrorInfo, Exited, Ok, Progress, Span

_RECORD_TRIES: Final = 2

_encode = msgspec.json.encode


class WorkerReports:
    """The frames of workers."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        attempts: Attempts,
        relay: Relay,
        exchanges: Exchanges,
        streams: Streams,
        fleet: Fleet,
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._attempts = attempts
        self._relay = relay
        self._streams = streams
        self._unrecorded: dict[tuple[str, int], list[str]] = {}  # results, and the bugs of ours that they met
        self.handlers: dict[int, Callable[[Link, Frame, Any], None]] = {
            kinds.DONE: self._done,
            kinds.CHUNK: self._chunk,
            kinds.PROGRESS: self._progress,
            kinds.RETURNED: lambda link, message, head: relay.returned(link.state, message, head),
            kinds.HTTP_RES: lambda link, message, head: exchanges.answer(link.state, message, head),
            kinds.DATA: lambda link, message, head: exchanges.data(link.state, message, head),
            kinds.CREDIT: lambda link, message, head: exchanges.credit(link.state, message, head),
            kinds.READY: lambda link, _message, head: fleet.ready(link, head),
        }

    def not_recorded(self, head: Done, error: Exception) -> None:
        """A bug of ours kept a result from being recorded; its worker sends it again."""
        self._unrecorded.setdefault((head.job, head.epoch), []).append(f"{type(error).__name__}: {error}")

    def _done(self, link: Link, message: Frame, head: Done) -> None:
        worker: Worker = link.state
        parts: Sequence[bytes] = message.parts
        faults = self._unrecorded.get((head.job, head.epoch)) if self._unrecorded else None
        if faults and len(faults) >= _RECORD_TRIES:
            # Its worker would send it again for ever.
            del self._unrecorded[head.job, head.epoch]
            head, parts = Done(job=head.job, epoch=head.epoch, ok=False, error=_given_up(faults[-1])), ()
        self._attempts.done(worker, head, parts, message.head)
        self._dispatcher.stop_if_drained(worker)

    def _chunk(self, link: Link, message: Frame, head: Chunk) -> None:
        if message.sid:
            self._relay.chunk(link.state, message)
        else:
            self._streams.chunk(link.state, head, message.parts)

    def _progress(self, link: Link, _message: Frame, head: Progress) -> None:
        job = self._state.active.get(head.job)
        if job is not None and job in link.state.inflight:
            job.progress = _encode(head.value)


class HostReports:
    """The frames of the host."""

    def __init__(
        self, state: State, hosts: Hosts, fleet: Fleet, followers: Followers, environments: Environments
    ) -> None:
        self._state = state
        self._fleet = fleet
        self._followers = followers
        self.handlers: dict[int, Callable[[Link, Frame, Any], None]] = {
            kinds.LAUNCHED: lambda _link, _message, head: fleet.launched(head),
            kinds.EXITED: self._exited,
            kinds.SPAN: self._span,
            kinds.LOG: lambda _link, message, head: followers.log(head.job, message.head),
            kinds.BEAT: lambda link, message, head: hosts.beat(link, head, message.sid),
            kinds.ENV_STATE: lambda _link, _message, head: environments.said(head),
            kinds.ROWS: lambda _link, message, head: hosts.said(message.sid, head.rows),
        }

    def _exited(self, link: Link, message: Frame, head: Exited) -> None:
        answer = Ok().encode(sid=message.sid, flags=kinds.END)
        self._fleet.exited(head, lambda: self._state.turn.promise(link, answer))

    def _span(self, link: Link, message: Frame, head: Span) -> None:
        """Where the lines of an attempt stand in the log files. All of them are out by then."""
        row = (head.job, head.attempt, head.worker, head.segment, head.start, head.length, head.lines, head.cut)
        self._state.turn.write().add_span(row)
        live = self._state.active.get(head.job)
        if live is not None and live.attempt == head.attempt:
            live.lines_out = True
        self._followers.all_lines_are_out(head.job, head.attempt)
        self._state.turn.promise(link, Ok().encode(sid=message.sid, flags=kinds.END))


def _given_up(why: str) -> ErrorInfo:
    message = f"the function returned, but the engine could not record its result ({why}); see engine.log; report it"
    return ErrorInfo(type="EngineError", module="runpod_flash.errors", message=message, kind=ErrorKind.ENCODE)
