"""A real engine on a real store, with stand-ins for its peers and with time that passes when the test says so.

`Scene` starts, kills and restarts engines. `ClientSide`, `HostSide` and `WorkerSide` behave as the programs behind
those links do, as far as the engine can tell; what they were sent is kept, decoded. Nothing of the engine is
replaced: frames are encoded and decoded, turns are committed, timers are the loop's.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from runpod_flash.engine.clock import Clock
from runpod_flash.engine.engine import Engine
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.store.sqlite import open_store
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec, RuntimeSpec
from runpod_flash.model.job import JobPolicy, JobState, check_transition, new_job_id
from runpod_flash.providers.base import HostProcess
from runpod_flash.settings import load
from runpod_flash.wire import frame, kinds, messages
from runpod_flash.wire.messages import Current, Done, ErrorInfo, Exited, FunctionSpec, Head, Outcome, Start

H = TypeVar("H", bound=Head)

RUNTIME = RuntimeSpec("r1", "1", "/flash", "/cloudpickle.py", "/msgspec")
NOBODY = 1 << 30
"""A process id that no system gives out."""
_EPOCH_MS = 1_700_000_000_000


class Said(NamedTuple):
    """One frame that the engine sent."""

    head: Any
    parts: tuple[bytes, ...]
    sid: int
    flags: int


class Time(Clock):
    """Both clocks, moved by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def wall_ms(self) -> int:
        return _EPOCH_MS + round(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


class ManualLoop(asyncio.SelectorEventLoop):
    """A loop in which no time passes by itself."""

    def __init__(self, time: Time) -> None:
        self._at = time
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        super().__init__()

    def time(self) -> float:
        return self._at.now

    def call_at(  # type: ignore[override]  # as asyncio has it, but for the type variable
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        while self._timers and (self._timers[0][2].cancelled() or self._timers[0][0] < self._at.now):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def spin(self) -> None:
        """Runs until nothing is left to run now."""
        ready: Any = self.__dict__["_ready"]
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not ready:
                return


class Wire:
    """One link as the engine sees it."""

    def __init__(self, scene: Scene, role: str, hears: Callable[[Said], None] | None = None) -> None:
        self.role, self.pid, self.state = role, os.getpid(), None
        self.said: list[Said] = []
        self.closed = False
        self._scene = scene
        self._engine = scene.engine
        scene.wires.append(self)
        self.hears = hears
        self._reader = frame.FrameReader()

    def send(self, data: bytes) -> None:
        if self.closed:
            return
        for each in self._reader.feed(data):
            said = Said(messages.decode(each), each.parts, each.sid, each.flags)
            self.said.append(said)
            if self.hears is not None:
                self._scene.loop.call_soon(self.hears, said)

    def close(self) -> None:
        """By either side; the engine hears of it a moment later, as of a connection that was lost."""
        if not self.closed:
            self.closed = True
            self._scene.loop.call_soon(self._engine.left, self)

    def says(self, head: Head, parts: Sequence[frame.Buffer] = (), sid: int = 0) -> None:
        """The peer sends a frame."""
        if not self.closed:
            for each in frame.FrameReader().feed(head.encode(parts, sid=sid)):
                self._engine.received(self, each)

    def all(self, kind: type[H]) -> list[H]:
        """The heads of every frame of that type that came so far."""
        return [said.head for said in self.said if type(said.head) is kind]

    def take(self, kind: type[H]) -> list[H]:
        """The same, and forgets them."""
        found = self.all(kind)
        self.said = [said for said in self.said if type(said.head) is not kind]
        return found


class Process:
    """A host that was "started"."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def fileno(self) -> int:
        return -1

    def reap(self) -> int | None:
        return None

    def terminate(self) -> None: ...
    def close(self) -> None: ...


class Provider:
    """Starts nothing, and remembers the keys it was given."""

    name = "stand-in"

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.pid = os.getpid()
        self.error: OSError | None = None

    def start(self, socket: Path, home: Path, rundir: Path, key: str) -> HostProcess:
        if self.error is not None:
            raise self.error
        self.keys.append(key)
        return Process(self.pid)


class Scene:
    """Engines on one data folder, one after the other."""

    def __init__(self, folder: Path, *, durability: str = "process", retention_ms: tuple[int, int] = (60_000, 120_000)):
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.path = self.home / "store.sqlite"
        self.time = Time()
        self.provider = Provider()
        self.durability = durability
        self.retention_ms = retention_ms
        self.ended_hosts: list[Callable[[], None]] = []
        self.asked_to_stop: list[str] = []
        self.executions: Counter[str] = Counter()  # calls that workers began
        self.host: HostSide | None = None
        self.wires: list[Wire] = []  # to the engine that runs
        self._reader: sqlite3.Connection | None = None  # of its store
        self.start()

    # ── engines ───────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """A new engine on what the last one left."""
        self.loop = ManualLoop(self.time)
        self.store: Store = open_store(self.path, durability=self.durability, retention_ms=self.retention_ms)
        self.loop.run_until_complete(self._make())
        self.engine.start()
        self.spin()

    async def _make(self) -> None:
        self.engine = Engine(
            store=self.store,
            settings=load({"FLASH_HOME": str(self.home)}, project=self.home),
            provider=self.provider,
            rundir=self.home,
            watch=lambda _process, ended: self.ended_hosts.append(ended),
            clock=self.time,
        )
        self.engine.on_stop_request = lambda verb, _args: self.asked_to_stop.append(verb)

    def kill(self) -> None:
        """kill -9 of the engine: what is not committed is lost, and so is every connection."""
        for wire in self.wires:
            wire.closed = True
        self.wires.clear()
        self.ended_hosts.clear()
        self.wait_for_thread()
        self._stop_reading()
        self.store.rollback()
        self.store.close()
        self.loop.close()

    def restart(self) -> None:
        """Killed and started anew."""
        self.kill()
        self.start()

    def stop(self, *, reason: str = "stop", stop_host: bool = True, grace_s: float = 0.0) -> None:
        """The engine leaves in good order."""
        task = self.loop.create_task(self.engine.stop(reason=reason, stop_host=stop_host, grace_s=grace_s))
        self.advance(grace_s + 0.1)
        assert task.done()
        task.result()

    def spin(self) -> None:
        """Everything happens that happens now, also in the store's thread; for a callback, after it has returned."""
        if self.loop.is_running():
            return
        self.loop.spin()
        self.wait_for_thread()
        self.loop.spin()

    def wait_for_thread(self) -> None:
        """The store's thread has done what it was asked for so far."""
        read = threading.Event()
        try:
            self.engine.state.turn.in_thread(read.set, lambda _result, _error: None)
        except RuntimeError:  # stopped
            return
        assert read.wait(10)

    def advance(self, seconds: float) -> None:
        """Time passes, timer by timer."""
        end = self.time.now + seconds
        self.spin()
        while (due := self.loop.next_timer()) is not None and due <= end:
            self.time.now = max(self.time.now, due) + 1e-9
            self.spin()
        self.time.now = max(self.time.now, end)
        self.spin()

    # ── peers ─────────────────────────────────────────────────────────────────────────────────────

    def client(self) -> ClientSide:
        """A program connects."""
        return ClientSide(self)

    def host_up(self, **habits: Any) -> HostSide:
        """The host that the engine has started connects."""
        self.await_a_wish_for_a_host()
        self.host = HostSide(self, self.provider.keys[-1], **habits)
        self.host.join()
        self.spin()
        return self.host

    def await_a_wish_for_a_host(self) -> None:
        """Somebody declares something, and a pause after hosts that did not come up is over."""
        for _ in range(100):
            if self.engine.state.host is not None:
                return
            somebody = self.client()
            somebody.declare("wish", endpoint="wish")
            somebody.leave()
            if self.engine.state.host is None:
                self.advance(0.5)
        raise AssertionError("the engine wants no host")

    def back(self) -> None:
        """After a restart: the host and its workers connect again."""
        assert self.host is not None
        self.host.join()
        self.spin()

    def kill_host(self) -> None:
        """kill -9 of the host, and so of its workers."""
        assert self.host is not None
        self.host.die()
        self.end_host()

    def end_host(self) -> None:
        """The process of the host is gone."""
        every, self.ended_hosts = self.ended_hosts, []
        for ended in every:
            ended()
        self.spin()

    # ── what is on record ─────────────────────────────────────────────────────────────────────────

    def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows of the store, read beside the engine."""
        if self._reader is None:
            self._reader = sqlite3.connect(self.path, isolation_level=None)
            self._reader.row_factory = sqlite3.Row
        return [dict(row) for row in self._reader.execute(query, arguments).fetchall()]

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def job(self, job: str) -> dict[str, Any]:
        """One job's row."""
        (row,) = self.rows("SELECT * FROM jobs WHERE id = ?", job)
        return row

    def state(self, job: str) -> JobState:
        """One job's state on record."""
        return JobState(self.job(job)["state"])

    def attempts(self, job: str) -> list[str]:
        """How each recorded attempt of a job ended, oldest first."""
        return [row["end"] for row in self.rows("SELECT end FROM attempts WHERE job = ? ORDER BY epoch", job)]

    def watch_transitions(self) -> None:
        """Keeps every change of state from here on, for `check`."""
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(
                """CREATE TABLE changes (seq INTEGER PRIMARY KEY, job TEXT, before INTEGER, after INTEGER);
                   CREATE TRIGGER changed AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
                     INSERT INTO changes (job, before, after) VALUES (new.id, old.state, new.state); END;"""
            )

    def check(self) -> None:
        """What is always true, between any two events."""
        self._check_counters()
        for row in self.rows("SELECT job, before, after FROM changes ORDER BY seq"):
            check_transition(JobState(row["before"]), JobState(row["after"]), job=row["job"])
        completed = Counter(row["job"] for row in self.rows("SELECT job FROM changes WHERE after = 4"))
        assert all(count == 1 for count in completed.values()), f"completed twice: {completed}"
        by_hand = Counter(row["job"] for row in self.rows("SELECT job FROM events WHERE kind = 'retry'"))
        for row in self.rows("SELECT id, attempt, max_retries FROM jobs"):
            job, ran = row["id"], self.executions[row["id"]]
            assert ran <= row["attempt"], f"job {job} ran {ran} times, on record are {row['attempt']} attempts"
            assert row["max_retries"] > 0 or ran <= 1 + by_hand[job], f"job {job} was promised one start, and had {ran}"

    def _check_counters(self) -> None:
        state = self.engine.state
        ready = {row["pool_id"]: (row["n"], row["size"]) for row in self.rows(
            "SELECT pool_id, count(*) AS n, sum(length(args)) AS size FROM jobs WHERE state = 0 GROUP BY pool_id"
        )}  # fmt: skip
        assert {pool.id: pool.queued for pool in state.pools.values() if pool.queued} == {
            pool: count for pool, (count, _size) in ready.items()
        }
        for endpoint in state.endpoints.values():
            assert endpoint.args_bytes == sum(ready.get(pool.id, (0, 0))[1] for pool in endpoint.pools)
        at_workers = {row["id"] for row in self.rows("SELECT id FROM jobs WHERE state IN (2, 3)")}
        assert set(state.active) == at_workers

    def close(self) -> None:
        """The end of the test."""
        self._stop_reading()
        if not self.loop.is_closed():
            self.wait_for_thread()
            self.store.close()
            self.loop.close()


class ClientSide:
    """A program that calls functions."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.wire = Wire(scene, "client")
        self.patient = True  # waits for the store's thread
        self._sid = -1
        scene.engine.links.client_joined(self.wire, hello("client"))

    def next_sid(self) -> int:
        """A new stream."""
        self._sid += 2
        return self._sid

    def declaration(self, endpoint: str, function: FunctionSpec, **limits: Any) -> messages.Declare:
        """A DECLARE; `limits` are fields of the endpoint, or of the pool where that has them."""
        pools = {
            name: limits.pop(name) for name in ("variables", "requirements", "gpus", "memory_mb") if name in limits
        }
        limits = {"idle_timeout_s": 1e9, **limits}
        return messages.Declare(
            endpoint=EndpointSpec(app="app", env="dev", name=endpoint, **limits),
            pool=PoolSpec(interpreter="/usr/bin/python3", abi="cpython-311", runtime=RUNTIME, **pools),
            function=function,
        )

    def declare(
        self, name: str = "f", *, endpoint: str = "e", version: str = "v1", is_async: bool = False, **limits: Any
    ) -> int:
        """Declares a function, ships it, and returns its number."""
        digest = f"{name}-{version}"
        function = FunctionSpec(name=f"m:{name}", version=version, digest=digest, defs=[digest], is_async=is_async)
        declared = self.ask(self.declaration(endpoint, function, **limits))
        for missing in declared.missing:
            self.ask(messages.PutDef(digest=missing), [f"code of {missing}".encode()])
        number: int = declared.fn
        return number

    def submit(
        self, fn: int, args: bytes = b"arguments", *, job: str = "", wait: bool = True, logs: bool = False,
        idem: str | None = None, stream: messages.Position | None = None, **policy: Any,
    ) -> str:  # fmt: skip
        """Calls a function; the id of the job. What is answered comes on a stream of its own."""
        job = job or new_job_id()
        head = messages.Submit(job=job, fn=fn, policy=JobPolicy(**policy), wait=wait, logs=logs, idem=idem)
        head.stream = stream
        self.says(head, [args])
        return job

    def says(self, head: Head, parts: Sequence[bytes] = ()) -> int:
        """Sends a request; its stream."""
        sid = self.next_sid()
        self.wire.says(head, parts, sid)
        if self.patient:
            self._scene.spin()
        else:
            self._scene.loop.spin()
        return sid

    def ask(self, head: Head, parts: Sequence[bytes] = ()) -> Any:
        """Sends a request and returns the head of its answer."""
        return self.answer(self.says(head, parts))

    def answer(self, sid: int) -> Any:
        """The head of the last frame of a stream, which must have ended."""
        said = [each for each in self.wire.said if each.sid == sid]
        assert said, "no answer"
        assert said[-1].flags & kinds.END, f"the stream goes on after {said[-1].head}"
        return said[-1].head

    def outcomes(self, job: str) -> list[Outcome]:
        """Every OUTCOME of a job that came."""
        return [head for head in self.wire.all(Outcome) if head.job == job]

    def outcome(self, job: str) -> Outcome:
        """The one OUTCOME of a job."""
        (head,) = self.outcomes(job)
        return head

    def query(self, what: str, limit: int = 100, cursor: str = "", **wanted: Any) -> list[dict[str, Any]]:
        """The rows of a QUERY."""
        rows: list[dict[str, Any]] = self.ask(messages.Query(what=what, filter=wanted, limit=limit, cursor=cursor)).rows
        return rows

    def leave(self) -> None:
        """The program ends."""
        self.wire.close()
        self._scene.spin()


class HostSide:
    """A host. It builds at once and starts workers at once, unless `habits` say otherwise."""

    def __init__(
        self, scene: Scene, key: str, *, builds: str = "ready", launches: str = "ready", cpus: int = 4,
        memory_mb: int = 8000, gpus: int = 0,
    ) -> None:  # fmt: skip
        self._scene = scene
        self._key = key
        self.builds = builds  # ready | failed | never
        self.launches = launches  # ready | error | never
        self.machine = messages.Machine(
            cpus=cpus, memory_mb=memory_mb, gpus=[(n, "NVIDIA L4", 24_000) for n in range(gpus)]
        )
        self.workers: dict[str, WorkerSide] = {}
        self.kept: list[Exited] = []
        self.refused: messages.Refuse | None = None
        self.beats = True
        self.wire = Wire(scene, "host", self._hears)

    def join(self) -> None:
        """Connects, tells what it kept, and hands its workers new streams."""
        self.wire = Wire(self._scene, "host", self._hears)
        present = [messages.WorkerPresence(worker.id, os.getpid()) for worker in self.workers.values()]
        greeting = hello("host", machine=self.machine, workers=present, key=self._key)
        self.refused = self._scene.engine.links.host_joined(self.wire, greeting)
        if self.refused is None:
            for each in self.kept:
                self.wire.says(each, sid=1)
            for worker in list(self.workers.values()):
                worker.connect()
            self._beat(self.wire)

    def _beat(self, wire: Wire) -> None:
        """For as long as that connection stands."""
        if self.beats and wire is self.wire and not wire.closed:
            wire.says(messages.Beat(workers=[(name, 1000, 10) for name in self.workers]))
            self._scene.loop.call_later(5, self._beat, wire)

    def _hears(self, said: Said) -> None:
        if self.wire.closed:
            return
        head = said.head
        if isinstance(head, messages.EnsureEnv):
            self.build(head)
        elif isinstance(head, messages.Launch):
            self.launch(head)
        elif isinstance(head, messages.Stop):
            if worker := self.workers.get(head.worker):
                worker.die(why="stop", signal=9)
            else:
                self.report(Exited(worker=head.worker, why="stop"))
        elif isinstance(head, messages.Measure):
            uses = [{"worker": name, "processes": 2, "memory_kb": 1500, "cpu_percent": 70} for name in self.workers]
            cards = [{"gpu": index, "name": name, "percent": 30, "memory_mb": memory, "memory_used_mb": 9}
                     for index, name, memory in self.machine.gpus]  # fmt: skip
            self.wire.says(messages.Rows(rows=uses + cards), sid=said.sid)
        elif isinstance(head, messages.Ok):
            self.kept.clear()
        elif isinstance(head, messages.Goodbye) and head.stop_host:
            self.workers.clear()

    def build(self, head: messages.EnsureEnv) -> None:
        """Says how a build went."""
        if self.builds == "ready":
            self.wire.says(messages.EnvState(env=head.env, phase="ready", path="/env", lock="lock-1"))
        elif self.builds == "failed":
            self.wire.says(messages.EnvState(env=head.env, phase="failed", error="no such package: scikit-lern"))

    def launch(self, head: messages.Launch) -> None:
        """Starts a worker, or fails to."""
        if self.launches == "error":
            self.wire.says(messages.Launched(worker=head.worker, error="the interpreter is gone"))
        elif self.launches != "never":
            worker = self.workers[head.worker] = WorkerSide(self._scene, self, head.worker, head.key)
            self.wire.says(messages.Launched(worker=head.worker, pid=os.getpid(), how="fork"))
            worker.connect()

    def report(self, head: Exited) -> None:
        """EXITED: kept until it is acknowledged."""
        self.kept.append(head)
        self.wire.says(head, sid=1)

    def die(self) -> None:
        """Killed, and all its workers with it; the next host finds their pages."""
        self.wire.close()
        for worker in list(self.workers.values()):
            worker.wire.close()
        self._scene.spin()

    def successor(self) -> HostSide:
        """The next host that the engine starts reports what it finds of this one."""
        self._scene.await_a_wish_for_a_host()
        heir = HostSide(self._scene, self._scene.provider.keys[-1])
        heir.kept = [Exited(worker=one.id, why="host", current=one.current) for one in self.workers.values()]
        self._scene.host = heir
        heir.join()
        self._scene.spin()
        return heir


class WorkerSide:
    """A worker: runs its STARTs in order, keeps each DONE until it is acknowledged."""

    def __init__(self, scene: Scene, host: HostSide, name: str, key: str) -> None:
        self._scene = scene
        self._host = host
        self.id = name
        self.key = key
        self.held: dict[tuple[str, int], tuple[Done, tuple[bytes, ...]] | None] = {}
        self.waiting: deque[Start] = deque()
        self.running: Start | None = None
        self.current: Current | None = None  # its status page
        self.ready_by_itself = True
        self.wire = Wire(scene, "worker", self._hears)

    @property
    def jobs(self) -> list[str]:
        """The jobs that it has, the one that runs first."""
        return [start.job for start in (self.running, *self.waiting) if start is not None]

    def deafen(self) -> None:
        """It reads nothing any more: its call holds the interpreter's lock, or the stream is about to be lost."""
        self.wire.hears = None

    def connect(self, *, ready: bool = True) -> messages.Refuse | None:
        """A new stream, opened by its host."""
        self.wire.close()
        self.wire = Wire(self._scene, "worker", self._hears)
        refused = self._scene.engine.links.worker_joined(self.wire, hello("worker", worker=self.id, key=self.key))
        if refused is None and ready:
            self.ready()
        return refused

    def ready(self) -> None:
        """READY, and every result that was not acknowledged."""
        self.wire.says(messages.Ready(worker=self.id, held=list(self.held)))
        for result in list(self.held.values()):
            if result is not None:
                self.wire.says(*result)

    def _hears(self, said: Said) -> None:
        head = said.head
        if isinstance(head, Start):
            self._acknowledged(head.acks)
            if (head.job, head.epoch) not in self.held:
                self.held[head.job, head.epoch] = None
                self.waiting.append(head)
                self._begin_next()
        elif isinstance(head, messages.Ack):
            self._acknowledged(head.acks)
        elif isinstance(head, messages.Cancel):
            for start in [one for one in self.waiting if (one.job, one.epoch) == (head.job, head.epoch)]:
                self.waiting.remove(start)
                self.finish(start, Done(job=start.job, epoch=start.epoch, ok=False, error=RELEASED))

    def _acknowledged(self, acks: Sequence[tuple[str, int, str]]) -> None:
        for job, epoch, _verdict in acks:
            self.held.pop((job, epoch), None)

    def _begin_next(self) -> None:
        if self.running is None and self.waiting:
            self.running = start = self.waiting.popleft()
            self.current = Current(start.job, start.epoch, start.attempt)
            self._scene.executions[start.job] += 1

    def finish(self, start: Start, done: Done, parts: tuple[bytes, ...] = (), *, send: bool = True) -> None:
        """A call is over: its DONE is held, and sent."""
        self.held[start.job, start.epoch] = done, parts
        if start is self.running:
            self.running = None
        self._begin_next()
        if send:
            self.wire.says(done, parts)

    def done(self, value: bytes = b"value", *, run_us: int = 5000, send: bool = True, **fields: Any) -> str:
        """The call that runs returns; the job. Not `send`: its DONE still lies in the stream."""
        assert self.running is not None
        start = self.running
        head = Done(job=start.job, epoch=start.epoch, ok=True, values=1, run_us=run_us, **fields)
        self.finish(start, head, (value,), send=send)
        if send:
            self._scene.spin()
        return start.job

    def fails(self, kind: str = "user", **fields: Any) -> str:
        """The call that runs raises; the job."""
        assert self.running is not None
        start = self.running
        error = ErrorInfo(type="ValueError", message="bad input", kind=kind)
        self.finish(start, Done(job=start.job, epoch=start.epoch, ok=False, error=error, **fields))
        self._scene.spin()
        return start.job

    def yields(self, first: int, count: int, size: int = 1) -> None:
        """The call that runs yields items, or sends some again."""
        assert self.running is not None
        start = self.running
        for n in range(first, first + count):
            head = messages.Chunk(job=start.job, epoch=start.epoch, n=n)
            self.wire.says(head, [b"%d" % n + b" " * (size - 1)])
        self._scene.spin()

    def taken(self) -> int:
        """Items before that one it may let go of."""
        return max((head.upto for head in self.wire.all(messages.Taken)), default=0)

    def die(self, *, why: str = "", evidence: bool = True, **how: Any) -> None:
        """The process ends, and the host reports it."""
        self._host.workers.pop(self.id, None)
        self.wire.close()
        how = how or {"signal": 9}
        self._host.report(Exited(worker=self.id, why=why, current=self.current if evidence else None, **how))
        self._scene.spin()


def short(scene: Scene, client: ClientSide, worker: WorkerSide) -> int:
    """A function that is known to be short, so its calls are sent ahead."""
    fn = client.declare(workers_max=1)
    client.submit(fn)
    worker.done(run_us=10)
    while scene.engine.state.functions[fn].run_us > 900:
        client.submit(fn)
        worker.done(run_us=10)
    client.wire.said.clear()
    return fn


RELEASED = ErrorInfo(type="Released", message="it was taken back", kind="released")


def hello(role: str, **fields: Any) -> messages.Hello:
    """A HELLO of this version."""
    return messages.Hello(
        proto_min=kinds.PROTO_MIN, proto_max=kinds.PROTO_MAX, role=role, version="1", pid=os.getpid(), **fields
    )
