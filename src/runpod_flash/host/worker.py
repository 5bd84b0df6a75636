"""One worker as the host sees it: its folder, its pipes, its page, its sockets."""

from __future__ import annotations

import array
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runpod_flash.host import programs
from runpod_flash.host.logs import WorkerLog, call_of
from runpod_flash.host.loop import Loop, Timer
from runpod_flash.host.processes import look_up
from runpod_flash.host.program_log import ProgramLog
from runpod_flash.wire.messages import Current, Launch, Log, Span
from runpod_flash.wire.status_page import IDLE, SIZE, Status, StatusPage, read_page

FOLDER = "workers"
"""Below the run folder; a folder for each worker."""
PAGE = "page"
PID = "pid"
MARK = "FLASH_WORKER_ID"
"""In the environment of every worker, so of every program that one starts: whose stray it is."""
_OOM_SCORE = b"500"


class Worker:
    """Made before its process is, closed after that is reaped."""

    def __init__(self, launch: Launch, scratch: Path, home: Path, loop: Loop, send: Callable[[Log], None]) -> None:
        self.id = launch.worker
        self.launch = launch
        self.scratch = scratch
        self.pid = 0
        self.began = time.monotonic()
        self.ending = ""  # why the host ends it, once it does: stop, deadline, memory
        self.used_kb = 0  # all its processes, when it was ended for that
        self.grace: Timer | None = None  # runs between SIGTERM and SIGKILL
        self.leases = ExitStack()  # volumes, processors, ports and groups that are its own until it ends
        self.ports: dict[int, int] = {}
        self.extras: dict[str, Any] = {}  # what its order says of them
        self.variables: dict[str, str] = {}
        self._loop = loop
        (scratch / "tmp").mkdir(mode=0o700, parents=True)
        # Written, not only made: on a full disk a page without a block of its own would be a SIGBUS later.
        (scratch / PAGE).write_bytes(bytes(SIZE))
        self.page = StatusPage(scratch / PAGE)
        self.control, self._their_control = socket.socketpair()
        self.control.setblocking(False)
        out, log_pipe = os.pipe(), os.pipe()
        err = os.pipe()
        self._pipes: tuple[int, ...] = (out[0], err[0], log_pipe[0])
        self._their_pipes: tuple[int, ...] = (out[1], err[1], log_pipe[1])
        for pipe in self._pipes:
            os.set_blocking(pipe, False)
        log = ProgramLog if launch.program is not None and launch.program.protocol == "jobs" else WorkerLog
        self.log = log(home, self.id, self.page, self._pipes, send)

    def order(self, variables: Mapping[str, str]) -> dict[str, object]:
        """What a zygote is told."""
        return {
            "worker": self.id,
            "scratch": str(self.scratch),
            "variables": dict(variables),
            "title": self.launch.endpoint,
            "host_pid": os.getpid(),
            "at_once": self.launch.at_once,
            **programs.order(self.launch.program),
            **self._served(),
            **self.extras,
        }

    def _served(self) -> dict[str, object]:
        served = self.launch.application
        return {"application": [served.target, served.folder]} if served is not None else {}

    @property
    def descriptors(self) -> list[int]:
        """The worker's ends, in the order that a zygote expects."""
        return [self._their_control.fileno(), *self._their_pipes, *self._pipes[:2]]

    @property
    def age_ms(self) -> float:
        """Since it was asked for."""
        return (time.monotonic() - self.began) * 1000

    def started(
        self, pid: int, ended_span: Callable[[Span], None], way_out: Callable[[], socket.socket | None]
    ) -> None:
        """It has a process: the worker's ends are its own now, and the host listens to the others."""
        self.pid = pid
        self._close_their_ends()
        row = look_up(pid)
        with suppress(OSError):  # a full disk; a later host will then go by the variables alone
            (self.scratch / PID).write_text(f"{pid} {row.started if row else 0}")
        with suppress(OSError):  # rather a worker than the engine, when memory runs out
            Path(f"/proc/{pid}/oom_score_adj").write_bytes(_OOM_SCORE)
        out, err, log_pipe = self._pipes
        self._loop.watch(self.control.fileno(), lambda: self._let_out(way_out))
        self._loop.watch(log_pipe, lambda: self._read_log(ended_span))
        self._loop.watch(out, lambda: self._read_raw(1, ended_span))
        self._loop.watch(err, lambda: self._read_raw(2, ended_span))

    def hand_over(self, stream: socket.socket) -> bool:
        """Passes a connected stream to the engine; False if the worker cannot take it (any more)."""
        rights = array.array("i", [stream.fileno()]).tobytes()
        try:
            self.control.sendmsg([b"S"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            return False
        finally:
            stream.close()
        return True

    def _let_out(self, way_out: Callable[[], socket.socket | None]) -> None:
        """The worker asks for a connection to make calls over; it waits on the socket that it sent along."""
        try:
            said, descriptors, _flags, _address = socket.recv_fds(self.control, 1, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said, descriptors = b"", []
        if not said:
            self._loop.unwatch(self.control.fileno())
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as asks, suppress(OSError):
                if (stream := way_out()) is not None:
                    with stream:
                        socket.send_fds(asks, [said], [stream.fileno()])

    def doing(self) -> Status:
        """What the worker says that it does."""
        return self.page.read()

    def finish(self) -> tuple[Current | None, list[Span], list[str]]:
        """After its end: what it began last, the spans that were open, the last lines that it printed."""
        status = self.page.read()
        spans = self.log.finish(call_of(status))
        return current_of(status), spans, self.log.last_lines

    def close(self) -> None:
        """Gives up all descriptors, and what it was lent."""
        self.leases.close()
        if self.grace:
            self.grace.cancel()
        self._close_their_ends()
        for pipe in self._pipes:
            self._loop.unwatch(pipe)
            os.close(pipe)
        self._pipes = ()
        self._loop.unwatch(self.control.fileno())
        self.control.close()
        self.page.close()

    def _close_their_ends(self) -> None:
        self._their_control.close()
        for pipe in self._their_pipes:
            os.close(pipe)
        self._their_pipes = ()

    def _read_log(self, ended_span: Callable[[Span], None]) -> None:
        for span in self.log.read_log():
            ended_span(span)
        self._forget_ended()

    def _read_raw(self, fd: int, ended_span: Callable[[Span], None]) -> None:
        # First what the worker has said before it: an end record among it claims the output up to here.
        self._read_log(ended_span)
        self.log.read_raw(fd)
        self._forget_ended()

    def _forget_ended(self) -> None:
        while self.log.ended:
            self._loop.unwatch(self.log.ended.pop())


def current_of(status: Status) -> Current | None:
    """The job that a page names, running or just over, as a message has it."""
    return Current(job=status.job, epoch=status.epoch, attempt=status.attempt) if status.job else None


def leftover(scratch: Path) -> tuple[Current | None, int, int]:
    """Of a worker whose host died: what it was doing, its process id, and when that started (0: unknown)."""
    try:
        status = read_page(scratch / PAGE)
    except OSError:
        status = IDLE
    try:
        pid, started = (scratch / PID).read_text().split()
        return current_of(status), int(pid), int(started)
    except (OSError, ValueError):
        return current_of(status), 0, 0
