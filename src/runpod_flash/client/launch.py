"""The engine, reached or started: a connected socket either way, and one engine however many ask at once.

Everything here blocks, so an event loop runs it in a thread. The order that makes it free of races:

1. connect; whoever succeeds needs no lock
2. take `start.lock`, or see somebody else's engine answer while waiting for it
3. connect again: the engine may have come up before the lock was ours
4. start it, and hold the lock until it says that it is ready

A socket file, lock or log that a dead engine left behind means nothing: only an answer counts.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
import os
import random
import select
import site
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runpod_flash.client import child
from runpod_flash.errors import EngineUnavailable, FlashError, error_from_code
from runpod_flash.settings import OPTIONS, Settings
from runpod_flash.wire import rundir

START_SECONDS: Final = 30.0
"""How long an engine may take to say that it is ready."""
DAEMON: Final = ("-m", "runpod_flash.daemon")
LOG: Final = "engine.log"
"""The engine's standard output and error, in its data folder."""

STARTS: Final = 3
"""How often an engine is started that ends without a word. One that cannot run says why; this one was killed."""

_NOT_THERE = {
    errno.ENOENT,
    errno.ECONNREFUSED,
    errno.ENOTDIR,
    errno.ENOTSOCK,
    errno.EPROTOTYPE,
    errno.ECONNRESET,
}
_OF_THE_CALLER = {"FLASH_HOME", "FLASH_ENGINE", "FLASH_APP", "FLASH_ENV", "FLASH_LOCAL_RAISES"}
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE", "SSL_CERT_DIR",  # whom it trusts when it tells webhooks
)  # fmt: skip
# In a shell's words `(setsid; python -m runpod_flash.daemon &)`. A fork of a tiny program, since ours may have threads.
_DETACH = "import os, sys\nif os.fork(): os._exit(0)\nos.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Place:
    """Where the engine of this program lives, and whether it is this program's own child."""

    home: Path
    child: bool
    variables: Mapping[str, str]


def place(settings: Settings) -> Place:
    """Where to look for the engine; a temporary folder of our own if the data folder cannot be written."""
    variables = _engine_variables(settings)
    why = unwritable(settings.home)
    if why is None:
        return Place(settings.home, settings.engine == "child", variables)
    return Place(child.temporary_home(settings.home, why), True, variables)


def connect(
    where: Place,
    *,
    start: bool = True,
    patience: float = 0.0,
    cancelled: threading.Event | None = None,
) -> socket.socket:
    """A socket to the engine. For `patience` seconds somebody else may bring it up, then we start it.

    Without `start` an engine that is not there is EngineUnavailable.
    """
    cancelled = cancelled or threading.Event()
    if found := _wait_for_engine(where, patience, cancelled):
        return found
    if not start:
        raise EngineUnavailable(
            f"no engine is running for {where.home}",
            fix="start it with: flash engine start (or call any remote function)",
        )
    try:
        folder = rundir.prepare(where.home)
    except rundir.RundirError as error:
        raise EngineUnavailable(error.what, why=str(error), fix=error.fix) from None
    return _start(where, folder, cancelled)


def _wait_for_engine(where: Place, patience: float, cancelled: threading.Event) -> socket.socket | None:
    end = time.monotonic() + patience
    while True:
        if found := try_connect(where.home):
            return found
        if time.monotonic() >= end or cancelled.wait(0.02):
            return None


def try_connect(home: Path) -> socket.socket | None:
    """A socket to the engine of `home` if one answers there."""
    for path in _addresses(home):
        if found := _dial(path):
            return found
    return None


def _addresses(home: Path) -> list[Path]:
    """The usual place, then the one that the engine wrote down: it may have seen another XDG_RUNTIME_DIR."""
    usual = rundir.socket_path(home)
    with suppress(OSError, ValueError, KeyError, TypeError):
        written = Path(json.loads((home / rundir.ENGINE_FILE).read_bytes())["socket"])
        rundir.check(written.parent)
        if written != usual:
            return [usual, written]
    return [usual]


def _dial(path: Path) -> socket.socket | None:
    end = time.monotonic() + 5
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(path))
        except BlockingIOError:  # it listens, but too many are at its door in this moment
            sock.close()
            if time.monotonic() > end:
                raise EngineUnavailable(
                    "the engine does not accept connections",
                    why=f"it listens at {path} but took no connection for 5 s",
                    fix="flash engine restart",
                ) from None
            time.sleep(random.uniform(0.002, 0.02))
        except OSError as error:
            sock.close()
            if error.errno in _NOT_THERE:
                return None
            raise EngineUnavailable(f"the engine's socket {path} cannot be used", why=str(error)) from None
        else:
            _check_peer(sock, path)
            return sock


