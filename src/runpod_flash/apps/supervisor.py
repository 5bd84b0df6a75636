"""Who starts the process that serves, replaces it when a file changes, and ends it.

One process serves; another one has imported all but the user's code and waits for a change. The port is held here, so
no connection is refused while one takes over from the other: what comes in between waits. Workers are the engine's, and
stay warm. A version that cannot be loaded leaves the one before it in its place; where there is none, every request is
told why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from runpod_flash.apps.apology import Apology
from runpod_flash.apps.target import Target

WATCHED: Final = (".py", ".env", "pyproject.toml")
"""Ends of names of files whose change is one of the app."""
_SILENCE_S: Final = 1.0
"""For an app that loads; then it is said that it does."""
_DEBOUNCE_MS: Final = 60
_STEP_MS: Final = 20
_HANDOVER_S: Final = 0.3
"""How long the new version waits for the old one to be gone, before both go on beside each other."""
_REQUESTS_S: Final = 10
"""For requests that the old version has under way."""
_GRACE_S: Final = 3
"""The same when all ends; and as long again for the app's own end."""
_IDLE_END_S: Final = 1
"""For the end of a process that serves nobody."""


class Audience(Protocol):
    """Is told what happens."""

    def loading(self, *, serving: bool) -> None:
        """The app takes a while to load; whether the version before answers meanwhile."""

    def loaded(self, facts: dict[str, Any], *, seconds: float) -> None:
        """The app serves."""

    def failed(self, error: str, *, serving: bool, watching: bool) -> None:
        """The app as it is now cannot be served, and why; whether the version before goes on, or a change may help."""

    def changed(self, paths: list[Path]) -> None:
        """These files did; the app is loaded anew."""

    def unwatched(self, why: str) -> None:
        """Files cannot be watched any more; what serves goes on."""

    def ended(self, code: int) -> None:
        """The process that served went away by itself."""


@dataclass(frozen=True)
class Wishes:
    """What the person at the terminal asked for."""

    reload: bool
    patient: bool
    """Whether an app that cannot be loaded at first is waited for, as long as files are watched."""
    provision: bool
    loopback: bool


