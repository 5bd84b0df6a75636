"""Children of the host, and the end of whole trees of processes.

Everything that runs here is a child of the host, or becomes one when its parent dies (Linux: the host is
a "child subreaper"), so one SIGCHLD and one `wait4(-1)` see every end, and a process id stays taken until
the host has reaped it: no pidfd is needed to kill the right one.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from runpod_flash.host.loop import Loop

_LIMITS = (
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_AS",
    "RLIMIT_DATA",
    "RLIMIT_RSS",
    "RLIMIT_FSIZE",
    "RLIMIT_CPU",
)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Exit(NamedTuple):
    """How a child ended: one of `code` and `signal`, and the largest resident size it had."""

    pid: int
    code: int | None
    signal: int | None
    peak_rss_kb: int

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        return f"killed by {signal_name(self.signal)}"


def signal_name(number: int) -> str:
    """Such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def become_subreaper() -> bool:
    """Whether orphans among our descendants become our children from now on."""
    return sys.platform == "linux" and bool(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def raise_limits() -> None:
    """Whatever a shell has limited for itself ends here: each soft limit becomes the hard one."""
    for name in _LIMITS:
        if hasattr(resource, name):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            with suppress(OSError, ValueError):
                resource.setrlimit(kind, (hard, hard))


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Collection[int] = (),
    dies_with_host: bool = False,
    nice: int = 0,
) -> int:
    """Starts a program in a session of its own and returns its process id; `Children` reaps it."""
    host = os.getpid()

    def prepare() -> None:
        if nice:
            os.nice(nice)
        if dies_with_host and sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != host:  # it died before the line above
                os._exit(70)

    child = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
        umask=0o022,  # ours is stricter, and users' programs would be surprised
        preexec_fn=prepare if dies_with_host or nice else None,  # noqa: PLW1509  # there is one thread
    )
    child.returncode = 0  # or the object would wait for it too, perhaps for the next process of that id
    return child.pid


class Children:
    """Reaps every child, and tells whoever watches one how it ended."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[Exit], None]] = {}
        self._strangers: dict[int, Exit] = {}
        self._expected = 0
        self._wakeup, writer = socket.socketpair()
        self._wakeup.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        loop.watch(self._wakeup.fileno(), self._woken)

    def watch(self, pid: int, ended: Callable[[Exit], None]) -> None:
        """Calls back when the child is reaped; also when that was a moment ago (see `expect`)."""
        if early := self._strangers.pop(pid, None):
            self._loop.after(0, lambda: ended(early))
        else:
            self._watched[pid] = ended

    def expect(self, delta: int) -> None:
        """Counts children forked by a zygote, not named by it yet: they may end before they are."""
        self._expected += delta
        if not self._expected:
            self._strangers.clear()

    @property
    def expected(self) -> int:
        """How many children there may be that `watched` does not name yet."""
        return self._expected

    @property
    def watched(self) -> Collection[int]:
        """The children that somebody watches."""
        return self._watched.keys()

    def reap(self) -> None:
        """Every child that has ended; called by signal, and harmless at any time."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
            end = Exit(pid, code if code >= 0 else None, -code if code < 0 else None, peak)
            if ended := self._watched.pop(pid, None):
                ended(end)
            elif self._expected:
                self._strangers[pid] = end

    def close(self) -> None:
        """Gives the signal back; for tests."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._loop.unwatch(self._wakeup.fileno())
        self._wakeup.close()
        self._writer.close()

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass
        self.reap()


# ── the process table ────────────────────────────────────────────────────────────────────────────


class Process(NamedTuple):
    """One row of the process table."""

    pid: int
    ppid: int
    group: int
    session: int
    cpu_ms: int
    started: int  # clock ticks since boot: with the id, it names a process for good
    rss_kb: int
    state: str


_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def look_up(pid: int) -> Process | None:
    """One process, or None if there is none (or no /proc)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # a name may hold blanks and brackets
    cpu = int(fields[11]) + int(fields[12])
    return Process(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        cpu * _TICK_MS,
        int(fields[19]),
        int(fields[21]) * _PAGE_KB,
        fields[0].decode(),
    )


def snapshot() -> dict[int, Process]:
    """All processes that can be seen."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    return {row.pid: row for name in names if name.isdigit() and (row := look_up(int(name)))}


def tree_of(root: int, table: Mapping[int, Process]) -> list[Process]:
    """`root`, its descendants, and the members of its session, dead ones not."""
    children: dict[int, list[int]] = {}
    for row in table.values():
        children.setdefault(row.ppid, []).append(row.pid)
    found = {root, *(row.pid for row in table.values() if row.session == root)}
    todo = list(found)
    while todo:
        new = [pid for pid in children.get(todo.pop(), ()) if pid not in found]
        found.update(new)
        todo += new
    return [table[pid] for pid in found if pid in table and table[pid].state not in "ZX"]


def kill_tree(root: int) -> None:
    """Kills a child that leads a session, and all that came from it.

    Each is stopped before the next look, so that nobody forks while the tree is being walked.
    """
    stopped: set[int] = {root}
    send(root, signal.SIGSTOP)
    while new := {row.pid for row in tree_of(root, snapshot())} - stopped - {os.getpid()}:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        send(pid, signal.SIGKILL)


def kill_session(leader: int) -> None:
    """Kills what a child that led a session, and has been reaped, left of it. (Its id is taken until all are gone.)"""
    for row in snapshot().values():
        if row.session == leader:
            send(row.pid, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """A signal, to whom it may still concern."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def send_to_group(group: int, number: int) -> None:
    """The same, to a process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def shared_fairly_kb(rows: Iterable[Process]) -> int:
    """Their memory, pages that several of them share counted once (PSS); the resident size where unknown."""
    return sum(_pss_kb(row.pid) or row.rss_kb for row in rows)


def _pss_kb(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1])
    return 0
