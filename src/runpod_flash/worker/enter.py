"""A new process becomes a worker: cut off from what it was forked or started from, and ready to listen.

The order matters: first its own output, so that whatever goes wrong can be said; then its tie to the host;
then everything that user code can see.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
import time
import traceback
import types
from typing import Any, Final, NoReturn

from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import door, namespaces
from runpod_flash.wire.status_page import StatusPage
from runpod_flash.worker import output, program
from runpod_flash.worker.door import Door
from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.loop import Worker
from runpod_flash.worker.server import Server

HOST_GONE: Final = 70
"""Exit code of a worker whose host is dead."""
FAILED: Final = 71
"""Exit code of a worker that could not be set up."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SOONER_THAN_OTHERS: Final = 500
"""A worker goes before host and engine when memory runs out."""

try:
    _libc: Any = ctypes.CDLL(None)
except OSError:
    _libc = None


def warm_up() -> None:
    """Loads what importing this module has not: a fork then starts with everything in place."""
    codec.load_pickler()


def die_with(host: int) -> None:
    """Lets the kernel kill this process when its parent, the host, dies (Linux); leaves if that has happened."""
    if sys.platform.startswith("linux") and _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != host:
        os._exit(HOST_GONE)


def enter(message: dict[str, Any], descriptors: list[int], parent_before: int = 0) -> NoReturn:
    """Becomes the worker that `message` describes (see `zygote.py`) and serves until told to leave.

    `parent_before` is the process that forked this one and is about to end; the next parent is the host.
    """
    born = time.monotonic()
    code = FAILED
    try:
        control, out, err, log, *bare = descriptors
        _take_output(out, err, {control, log, *bare})
        host = message.get("host_pid", 0)
        _join_host(host, parent_before)
        _confine(message, host)
        if message.get("program"):
            program.become({**message, "oom_score": _SOONER_THAN_OTHERS}, (control, log, *bare))
        page = _settle(message["scratch"], message["variables"], message.get("title", ""))
        for folder, name in message.get("links", ()):
            os.symlink(folder, name)
        _look_like_a_program()
        pipe = output.take_over(log, page, bare)
        TABLE.prefer_local = False  # the worker has what it was sent, not what happens to be named alike
        name, stream, at_once = message["worker"], socket.socket(fileno=control), message.get("at_once", 0)
        door.install(Door(stream))
        if application := message.get("application"):
            # Few workers serve one, and a zygote should not be slower for it.
            from runpod_flash.worker.application.server import ApplicationServer  # noqa: PLC0415

            ApplicationServer(name, stream, pipe, born, *application).serve()
        elif relayed := message.get("relayed"):
            from runpod_flash.worker.relayed.server import ProgramServer  # noqa: PLC0415 - as above

            ProgramServer(name, stream, pipe, born, **relayed).serve()
        elif at_once:
            Server(name, stream, pipe, born, at_once).serve()
        else:
            Worker(name, stream, page, pipe, born).serve()
        _leave()
        code = 0
    except CannotStart as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode(errors="replace"))
    except BaseException:  # noqa: BLE001 — the last word of a process
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def _take_output(out: int, err: int, kept: set[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    _close_all_but({0, 1, 2, *kept})


def _close_all_but(kept: set[int]) -> None:
    try:
        present = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        present = list(range(3, 1024))
    for descriptor in present:
        if descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _join_host(host: int, parent_before: int) -> None:
    # Re-parenting happens while the process between ends, a little after anything it could tell us.
    while parent_before and os.getppid() == parent_before:
        time.sleep(0.0001)
    if host:
        die_with(host)
    with contextlib.suppress(OSError):
        os.setsid()


def _confine(message: dict[str, Any], host: int) -> None:
    """Keeps to the processors it was given, and sees its volumes where they were asked for."""
    if processors := message.get("processors"):
        os.sched_setaffinity(0, processors)
    if hidden := message.get("hidden"):
        namespaces.enter(message.get("mounts", ()), hidden, os.path.join(message["scratch"], "tmp"))
        if host:
            die_with(host)  # a change of rights may have undone this


def _settle(scratch: str, variables: dict[str, str], title: str) -> StatusPage:
    page = StatusPage(os.path.join(scratch, "page"), create=True)
    files = os.path.join(scratch, "files")
    os.makedirs(files, mode=0o700, exist_ok=True)
    os.chdir(files)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(_SOONER_THAN_OTHERS))
    _tell_libc(title or "worker")
    faulthandler.enable(2)
    return page


def _tell_libc(title: str) -> None:
    if _libc is None:
        return
    if sys.platform.startswith("linux"):
        _libc.prctl(_PR_SET_NAME, title.encode()[:15], 0, 0, 0)
    with contextlib.suppress(ValueError, AttributeError):
        # C code that prints must not have its lines kept in a buffer until the worker ends.
        _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, 1, 0)


def _look_like_a_program() -> None:
    """User code and the libraries it uses look at these, and must not find our start-up script there."""
    sys.argv = [""]
    sys.modules["__main__"] = types.ModuleType("__main__")
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # forks of one parent would draw the same numbers; `random` reseeds itself


def _leave() -> None:
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    output.flush()
