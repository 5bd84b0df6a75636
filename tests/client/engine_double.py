"""A small engine for tests: the real frames over a real socket, one thread, no store and no workers.

It runs functions itself, or holds them until it is told to go on, and writes down what it was told.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runpod_flash._version import __version__
from runpod_flash.payload import codec, failures, functions
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import blobs, kinds, messages, rundir
from runpod_flash.wire.frame import Frame, FrameReader


class EngineDouble:
    """Starts and stops as often as a test likes; what it knows of functions is lost each time."""

    def __init__(self, home: Path, version: str = __version__) -> None:
        self.home = home
        self.version = version
        self.heads: list[Any] = []
        self.holding = False
        self.forgets = False
        self.refuses: list[messages.Refuse] = []
        self.extra: Callable[[Any, messages.Submit, int], None] | None = None
        self.full = 0  # so many calls are refused because the queue is full
        self.before_submit: Callable[[], None] | None = None  # happens once
        self.on_handover: Callable[[], None] | None = None
        self.starts = 0
        self.connections: list[Connection] = []
        self.there: set[Connection] = set()  # those, too, that are being sent away
        self.held: list[tuple[Connection, Frame, messages.Submit]] = []
        self.attached: list[tuple[Connection, int, str]] = []
        self.functions: dict[int, messages.FunctionSpec] = {}
        self.definitions: set[str] = set()
        self.jobs: dict[str, messages.Outcome] = {}
        self.parts: dict[str, list[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # ── lifecycle, from the test's thread ─────────────────────────────────────────────────────────

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(5)

    def stop(self) -> None:
        """Ends as if killed: no GOODBYE, whatever was under way is gone."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(5)
        self._loop = None

    def restart(self) -> None:
        self.stop()
        self.functions.clear()
        self.definitions.clear()
        self.held.clear()
        self.start()

    def do(self, work: Callable[[], Any]) -> Any:
        """Runs something on the engine's loop."""
        assert self._loop is not None

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    @property
    def leaves(self) -> bool:
        return self._stopping.is_set()

    def release(self) -> None:
        """Lets everything that is held run."""
        self.holding = False

        def work() -> None:
            held, self.held = self.held, []
            for connection, frame, head in held:
                connection.run(frame, head)

        self.do(work)

    def of(self, kind: type[Any]) -> list[Any]:
        """The heads of one type that arrived, in order."""
        return [head for head in list(self.heads) if isinstance(head, kind)]

    def wait_for(self, kind: type[Any], count: int = 1) -> list[Any]:
        """Waits until so many heads of a type have arrived."""
        end = time.monotonic() + 10
        while len(self.of(kind)) < count:
            assert time.monotonic() < end, f"{len(self.of(kind))} of {count} {kind.__name__} arrived"
            time.sleep(0.005)
        return self.of(kind)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.starts += 1
        path = rundir.prepare(self.home) / rundir.SOCKET
        path.unlink(missing_ok=True)
        server = await self._loop.create_unix_server(lambda: Connection(self), str(path))
        ready.set()
        await self._stopping.wait()
        server.close()
        for connection in self.connections:
            connection.transport.abort()
        # Whoever is just being accepted, which is a task of the loop's, is sent away by `connection_made`.
        if accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepting)
        while self.there:
            await asyncio.sleep(0)
        self.connections.clear()


