"""Fork servers, one for each environment and runtime: `worker/zygote.py` says what is spoken with them.

A zygote is started when its environment turns ready, so that the first worker is forked from a warm one,
and ended when nothing was forked from it for ten minutes. It is no state: one that dies costs the next launch
some milliseconds, and its workers nothing.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runpod_flash.host.loop import Loop, Timer
from runpod_flash.host.processes import Children, Exit, send, spawn

KEEP_S = 600.0
_START_LIMIT_S = 60.0
_SEND_LIMIT_S = 5.0
_LENGTH = struct.Struct("<I")
_LOADER = ("LD_", "DYLD_", "MALLOC_", "GLIBC_")
MARK = "FLASH_ZYGOTE"
"""In the environment of every zygote, so of all that is forked from it: whose stray it is."""


class ZygoteKey(NamedTuple):
    """What makes zygotes interchangeable; `loader`: variables that are read when a program starts."""

    environment: str
    runtime: str
    loader: tuple[tuple[str, str], ...] = ()


class Answer(NamedTuple):
    """`pid` of the new worker; or 0, and whether to `exec` it instead, or why it cannot be started."""

    pid: int
    exec: bool = False
    why: str = ""


Answered = Callable[[Answer], None]


def zygote_key(environment: str, runtime: Path, variables: Mapping[str, str]) -> ZygoteKey:
    """The key of the zygote for workers with these variables."""
    loader = sorted((name, value) for name, value in variables.items() if name.startswith(_LOADER))
    return ZygoteKey(environment, str(runtime), tuple(loader))


def start_program(key: ZygoteKey, program: str, stderr: int) -> tuple[int, socket.socket]:
    """Starts `worker/<program>.py` with the environment's interpreter: its process id, and the link to it."""
    ours, theirs = socket.socketpair()
    try:
        path = Path(key.runtime) / "runpod_flash" / "worker" / f"{program}.py"
        fd = theirs.fileno()
        pid = spawn(
            [f"{key.environment}/bin/python", "-I", str(path), key.runtime, str(fd)],
            env={"PATH": os.defpath, "LANG": "C.UTF-8", MARK: key.runtime, **dict(key.loader)},
            cwd="/",
            stderr=stderr,
            pass_fds=[fd],
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def send_order(link: socket.socket, order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Sends one order; its descriptors ride on the first bytes."""
    body = json.dumps(order).encode()
    message = _LENGTH.pack(len(body)) + body
    rights = array.array("i", descriptors).tobytes()
    # The other side reads at once or is dead: nothing is under way when an order is sent.
    link.settimeout(_SEND_LIMIT_S)
    try:
        sent = link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        link.sendall(message[sent:])
    finally:
        link.setblocking(False)


class _Zygote:
    def __init__(self, key: ZygoteKey, loop: Loop, children: Children, gone: Callable[[_Zygote], None]) -> None:
        self.key = key
        self.ready = self.can_fork = self.closed = self.ended = False
        self._loop = loop
        self._children = children
        self._gone = gone
        self._orders: deque[tuple[dict[str, Any], Sequence[int], Answered]] = deque()
        self._asked: Answered | None = None
        self._received = b""
        self._errors = _memory_file()
        try:
            self.pid, self._link = start_program(key, "zygote", self._errors)
        except OSError:
            os.close(self._errors)
            raise
        self._link.setblocking(False)
        loop.watch(self._link.fileno(), self._read)
        children.watch(self.pid, self._ended)
        self._limit = loop.after(_START_LIMIT_S, self._too_slow)
        self._idle: Timer | None = None
        self.use()

    def use(self) -> None:
        if self._idle:
            self._idle.cancel()
        self._idle = self._loop.after(KEEP_S, self.close)

    def fork(self, order: dict[str, Any], descriptors: Sequence[int], answered: Answered) -> None:
        self._orders.append((order, descriptors, answered))
        self._next()

    def close(self, why: str = "its zygote was ended") -> None:
        if self.closed:
            return
        self.closed = True
        self._limit.cancel()
        if self._idle:
            self._idle.cancel()
        self._loop.unwatch(self._link.fileno())
        self._link.close()
        if not self.ended:
            send(self.pid, signal.SIGKILL)  # it would see that the link has ended, but not while it still imports
        self._gone(self)
        waiting = [order[2] for order in self._orders]
        if self._asked:
            self._children.expect(-1)
            waiting.insert(0, self._asked)
        self._orders.clear()
        self._asked = None
        for answered in waiting:
            answered(Answer(0, why=why))

    def _next(self) -> None:
        if not self.ready or self._asked or not self._orders:
            return
        order, descriptors, answered = self._orders.popleft()
        self._asked = answered
        self._children.expect(1)
        try:
            send_order(self._link, order, descriptors)
        except OSError as error:
            self.close(f"its zygote does not listen: {error}")

    def _read(self) -> None:
        try:
            data = self._link.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close(f"its zygote ended{self._last_words()}")
            return
        self._received += data
        while not self.closed and (message := self._message()) is not None:
            self._handle(message)

    def _message(self) -> dict[str, Any] | None:
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        body, self._received = self._received[_LENGTH.size : end], self._received[end:]
        message: dict[str, Any] = json.loads(body)
        return message

    def _handle(self, message: dict[str, Any]) -> None:
        if message.get("ready"):
            self.ready, self.can_fork = True, bool(message.get("fork"))
            self._limit.cancel()
            if not self.can_fork:
                self._refuse_all()
                return
        elif self._asked:
            answered, self._asked = self._asked, None
            why = str(message.get("why", ""))
            answered(Answer(int(message.get("pid", 0)), message.get("error") == "unsafe", why))
            self._children.expect(-1)
        self._next()

    def _refuse_all(self) -> None:
        """It lives, but must not fork: it says so to everybody, at once, as long as it is kept."""
        while self._orders:
            self._orders.popleft()[2](Answer(0, exec=True))

    def _too_slow(self) -> None:
        send(self.pid, signal.SIGKILL)
        self.close(f"its zygote did not start within {_START_LIMIT_S:.0f} s{self._last_words()}")

    def _ended(self, end: Exit) -> None:
        self.ended = True
        self.close(f"its zygote ended: {end}{self._last_words()}")
        os.close(self._errors)
        self._errors = -1
        self._gone(self)

    def _last_words(self) -> str:
        if self._errors < 0:
            return ""
        size = os.fstat(self._errors).st_size
        text = os.pread(self._errors, 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        return f"\n{text}" if text else ""


class Zygotes:
    """Starts them, finds them, ends them."""

    def __init__(self, loop: Loop, children: Children, note: Callable[[str], None]) -> None:
        self._loop = loop
        self._children = children
        self._note = note
        self._zygotes: dict[ZygoteKey, _Zygote] = {}
        self._dying: set[_Zygote] = set()  # killed, and still there
        self._no_fork: set[ZygoteKey] = set()

    def warm(self, key: ZygoteKey) -> None:
        """Has one ready for what will surely come; a failure shows when it does."""
        if key not in self._no_fork:
            with suppress(OSError):
                self._find(key)

    def fork(self, key: ZygoteKey, order: dict[str, Any], descriptors: Sequence[int], answered: Answered) -> None:
        """Forks a worker, from a zygote that is started if need be; until then the descriptors stay open."""
        if key in self._no_fork:
            answered(Answer(0, exec=True))
            return
        try:
            zygote = self._find(key)
        except OSError as error:
            answered(Answer(0, why=f"{key.environment}/bin/python cannot be run: {error.strerror}"))
            return
        zygote.use()
        zygote.fork(order, descriptors, lambda answer: self._answered(key, answer, answered))

    def close(self, environment: str | None = None) -> None:
        """Ends all, or those of one environment."""
        for zygote in list(self._zygotes.values()):
            if environment in (None, zygote.key.environment):
                zygote.close()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._zygotes)

    @property
    def gone(self) -> bool:
        """Whether there is none, and none that is still dying."""
        return not self._zygotes and not self._dying

    def _find(self, key: ZygoteKey) -> _Zygote:
        zygote = self._zygotes.get(key)
        if zygote is None:
            zygote = self._zygotes[key] = _Zygote(key, self._loop, self._children, self._gone)
        return zygote

    def _gone(self, zygote: _Zygote) -> None:
        if self._zygotes.get(zygote.key) is zygote:
            del self._zygotes[zygote.key]
        if zygote.ended:
            self._dying.discard(zygote)
        else:
            self._dying.add(zygote)

    def _answered(self, key: ZygoteKey, answer: Answer, answered: Answered) -> None:
        if answer.exec and key not in self._no_fork:
            self._no_fork.add(key)
            self._note(f"forking is not safe for {key.environment}: {answer.why or 'it has threads'}; using exec")
            if zygote := self._zygotes.get(key):
                self._loop.after(0, zygote.close)
        answered(answer)


def _memory_file() -> int:
    """For what a zygote has to say when it cannot start; a pipe would have to be read all its life."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("zygote")
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