class Supervisor:
    """One project on one port."""

    def __init__(self, target: Target, listener: socket.socket, wishes: Wishes, audience: Audience) -> None:
        self._target = target
        self._listener = listener
        self._wishes = wishes
        self._audience = audience
        self._serving: _Child | None = None
        self._spare: _Child | None = None
        self._has_served = False
        self._apology: Apology | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serves until it is told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        changes = _Changes(self._target.folder, self._stop) if self._wishes.reload else None
        try:
            worked = await self._start()
            if not worked and not (self._wishes.reload and self._wishes.patient):
                return 0 if self._stop.is_set() else 1
            if changes is None:
                return await self._until_stopped()
            async for paths in changes:
                self._audience.changed(paths)
                await self._start()
            if changes.failure:
                self._audience.unwatched(changes.failure)
                await self._stop.wait()
            return 0
        finally:
            await self._end()
            if changes is not None:
                await changes.close()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        """The first time all end in peace; the second time at once."""
        if self._stop.is_set():
            for child in (self._serving, self._spare):
                if child is not None:
                    child.kill()
        self._stop.set()

    async def _start(self) -> bool:
        """Puts the app as it is now in the place of what served; whether it serves."""
        began = asyncio.get_running_loop().time()
        child = self._spare or await self._child()
        self._spare = None
        facts = await self._loaded(child)
        if facts["said"] == "loaded":
            await self._make_room()
            self._serving = child
            child.say("serve")
            started = await self._answer(child)
            if started["said"] == "serving":
                seconds = asyncio.get_running_loop().time() - began
                self._has_served = True
                self._audience.loaded({**facts, **await self._answer(child)}, seconds=seconds)
                await self._stand_by(child)
                return True
            facts = started
        if self._serving is child:
            self._serving = None
        self._let_go(child, 0)
        if not self._stop.is_set():
            await self._apologise(facts["error"])
        return False

    async def _loaded(self, child: _Child) -> dict[str, Any]:
        """What came of loading the app, which may take as long as it likes; but then not in silence."""
        loop = asyncio.get_running_loop()
        telling = loop.call_later(_SILENCE_S, lambda: self._audience.loading(serving=self._serving is not None))
        try:
            child.say("load")
            return await self._answer(child)
        finally:
            telling.cancel()

    async def _apologise(self, error: str) -> None:
        watching = self._wishes.reload and (self._wishes.patient or self._has_served)
        self._audience.failed(error, serving=self._serving is not None, watching=watching)
        if watching:
            await self._stand_by(None)
        if self._serving is None and watching:
            if self._apology is not None:
                await self._apology.close()
            self._apology = await Apology.begin(self._listener, error)

    async def _stand_by(self, child: _Child | None) -> None:
        if child is not None:
            self._watch(child)
        if self._wishes.reload and not self._stop.is_set() and self._spare is None:
            self._spare = await self._child()

    async def _answer(self, child: _Child) -> dict[str, Any]:
        """What the child says next; an error if it goes away, or if all are to stop meanwhile."""
        stopped = asyncio.create_task(self._stop.wait())
        answer = asyncio.create_task(child.answer())
        try:
            await asyncio.wait({stopped, answer}, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else {"said": "stopped"}
        finally:
            for task in (stopped, answer):
                task.cancel()
            await asyncio.gather(stopped, answer, return_exceptions=True)

    async def _make_room(self) -> None:
        """Whoever answers at the port leaves; the next one need not wait for his last requests."""
        if self._apology is not None:
            await self._apology.close()
            self._apology = None
        if self._serving is not None:
            task = self._let_go(self._serving, _REQUESTS_S)
            self._serving = None
            await asyncio.wait({task}, timeout=_HANDOVER_S)

    def _let_go(self, child: _Child, seconds: int) -> asyncio.Task[None]:
        task = asyncio.create_task(child.end(seconds), name="end of a process that served")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    def _watch(self, child: _Child) -> None:
        async def watch() -> None:
            code = await child.process.wait()
            if self._serving is child and not self._stop.is_set():
                self._serving = None
                self._audience.ended(code)
                if not self._wishes.reload:
                    self._stop.set()

        task = asyncio.create_task(watch(), name="watching the process that serves")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _until_stopped(self) -> int:
        await self._stop.wait()
        return 0 if self._serving is not None else 1

    async def _end(self) -> None:
        self._stop.set()
        for child, seconds in ((self._serving, _GRACE_S), (self._spare, 0)):
            if child is not None:
                self._let_go(child, seconds)
        if self._apology is not None:
            await self._apology.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _child(self) -> _Child:
        return await _Child.start(self._target, self._listener, self._wishes)


class _Child:
    """A process that serves, or will."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, target: Target, listener: socket.socket, wishes: Wishes) -> _Child:
        ours, theirs = socket.socketpair()
        try:
            words = (theirs.fileno(), listener.fileno(), int(wishes.loopback), int(wishes.provision))
            with _ctrl_c_held_back():
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "runpod_flash.apps.serving",
                    *map(str, words),
                    *target.words(),
                    pass_fds=(theirs.fileno(), listener.fileno()),
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, *await asyncio.open_connection(sock=ours, limit=1 << 26))

    def say(self, word: str) -> None:
        """Tells it what to do; a process that is gone is noticed by its answer."""
        with contextlib.suppress(OSError):
            self._writer.write(f"{word}\n".encode())

    async def answer(self) -> dict[str, Any]:
        """What it says next."""
        line = b""
        with contextlib.suppress(OSError):  # it ended before it had read all that it was told
            line = await self._reader.readline()
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        code = await self.process.wait()
        return {"said": "failed", "error": f"the process that loads the app ended with exit code {code}"}

    async def end(self, seconds: int) -> None:
        """Returns when it is gone, its requests ended within so many seconds."""
        self.say(f"stop {seconds}")
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        try:
            await asyncio.wait_for(self.process.wait(), seconds + _GRACE_S if seconds else _IDLE_END_S)
        except asyncio.TimeoutError:
            self.kill()
            await self.process.wait()
        finally:
            self._writer.close()

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """What is started within is deaf to the Ctrl-C of the terminal, until it says itself what is to become of it.

    Only a mask reaches a program's first instruction: whatever it does by itself comes after a second of imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Changes:
    """Files of a folder that have changed, those of one moment together. What changes meanwhile is not lost."""

    def __init__(self, folder: Path, stop: asyncio.Event) -> None:
        self._folder = folder
        self._stop = stop
        self.failure = ""
        """Why there are no more of them, though nobody said stop."""
        self._found: asyncio.Queue[list[Path] | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._watch(), name="watching files")

    async def __aiter__(self) -> AsyncIterator[list[Path]]:
        while (paths := await self._found.get()) is not None:
            while not self._found.empty():
                paths += self._found.get_nowait() or []
            if not self._stop.is_set():
                yield sorted(set(paths))

    async def close(self) -> None:
        """Looks no more."""
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001 - too many files, or names that are no text: it is told
            cause: BaseException = error
            while inner := getattr(cause, "exceptions", ()):  # a group, of one
                cause = inner[0]
            self.failure = f"{type(cause).__name__}: {cause}"
        finally:
            self._found.put_nowait(None)

    async def _look(self) -> None:
        import watchfiles  # noqa: PLC0415 - only where files are watched

        async for found in watchfiles.awatch(
            self._folder,
            watch_filter=watchfiles.DefaultFilter(
                ignore_dirs=(*watchfiles.DefaultFilter.ignore_dirs, ".flash", "venv")
            ),
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=self._stop,
            raise_interrupt=False,
        ):
            if paths := _of_interest(path for _change, path in found):
                self._found.put_nowait(paths)


def _of_interest(paths: Iterable[str]) -> list[Path]:
    return sorted(Path(path) for path in set(paths) if path.endswith(WATCHED))