def _check_peer(sock: socket.socket, path: Path) -> None:
    """Whatever listens there must be ours: we are about to send it code and variables."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.getuid():
        sock.close()
        raise EngineUnavailable(
            f"the program that listens at {path} belongs to user {uid}, not to you",
            why="an engine is given your functions and variables, so it has to be yours",
            fix="set FLASH_HOME to a folder of your own, or XDG_RUNTIME_DIR to one that nobody else can write",
        )


# ── start ─────────────────────────────────────────────────────────────────────────────────────────


def _start(where: Place, folder: Path, cancelled: threading.Event) -> socket.socket:
    end = time.monotonic() + START_SECONDS
    lock = os.open(folder / rundir.START_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(lock):
            # Its holder is starting the engine, so look for that: the lock itself is no longer needed then.
            if found := try_connect(where.home):
                return found
            if time.monotonic() > end or cancelled.wait(random.uniform(0.01, 0.04)):
                raise EngineUnavailable(
                    "the engine did not start",
                    why=f"another program holds {folder / rundir.START_LOCK} for {START_SECONDS:.0f} s",
                    fix=f"look at {where.home / LOG}, then try again",
                )
        return try_connect(where.home) or _start_locked(where, end)
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_locked(where: Place, end: float) -> socket.socket:
    said: bytes | socket.socket | None = None
    for _ in range(STARTS):
        said = _start_once(where, end)
        if isinstance(said, socket.socket):
            return said
        # The host brings an engine up again too: an engine that found another one at work has done its duty.
        if found := _wait_for_engine(where, 1.0, threading.Event()):
            return found
        if said != b"":
            break
    assert not isinstance(said, socket.socket)
    raise _problem(said, where) or EngineUnavailable(
        "the engine said that it is ready, but does not answer",
        fix=f"look at {where.home / LOG}, then try again",
    )


def _start_once(where: Place, end: float) -> bytes | socket.socket | None:
    ready, theirs = os.pipe()
    try:
        try:
            _spawn(where, theirs)
        finally:
            os.close(theirs)
        return _read_line(ready, where.home, end)
    finally:
        os.close(ready)


def _spawn(where: Place, ready: int) -> None:
    python = sys.executable or getattr(sys, "_base_executable", "python3")
    command = [python, *DAEMON, "--home", os.fspath(where.home), "--ready-fd", str(ready)]
    environ = dict(where.variables)
    log = os.open(where.home / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if where.child:
            child.spawn(where.home, command, environ, log, ready)
            return
        detached = subprocess.run(
            [python, "-I", "-S", "-c", _DETACH, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environ,
            pass_fds=(ready,),
            start_new_session=True,
            check=False,
        )
        if detached.returncode > 0:  # less: it was killed, and as nothing is said then, it is started again
            raise EngineUnavailable("the engine could not be started", why=f"exit code {detached.returncode}")
    except OSError as error:
        raise EngineUnavailable("the engine could not be started", why=f"{python}: {error}") from None
    finally:
        os.close(log)


def _read_line(fd: int, home: Path, end: float) -> bytes | socket.socket | None:
    """What the engine says about its start: a line, b"" if it ended without one, None if it says nothing.

    Or a socket to another engine, which somebody (its host) brought up meanwhile.
    """
    said = b""
    while b"\n" not in said:
        readable, _, _ = select.select([fd], [], [], 0.25)
        if not readable:
            if time.monotonic() > end:
                return None
            if found := try_connect(home):
                return found
            continue
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        said += chunk
    return said


def _problem(said: bytes | None, where: Place) -> FlashError | None:
    log = where.home / LOG
    if said is None:
        return EngineUnavailable(
            f"the engine did not become ready within {START_SECONDS:.0f} s",
            why=_tail(log),
            fix=f"look at {log}",
        )
    try:
        answer: dict[str, Any] = json.loads(said)
        if answer.get("ok"):
            return None
        error = answer["error"]
        words = {key: error.get(key) or None for key in ("why", "fix")}
        return error_from_code(error.get("code") or EngineUnavailable.code, error["what"], **words)
    except (ValueError, KeyError, AttributeError, TypeError):
        return EngineUnavailable(
            "the engine ended while it started",
            why=_tail(log) or (said.decode(errors="replace").strip() or "it said nothing"),
            fix=f"look at {log}",
        )


def _tail(log: Path, lines: int = 8) -> str:
    try:
        return "\n".join(log.read_text(errors="replace")[-4000:].splitlines()[-lines:])
    except OSError:
        return ""


# ── its surroundings ──────────────────────────────────────────────────────────────────────────────


def _engine_variables(settings: Settings) -> dict[str, str]:
    """A clean environment: the engine outlives this program and serves others, so little of ours may stick to it."""
    environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    flash = {name: value for name, value in os.environ.items() if name.startswith("FLASH_")}
    for name, option in OPTIONS.items():
        found = settings.provenance.get(name)
        if found is not None and found.source != "default":
            flash[option.variable] = str(found.value)
    environ |= {name: value for name, value in flash.items() if name not in _OF_THE_CALLER}
    if extra := _import_path():
        environ["PYTHONPATH"] = extra
    # `-m` would put the current folder first on the path.
    environ["PYTHONSAFEPATH"] = "1"
    return environ


def _import_path() -> str:
    """Folders that hold us or what we need and that a plain start of the interpreter would not search."""
    usual = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        usual.add(site.getusersitepackages())
    found = []
    for name in ("runpod_flash", "msgspec"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            found.append(os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))))
    return os.pathsep.join(folder for folder in dict.fromkeys(found) if folder not in usual)


def unwritable(home: Path) -> str | None:
    """Why nothing can be written to `home`, or None."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = home / f".probe.{os.getpid()}.{threading.get_ident()}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        # A full disk is the engine's to report: with a store in /tmp the jobs of yesterday would seem lost.
        return None if error.errno == errno.ENOSPC else (error.strerror or str(error))
    return None
