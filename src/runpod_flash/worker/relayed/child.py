"""The program as a child of its worker: started with its ports, watched until it is ready, ended with the worker."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.program import furnish
from runpod_flash.worker.relayed.upstream import Unanswered, Upstream

INIT_S: Final = 420.0
"""How long a program may take until it is ready, where RUNPOD_INIT_TIMEOUT does not say."""
_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2)
_INITIALISING: Final = 204
_PORT: Final = re.compile(r"\$(?:(PORT_HEALTH|PORT)\b|\{(PORT_HEALTH|PORT)\})")
_PR_SET_PDEATHSIG: Final = 1

try:
    _libc: Any = ctypes.CDLL(None)
except OSError:
    _libc = None


class Child:
    """One program."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self._command = list(command)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = _port_of("PORT") or _free_port()
        self.health_port = _port_of("PORT_HEALTH") or self.port
        self.asked_at = "/" + os.environ.get("HEALTH_CHECK_PATH", "/ping").lstrip("/")
        self.answers_health = False  # it has said itself that it was ready
        self._health = Upstream(self.health_port)

    async def start(self) -> None:
        """Starts it. CannotStart where there is no such program."""
        furnish(os.getcwd(), self._folder)
        ports = {"PORT": str(self.port), "PORT_HEALTH": str(self.health_port)}
        # Many programs take their port as an argument, and no shell stands between us.
        command = [_PORT.sub(lambda found: ports[found[1] or found[2]], word) for word in self._command]
        variables = {**os.environ, **ports}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=variables, stdin=asyncio.subprocess.DEVNULL, preexec_fn=_tie_to(os.getpid())
            )
        except OSError as error:
            raise CannotStart(f"{self._command[0]} cannot be started: {error.strerror}") from None

    async def ready(self) -> None:
        """Waits until it says that it is. CannotStart where it ends before, or takes too long."""
        limit = _seconds(os.environ)
        ended = asyncio.ensure_future(self.ended())
        looking = asyncio.ensure_future(self._look())
        try:
            await asyncio.wait([ended, looking], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise CannotStart(f"{self.title} ended before it was ready: {ended.result()}")
            if not looking.done():
                raise CannotStart(
                    f"{self.title} was not ready within {limit:g} s (RUNPOD_INIT_TIMEOUT): GET {self.asked_at} at port "
                    f"{self.health_port} (PORT_HEALTH) gave {self._last}"
                )
            self.answers_health = looking.result()
        finally:
            for one in (ended, looking):
                one.cancel()

    _last = "no answer"

    async def _look(self) -> bool:
        """Returns when it is ready: whether it said so itself, and can be asked again."""
        tries = 0
        while True:
            try:
                status = await self.health()
            except Unanswered:
                status = 0
            self._last = f"status {status}" if status else "no answer"
            if status and status != _INITIALISING and status < 500:
                if status != 200:
                    sys.stderr.write(f"{self.asked_at} answers {status}, not 200: the program counts as ready\n")
                return status == 200
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1

    async def health(self) -> int:
        """The status with which it says how it is. Unanswered."""
        return await self._health.status_of(self.asked_at)

    @property
    def title(self) -> str:
        """It, in words."""
        return f"the program {' '.join(self._command)}"

    async def ended(self) -> str:
        """Waits until it has ended, and says how."""
        assert self._process is not None
        code = await self._process.wait()
        return f"exit code {code}" if code >= 0 else f"signal {_name_of(-code)}"

    async def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, or does so now."""
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    async def end(self, patience_s: float) -> None:
        """Asks it to end, and sees to it that it does."""
        assert self._process is not None
        for signal_it in (self._process.terminate, self._process.kill):
            with contextlib.suppress(ProcessLookupError):
                signal_it()
            if await self.ends_within(patience_s):
                return

    async def stop(self) -> None:
        """Asks it to end and waits; whoever ends the worker has the patience, and the last word."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()


def _tie_to(worker: int) -> Any:
    """In the child: its own group, so that it is asked to end once, by us; and it does not outlive the worker."""

    def tie() -> None:
        os.setpgid(0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if sys.platform.startswith("linux") and _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != worker:
                os._exit(1)

    return tie


def _port_of(name: str) -> int:
    text = os.environ.get(name, "")
    if not text:
        return 0
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise CannotStart(f"{name}={text!r} is no port")
    return int(text)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _seconds(variables: Mapping[str, str]) -> float:
    try:
        return float(variables["RUNPOD_INIT_TIMEOUT"])
    except (KeyError, ValueError):
        return INIT_S


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