class Connection(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, engine: EngineDouble) -> None:
        self.engine = engine
        self.reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.engine.there.add(self)
        if self.engine.leaves:
            transport.abort()
        else:
            self.engine.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.there.discard(self)
        if self in self.engine.connections:
            self.engine.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        for frame in self.reader.feed(data):
            head = messages.decode(frame)
            self.engine.heads.append(head)
            getattr(self, f"on_{kinds.NAMES[frame.kind].lower()}")(frame, head)

    def say(self, head: messages.Head, frame: Frame | None, parts: Any = (), flags: int = kinds.END) -> None:
        self.transport.write(head.encode(parts, sid=frame.sid if frame else 0, flags=flags))

    def on_hello(self, frame: Frame, head: messages.Hello) -> None:
        if self.engine.refuses:
            self.say(self.engine.refuses.pop(0), None, flags=0)
            self.transport.close()
            return
        folder = str(self.engine.home)
        self.say(
            messages.Welcome(
                proto=1,
                engine="double",
                start_no=self.engine.starts,
                version=self.engine.version,
                pid=0,
                data_dir=folder,
                blob_dir=f"{folder}/blobs",
                durability="process",
                lease_ms=1,
                beat_ms=1,
            ),
            None,
            flags=0,
        )

    def on_admin(self, frame: Frame, head: messages.Admin) -> None:
        self.say(messages.Ok(), frame)
        self.say(messages.Goodbye(reason="handover"), None, flags=0)
        if self.engine.on_handover:
            self.engine.on_handover()
        self.transport.close()

    def on_lookup(self, frame: Frame, _head: messages.Lookup) -> None:
        """Nothing is deployed here."""
        error = messages.Error(code="not_deployed", what="nothing is deployed")
        self.say(error, frame, flags=kinds.END | kinds.FAILED)

    def on_declare(self, frame: Frame, head: messages.Declare) -> None:
        # Numbers that no other start of this engine gave.
        number = self.engine.starts * 1000 + len(self.engine.functions) + 1
        self.engine.functions[number] = head.function
        missing = [digest for digest in head.function.defs if digest not in self.engine.definitions]
        self.say(messages.Declared(fn=number, endpoint="ep", missing=missing), frame)

    def on_put_def(self, frame: Frame, head: messages.PutDef) -> None:
        TABLE.add(head.digest, frame.parts[0])
        self.engine.definitions.add(head.digest)
        self.say(messages.Ok(), frame)

    def on_query(self, frame: Frame, head: messages.Query) -> None:
        self.say(messages.Rows(rows=[]), frame)

    def on_submit(self, frame: Frame, head: messages.Submit) -> None:
        happens, self.engine.before_submit = self.engine.before_submit, None
        if happens:
            happens()
        if blobs.missing(self.engine.home / "blobs", head.blobs):
            self.say(messages.Error(code="no_blob", what="gone"), frame, flags=kinds.END | kinds.FAILED)
            return
        if self.engine.full:
            self.engine.full -= 1
            error = messages.Error(code="queue_full", what="full", retry_after_ms=5)
            self.say(error, frame, flags=kinds.END | kinds.FAILED)
            return
        if self.engine.forgets or head.fn not in self.engine.functions:
            self.engine.forgets = False
            error = messages.Error(code="unknown_function", what=f"no function {head.fn}")
            self.say(error, frame, flags=kinds.END | kinds.FAILED)
        elif not head.wait:
            existing = head.job in self.engine.jobs
            self.say(messages.Accepted(job=head.job, existing=existing), frame)
            self.engine.held.append((self, frame, head))
        elif self.engine.holding:
            self.engine.held.append((self, frame, head))
        else:
            self.run(frame, head)

    def on_drop_blobs(self, frame: Frame, head: messages.DropBlobs) -> None:
        for blob in head.blobs:
            blobs.retire(self.engine.home / "blobs", blob).unlink(missing_ok=True)
        self.say(messages.Ok(), frame)

    def on_cancel(self, frame: Frame, head: messages.Cancel) -> None:
        self.say(messages.Ok(), frame)

    def on_attach(self, frame: Frame, head: messages.Attach) -> None:
        outcome = self.engine.jobs.get(head.job)
        if not head.wait:
            status = outcome.status if outcome else "IN_QUEUE"
            self.say(messages.State(job=head.job, status=status), frame)
        elif outcome is not None:
            self.say(outcome, frame, self.engine.parts[head.job])
        else:
            error = messages.Error(code="no_job", what=f"there is no job {head.job}")
            self.say(error, frame, flags=kinds.END | kinds.FAILED)

    def run(self, frame: Frame, head: messages.Submit) -> None:
        """Runs the function here and now, and sends the outcome."""
        if self.engine.extra:
            self.engine.extra(self, head, frame.sid)
        function = functions.load_function(self.engine.functions[head.fn].digest)
        folder = self.engine.home / "blobs"
        facts: dict[str, Any] = {}
        parts: list[Any] = []
        try:
            args, kwargs = codec.decode(blobs.gather(folder, frame.parts, head.blobs))
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = _drive(result)
            parts = list(codec.encode(result).parts)
            facts = {"status": "COMPLETED", "values": len(parts)}
        except Exception as error:  # noqa: BLE001 - it is user code
            failure = failures.record(error)
            parts = list(failure.parts)
            facts = {"status": "FAILED", "excs": len(parts), "error": messages.ErrorInfo(**failure.error)}
        inline, moved = blobs.spill(parts, lambda part: blobs.write(folder, part))
        outcome = messages.Outcome(
            job=head.job,
            attempts=1,
            created_at_ms=1_000,
            started_at_ms=2_000,
            ended_at_ms=3_000,
            worker="w1",
            blobs=moved,
            **facts,
        )
        self.engine.jobs[head.job] = outcome
        self.engine.parts[head.job] = list(inline)
        if head.wait and not self.transport.is_closing():
            self.say(outcome, frame, inline)


def _drive(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("functions of these tests must not wait")
