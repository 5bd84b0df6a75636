"""This machine: one host, a child of the engine that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from runpod_flash.host import HOST_KEY

_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "USER", "LOGNAME", "TMPDIR"),
    # With these, an engine that the host starts again finds the same code, settings and socket.
    *("XDG_RUNTIME_DIR", "PYTHONPATH", "PYTHONSAFEPATH"),
)
_OURS = "FLASH_"


class LocalHost:
    """A host process on this machine. No asyncio here: the engine's loop watches `fileno()`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when it is gone; -1 where the system has no such thing."""
        return self._pidfd

    def reap(self) -> int | None:
        """Its exit code, or minus the signal, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """SIGTERM: it ends its workers and then itself."""
        if self.reap() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Forgets it, without ending it."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        # It lives on under another parent; without this, the interpreter would complain about that.
        self._process.returncode = self._process.returncode if self._process.returncode is not None else 0


class LocalProvider:
    """Starts hosts here."""

    name = "local"

    def __init__(self, *, restart_engine: bool = True) -> None:
        self._options = [] if restart_engine else ["--no-restart"]

    def start(self, socket: Path, home: Path, rundir: Path, key: str) -> LocalHost:
        """Starts one, with nothing of whoever called the engine first: neither variables nor descriptors."""
        logs = home / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(logs / "host.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        command = [sys.executable, "-m", "runpod_flash.host", "--socket", str(socket), "--home", str(home)]
        command += ["--rundir", str(rundir), *self._options]
        try:
            process = subprocess.Popen(
                command,
                env={**_environment(), HOST_KEY: key},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        return LocalHost(process)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_OURS)}
