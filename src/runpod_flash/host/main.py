"""The host program, from its start to its end.

prepare     session, signals, sub-reaper; what a predecessor left behind
connect     greet the engine; the engine says what to do, the host reports what becomes of it
carry on    without an engine for a while: workers live, and the engine is started again
leave       when the engine says so, refuses, or nobody came for too long
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from runpod_flash._version import __version__
from runpod_flash.host import HOST_KEY, log_files
from runpod_flash.host.builds import Builder
from runpod_flash.host.environments import Environments
from runpod_flash.host.guard import Guard
from runpod_flash.host.link import Link
from runpod_flash.host.loop import Loop, Timer
from runpod_flash.host.machine import measure
from runpod_flash.host.prefixes import Prefixes
from runpod_flash.host.processes import Children, become_subreaper, look_up, raise_limits
from runpod_flash.host.restart import EngineStarter
from runpod_flash.host.usage import Usage
from runpod_flash.host.workers import Workers
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import (
    BadHead,
    Beat,
    BeatOk,
    CancelEnv,
    EnsureEnv,
    EnvState,
    Error,
    Goodbye,
    Hello,
    Launch,
    ListEnvs,
    Measure,
    Ping,
    Pong,
    PruneEnvs,
    Refuse,
    Rows,
    Stop,
    Welcome,
    WorkerPresence,
    Working,
    decode,
)
from runpod_flash.wire.volumes import leftovers

HOLD_S = 600.0
"""How long a host of the engine's own machine keeps its workers without an engine."""
HANDOVER_S = 5.0
"""After a GOODBYE for handover: the client that asked for it starts the next engine."""
STOP_GRACE_S = 2.0
_STOP_LIMIT_S = 5.0
_PRUNE_LOGS_S = 3600.0


