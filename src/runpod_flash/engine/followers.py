"""Who follows which job: outcomes, states and output go to the streams that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from runpod_flash.engine.records import Reader, Waiter, Watcher
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.turn import Link
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.messages import EnvState, Outcome
from runpod_flash.wire.messages import State as StateHead

_SPAN_PATIENCE_S: Final = 2.0


class Followers:
    """The streams that wait for jobs to end."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.caller_of: Callable[[str], Waiter | None] = lambda call: None
        """Who waits for a load-balanced call: that is kept with the call. Set by who keeps them."""
        self._by_job: dict[str, list[Waiter]] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        # Outcomes whose last lines are still on their way: job → its attempt, and who gets what.
        self._held: dict[str, tuple[int, list[tuple[Link, int, bytes]]]] = {}

    def add(self, job: str, link: Link, sid: int, *, logs: bool, reader: Reader | None = None) -> None:
        """`link` follows `job` on stream `sid`."""
        self._by_job.setdefault(job, []).append(Waiter(link, sid, logs, reader))
        client = link.state
        if isinstance(client, Client):
            client.follows[sid] = job

    def watch(self, job: str, watcher: Watcher) -> None:
        """Calls `watcher` with the end of `job`, which has not come yet."""
        self._watchers.setdefault(job, []).append(watcher)

    def unwatch(self, job: str, watcher: Watcher) -> None:
        """Calls it no more."""
        watchers = self._watchers.get(job, [])
        if watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[job]

    def drop(self, link: Link) -> None:
        """A link is gone; its jobs run on."""
        client = link.state
        if not isinstance(client, Client):
            return
        for job in client.follows.values():
            if waiters := self._by_job.get(job):
                waiters[:] = [waiter for waiter in waiters if waiter.link is not link]
                if not waiters:
                    del self._by_job[job]
        client.follows.clear()

    def clear(self) -> None:
        """Forgets everybody; their links are being closed."""
        self._by_job.clear()
        self._watchers.clear()
        self._held.clear()

    def wanted(self, job: str) -> bool:
        """Whether somebody follows `job`, or watches it."""
        return job in self._by_job or job in self._watchers

    def outcome(
        self, head: Outcome, parts: Sequence[frame.Buffer], *, attempt: int = 0, lines_follow: bool = False
    ) -> None:
        """Tells everybody who waits how a job ended.

        `lines_follow`: the attempt printed, and the host has not said yet that it forwarded every line (host and
        worker have links of their own); who shows the output gets the outcome after that, or after two seconds.
        """
        if self._watchers:
            for watcher in self._watchers.pop(head.job, ()):
                watcher(head, parts)
        waiters = self._by_job.pop(head.job, None)
        if waiters is None:
            return
        body = head.body()
        for waiter in waiters:
            data = frame.encode(kinds.OUTCOME, body, parts, sid=waiter.sid, flags=kinds.END)
            waiter.link.state.follows.pop(waiter.sid, None)
            if waiter.reader is not None and waiter.reader.behind:
                waiter.reader.outcome = data
            elif waiter.logs and lines_follow:
                self._hold(head.job, attempt, waiter.link, waiter.sid, data)
            else:
                self._state.turn.promise(waiter.link, data)

    def answer(self, call: str, link: Link, sid: int, data: bytes, *, after_lines: bool) -> None:
        """The same for a load-balanced call, for which one waits. `after_lines`: once what it printed is shown."""
        client = link.state
        if not isinstance(client, Client):
            return
        client.follows.pop(sid, None)
        if after_lines:
            self._hold(call, 0, link, sid, data)
        elif client.follows:
            self._state.turn.send(link, data)
        else:
            self._state.turn.pass_on(link, data)

    def all_lines_are_out(self, job: str, attempt: int) -> None:
        """The host has forwarded everything that the attempt printed."""
        if self._held.get(job, (-1,))[0] == attempt:
            for link, _sid, data in self._held.pop(job)[1]:
                self._state.turn.promise(link, data)

    def log(self, job: str, head: bytes) -> None:
        """Passes lines on, as they came, to those who show them."""
        for waiter in self._waiters(job):
            if waiter.logs:
                self._state.turn.send(waiter.link, frame.encode(kinds.LOG, head, sid=waiter.sid))
        for link, sid, _data in self._held.get(job, (0, ()))[1]:
            self._state.turn.send(link, frame.encode(kinds.LOG, head, sid=sid))

    def state(self, job: str, status: str, *, attempt: int = 0, worker: str = "", why: str = "") -> None:
        """Tells those who show output where a job stands."""
        for waiter in self._waiters(job):
            if waiter.logs:
                head = StateHead(job=job, status=status, attempt=attempt, worker=worker, why=why)
                self._state.turn.send(waiter.link, head.encode(sid=waiter.sid))

    def environment(self, jobs: Iterable[str], head: EnvState) -> None:
        """Shows the progress of a build to those whose jobs wait for it."""
        for job in jobs:
            for waiter in self._waiters(job):
                if waiter.logs:
                    self._state.turn.send(waiter.link, head.encode(sid=waiter.sid))

    def _waiters(self, job: str) -> Sequence[Waiter]:
        waiters = self._by_job.get(job)
        if waiters is None:
            caller = self.caller_of(job)
            return (caller,) if caller is not None else ()
        return waiters

    def _hold(self, job: str, attempt: int, link: Link, sid: int, data: bytes) -> None:
        if job not in self._held:
            self._held[job] = attempt, []
            self._state.call_later(_SPAN_PATIENCE_S, self.all_lines_are_out, job, attempt)
        self._held[job][1].append((link, sid, data))