class Host:
    """Everything of one run of the program."""

    def __init__(self, options: argparse.Namespace, log: log_files.HostLog) -> None:
        self._home = Path(options.home)
        self._key: str = os.environ.pop(HOST_KEY, "")
        self._hold: float = options.lease
        self._restarts: bool = not options.no_restart
        self._note = log.note
        self._machine = measure()
        self._loop = Loop(log.note)
        self._children = Children(self._loop)
        self._starter = EngineStarter(options.home, self._children, log.note)
        self._environments = Environments(self._home)
        self._prefixes = Prefixes(self._home)
        self._link = Link(
            options.socket,
            self._loop,
            hello=self._hello,
            welcomed=self._welcomed,
            refused=self._refused,
            received=self._received,
            lost=self._lost,
            nobody=self._nobody,
        )
        self._builder = Builder(
            self._environments,
            self._prefixes,
            self._loop,
            self._children,
            send=self._tell_environment,
            ready=self._warm,
            note=log.note,
        )
        self._workers = Workers(
            self._home,
            Path(options.rundir),
            self._machine,
            self._loop,
            self._children,
            stream_to=self._link.open_stream,
            answer=lambda launched, sid: self._link.send(launched, sid, kinds.END),
            keep=self._link.keep,
            log=self._link.send_if_easy,
            remove=self._builder.remove,
            note=log.note,
        )
        self._guard = Guard(self._workers, self._loop, log.note)
        self._usage = Usage(self._workers, self._loop, self._children, cards=bool(self._machine.gpus))
        self._handlers = self._all_handlers()
        self._beat_s = 10.0
        self._beat: Timer | None = None
        self._alone: Timer | None = None  # runs while there is no engine
        self._left_alone = False  # the engine went on purpose and needs no other
        self._stopping = False

    def _all_handlers(self) -> dict[type, Callable[[Any, int], None]]:
        """Who does what the engine says."""
        return {
            EnsureEnv: self._builder.ensure,
            CancelEnv: lambda message, _sid: self._builder.cancel(message.env),
            Launch: self._launch,
            Stop: lambda message, _sid: self._workers.stop(message),
            ListEnvs: self._list_environments,
            PruneEnvs: self._prune_environments,
            Measure: self._measure,
            Working: lambda message, _sid: self._workers.working(message),
            BeatOk: self._beaten,
            Goodbye: self._goodbye,
            Ping: lambda _message, sid: self._link.send(Pong(), sid),
            Error: lambda message, _sid: self._note(f"the engine says: {message.what}"),
        }

    def run(self) -> None:
        """Until it is told to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_leave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if not become_subreaper():
            self._note("orphans of workers cannot be adopted here")
        self._workers.bury()
        built = [*self._environments.sweep(), *self._prefixes.sweep(), *self._workers.runtimes.sweep()]
        for path in [*built, *leftovers(self._home)]:
            self._builder.remove(path)
        self._prune_logs()
        self._wait_for_engine()
        self._link.connect()
        self._loop.run()

    # ── the engine comes and goes ────────────────────────────────────────────────────────────────

    def _hello(self) -> Hello:
        return Hello(
            proto_min=kinds.PROTO_MIN,
            proto_max=kinds.PROTO_MAX,
            role="host",
            version=__version__,
            pid=os.getpid(),
            host=socket.gethostname(),
            machine=self._machine,
            workers=[WorkerPresence(worker.id, worker.pid, list(worker.ports.items())) for worker in self._workers],
            key=self._key,
        )

    def _welcomed(self, welcome: Welcome) -> None:
        self._note(f"connected to the engine (process {welcome.pid}, version {welcome.version})")
        self._starter.reached()
        self._left_alone = False
        if self._alone:
            self._alone.cancel()
        self._beat_s = max(0.05, welcome.beat_ms / 1000)
        self._send_beat()
        for worker in self._workers:
            self._workers.connect(worker)

    def _lost(self) -> None:
        self._note("the engine is gone")
        self._starter.lost()
        self._builder.forget_streams()
        if self._beat:
            self._beat.cancel()
        self._wait_for_engine()

    def _nobody(self) -> None:
        if self._restarts and not self._left_alone:
            self._starter.start()

    def _refused(self, refusal: Refuse) -> None:
        self._note(f"the engine refuses this host: {refusal.what} {refusal.why}".rstrip())
        self._leave()

    def _goodbye(self, message: Goodbye, _sid: int) -> None:
        self._note(f"the engine leaves: {message.reason}")
        if message.stop_host:
            self._leave()
        elif message.reason == "handover":
            self._starter.hold_off(HANDOVER_S)
        else:
            self._left_alone = True

    def _wait_for_engine(self) -> None:
        self._alone = self._loop.after(self._hold, self._given_up)

    def _given_up(self) -> None:
        self._note(f"no engine for {self._hold:.0f} s")
        self._leave()

    # ── what the engine wants ────────────────────────────────────────────────────────────────────

    def _received(self, frame: Frame) -> None:
        try:
            message = decode(frame)
            handler = self._handlers.get(type(message))
            if handler is None:
                raise BadHead(frame.kind, "a host does not do this")
        except BadHead as error:
            if frame.sid:
                self._link.send(Error(code="unsupported", what=str(error)), frame.sid, kinds.END | kinds.FAILED)
            return
        handler(message, frame.sid)

    def _launch(self, message: Launch, sid: int) -> None:
        if self._stopping:
            return
        self._environments.touch(Path(message.env).name)
        self._workers.launch(message, sid)
        self._guard.wake()

    def _warm(self, environment: Path, order: EnsureEnv) -> None:
        if order.runtime is not None:
            self._workers.warm(environment, order.runtime, order.variables)

    def _tell_environment(self, state: EnvState, sid: int, last: bool) -> None:
        self._link.send(state, sid, kinds.END if last else 0)

    def _list_environments(self, _message: ListEnvs, sid: int) -> None:
        self._link.send(Rows(rows=[*self._environments.rows(), *self._prefixes.rows()]), sid, kinds.END)

    def _prune_environments(self, message: PruneEnvs, sid: int) -> None:
        in_use = {Path(worker.launch.env).name for worker in self._workers}
        removed = []
        for name in self._environments.names():
            if name in message.keep or name in in_use or (facts := self._environments.facts(name)) is None:
                continue
            row = self._environments.row(name, facts)
            self._workers.zygotes.close(str(self._environments.path(name)))
            try:
                self._builder.remove(self._environments.retire(name))
            except OSError as error:
                self._note(f"the environment {name} cannot be removed: {error}")
            else:
                removed.append(row)
        self._link.send(Rows(rows=[*removed, *self._prune_prefixes()]), sid, kinds.END)

    def _prune_prefixes(self) -> list[dict[str, Any]]:
        """Those that no environment was built with, unless one is on its way to that."""
        used = {row["prefix"] for row in self._environments.rows()}
        removed = []
        for row in self._prefixes.rows() if not self._builder.building else ():
            if row["id"] not in used:
                try:
                    self._builder.remove(self._prefixes.retire(row["id"]))
                except OSError as error:
                    self._note(f"the prefix {row['id']} cannot be removed: {error}")
                else:
                    removed.append(row)
        return removed

    def _measure(self, _message: Measure, sid: int) -> None:
        self._usage.measure(lambda rows: self._link.send(Rows(rows=rows), sid, kinds.END))

    def _send_beat(self) -> None:
        rows = [(worker.id, look_up(worker.pid)) for worker in self._workers]
        uses = [(name, row.rss_kb, row.cpu_ms) for name, row in rows if row]
        self._link.send(Beat(workers=uses, load=os.getloadavg()[0]))
        self._beat = self._loop.after(self._beat_s, self._send_beat)

    def _beaten(self, message: BeatOk, _sid: int) -> None:
        for worker in list(self._workers):
            if worker.id in message.stale:
                self._workers.end(worker, "stop")

    def _prune_logs(self) -> None:
        log_files.prune(self._home)
        self._loop.after(_PRUNE_LOGS_S, self._prune_logs)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def _told_to_leave(self, _number: int, _frame: object) -> None:
        # At once, not only in the loop: on the way there it may find no engine, and must not start one.
        self._left_alone = True
        self._loop.after(0, self._leave)

    def _leave(self) -> None:
        """Ends everything that was started here, and reports nothing of it: whoever cares knows."""
        if self._stopping:
            return
        self._stopping = True
        self._link.close()
        self._builder.close()
        self._workers.leave(STOP_GRACE_S)
        self._await_last(time.monotonic() + _STOP_LIMIT_S)

    def _await_last(self, limit: float) -> None:
        if (self._workers.gone and self._builder.gone) or time.monotonic() > limit:
            self._workers.close()
            self._note("ended")
            self._loop.stop()
        else:
            self._loop.after(0.01, partial(self._await_last, limit))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a host; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m runpod_flash.host", description="Runs workers on this machine.")
    parser.add_argument("--socket", required=True, help="the engine's socket")
    parser.add_argument("--home", required=True, help="folder of environments and logs")
    parser.add_argument("--rundir", required=True, help="folder of what lives as long as its process")
    parser.add_argument("--lease", type=float, default=HOLD_S, help="seconds to hold on without an engine")
    parser.add_argument("--no-restart", action="store_true", help="never start the engine again")
    options = parser.parse_args(arguments)
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    os.umask(0o077)
    raise_limits()
    log = log_files.HostLog(Path(options.home), (1, 2))
    log.note(f"started, version {__version__}, Python {sys.version.split()[0]}")
    Host(options, log).run()
    return 0
