"""What the engine remembers: live things only. Everything here can be read again from the store.

What every call makes anew is a Struct, which no function of Python fills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from runpod_flash.engine.placement import Placement
from runpod_flash.engine.question import Question
from runpod_flash.engine.routes import Routes
from runpod_flash.engine.turn import Link
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.messages import (
    Call,
    Data,
    ErrorInfo,
    Exited,
    FunctionSpec,
    HttpRes,
    Invoke,
    Machine,
    Outcome,
)

# draining: takes nothing new, and is stopped when its last job is done. stopping: its host was told to end it.
WorkerState = Literal["starting", "idle", "busy", "draining", "stopping"]
EnvironmentState = Literal["unknown", "building", "ready"]


class Phase(IntEnum):
    """Where a pool stands in the life of a release; those of scripts are called, always."""

    CALLED = 0
    STAGED = 1  # its workers are to be ready before it is called
    RETIRED = 2  # it finishes what it has


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint. `holders`: the client links that declared it and are still there."""

    id: int
    spec: EndpointSpec
    pools: list[Pool] = field(default_factory=list)
    holders: set[Link] = field(default_factory=set)
    unheld_since: float = 0.0  # monotonic; min workers outlive their last holder by idleTimeout
    last_pool: Pool | None = None
    args_bytes: int = 0  # of waiting jobs
    served: dict[str, Function] = field(default_factory=dict)  # asked over HTTP, by name: the newest of each
    routes: Routes[Function] | None = None  # made of these when somebody asks
    deployed: dict[str, Function] = field(default_factory=dict)  # those of the release that is called, by name


@dataclass(slots=True, eq=False)
class Environment:
    """One environment request; pools that ask for the same share it. Times are monotonic seconds."""

    key: str
    state: EnvironmentState = "unknown"
    path: str = ""
    lock: str = ""
    asked_at: float = 0.0
    ready_at: float = 0.0
    blocked_until: float = 0.0  # after a build that failed; whoever waits for a job does not wait for this
    pools: list[Pool] = field(default_factory=list)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))


@dataclass(slots=True, eq=False)
class Pool:
    """Interchangeable workers of one endpoint."""

    id: int
    endpoint: Endpoint
    key: str
    spec: PoolSpec
    environment: Environment
    queued: int = 0  # its READY jobs in the store; changed by `enter` and `leave` alone
    of_instances: dict[str, int] = field(default_factory=dict)  # how many of `queued` are of which instance
    homes: dict[str, Worker] = field(default_factory=dict)  # instance → the worker that its calls go to (homes.py)
    requests: deque[Request] = field(default_factory=deque)  # calls, if it is load-balanced, that wait for a worker
    idle: list[Worker] = field(default_factory=list)  # the newest idle one last
    workers: dict[str, Worker] = field(default_factory=dict)
    failed_starts: int = 0
    blocked_until: float = 0.0  # monotonic: back-off after a start that failed
    manned_at: float = 0.0  # monotonic: when it was last seen with a worker that takes jobs
    failing: bool = False  # its waiting jobs are being ended, because none of them can start
    why: str = ""  # what its jobs wait for
    wait_code: str = ""  # the same for programs: a `plan.WaitCode`
    waits_since: float = 0.0  # monotonic
    last_error: str = ""  # why its last start failed; "" once one succeeded
    placement: Placement = field(default_factory=Placement)
    phase: Phase = Phase.CALLED
    least: int = 1  # workers that it has before it is called, if it is staged
    run_us: float = -1.0  # running mean of the time of its calls, -1 unknown
    serves: bool = False  # an application or a program answers its requests
    asks: bool = False  # its workers are programs that ask for their jobs
    at_once: int = 1  # programs: the most jobs that one of its workers has had or wanted at a time

    @property
    def waiting(self) -> int:
        """Jobs or calls that wait for a worker."""
        return self.queued + len(self.requests)

    def enter(self, size: int, instance: str = "", number: int = 1) -> None:
        """Jobs with that many bytes of arguments have become ready."""
        self.queued += number
        if instance:
            self.of_instances[instance] = self.of_instances.get(instance, 0) + number
        self.endpoint.args_bytes += size

    def leave(self, size: int, instance: str = "") -> None:
        """A ready job has gone: to a worker, or to its end."""
        self.queued -= 1
        if instance:
            left = self.of_instances[instance] = self.of_instances[instance] - 1
            if not left:
                del self.of_instances[instance]
        self.endpoint.args_bytes -= size


@dataclass(slots=True, eq=False)
class Function:
    """One version of a remote function in a pool. `run_us`: a running mean of its time, -1 unknown."""

    id: int
    pool: Pool
    spec: FunctionSpec
    run_us: float = -1.0
    holders: set[Link] = field(default_factory=set)  # the client links that declared it and are still there
    invoked: tuple[int, bytes] = (-1, b"")  # the head of INVOKE with that timeout, after the call's id
    ahead_at: Worker | None = None  # who is sent calls ahead, …
    ahead_left: int = 0  # … so many more, before the least loaded one is looked for again


class Active(msgspec.Struct, eq=False):
    """A job that is at a worker."""

    job: str
    fn: Function
    epoch: int
    attempt: int
    failures: int
    losses: int
    timeout_ms: int
    max_retries: int
    created_ms: int
    assigned_ms: int
    size: int  # bytes of its arguments
    seq: int  # its number in the store
    instance: str = ""
    priority: int = 0
    begun_at: float = 0.0  # monotonic; 0 while it waits behind another at its worker
    cancelling: str = ""  # the cause, once somebody asked
    expired: bool = False  # it is being cancelled because its ttl is over
    overdue: bool = False  # its worker was told to stop because it took too long
    lines_out: bool = False  # the host has forwarded everything that it printed
    stream: str = ""  # as START has it
    progress: bytes = b""  # JSON: the last that it said
    awaited: bool = True  # by a program of Python, which needs no JSON of its value


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process. Times are monotonic seconds."""

    id: str
    pool: Pool
    host: str
    key_hash: str
    state: WorkerState = "starting"
    link: Link | None = None  # once it has said READY there, so nothing is sent that it would not tell of
    joining: Link | None = None  # a new stream on which it has yet to say READY
    inflight: deque[Active] = field(default_factory=deque)  # in the order of their STARTs: the first one runs
    requests: dict[int, Request] = field(default_factory=dict)  # load-balanced: its calls, by their stream
    sent: set[str] = field(default_factory=set)  # digests it has
    loaded: dict[str, str] = field(default_factory=dict)  # function name → version
    latest: FunctionSpec | None = None  # what it was given last, with all that this needs
    instances: dict[str, None] = field(default_factory=dict)  # that live in it, the least recently used first
    acks: list[tuple[str, int, str]] = field(default_factory=list)
    gpus: tuple[int, ...] = ()
    ports: dict[int, int] = field(default_factory=dict)  # wanted → given
    launched_at: float = 0.0
    ready_at: float = 0.0
    idle_since: float = 0.0
    last_done: float = 0.0
    drains_since: float = 0.0  # as far as somebody has looked
    pid: int = 0
    how: str = ""
    rss_kb: int = 0
    cpu_ms: int = 0
    launched_ms: int = 0
    stop_why: str = ""
    released_behind: Active | None = None  # the call so long that those behind it were asked back
    room: int = 0  # of a program: jobs that it asks for, and may be given now
    complaint: str = ""  # of a program: why it is about to end, in its own words
    heard_at: float = 0.0  # of a program: when it last asked or said anything
    last_words: tuple[Exited, Callable[[], None]] | None = None  # it has exited; its stream is yet to be read out

    @property
    def front(self) -> Active | None:
        """The job that runs."""
        return self.inflight[0] if self.inflight else None

    @property
    def has_work(self) -> bool:
        """Whether it has a job or a call."""
        return bool(self.inflight or self.requests)


class _Request(msgspec.Struct, eq=False, kw_only=True):
    """What a worker of a load-balanced endpoint shall answer. It is on no record: with the engine, it is gone."""

    id: str
    fn: Function
    timeout_ms: int
    asked_at: float  # monotonic
    defs: Sequence[str] = ()  # definitions it needs beyond the function's own
    instance: str = ""
    drop: Sequence[str] = ()  # instances that give way to it
    wanted: str = ""  # the worker that it asks for, and …
    strict: bool = False  # … whether no other will do
    worker: Worker | None = None
    number: int = 0  # its stream at the worker
    sent_at: float = 0.0  # monotonic; 0 while it waits


class ClientCall(_Request, eq=False, kw_only=True):
    """A call from a program."""

    link: Link  # of whoever called …
    sid: int  # … and its stream there
    head: Call
    parts: Sequence[bytes]

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""
        return sum(map(len, self.parts))

    def encode(self) -> bytes:
        """INVOKE, as its worker gets it."""
        head, fn = self.head, self.fn
        if not (self.instance or head.blobs or head.stream) and head.encoding == "pickle":
            if fn.invoked[0] != self.timeout_ms:
                fn.invoked = self.timeout_ms, _rest_of(fn.spec, self.timeout_ms)
            text = b'{"call":%b%b' % (_encode(self.id), fn.invoked[1])
            return frame.encode(kinds.INVOKE, text, self.parts, sid=self.number)
        spec = fn.spec
        return Invoke(
            call=self.id,
            name=spec.name,
            digest=spec.digest,
            timeout_ms=self.timeout_ms,
            encoding=head.encoding,
            blobs=head.blobs,
            stream=head.stream is not None,
            instance=self.instance,
            drop=list(self.drop),
        ).encode(self.parts, sid=self.number)


def _rest_of(spec: FunctionSpec, timeout_ms: int) -> bytes:
    """What follows the id in the head of INVOKE: the same for all usual calls of a function."""
    head = _encode(Invoke(call="", name=spec.name, digest=spec.digest, timeout_ms=timeout_ms))
    return head.removeprefix(b'{"call":""')


_encode: Final = msgspec.json.Encoder().encode


class Asker(Protocol):
    """Who asked over HTTP. Told of everything at once, inside the turn, since an answer rests on no commit."""

    def answer(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        """The worker answers; with `last` that was all."""

    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The answer goes on; `broken`: it will not be whole."""

    def allow(self, size: int) -> None:
        """So much more of the request's body may be sent: first when a worker was found, then as it reads."""

    def fail(self, error: ErrorInfo) -> None:
        """There will be no answer, or no end to it."""


class Converser(Asker, Protocol):
    """One who asked for another protocol than HTTP, and may go on for ever."""

    def message(self, head: Data, body: bytes) -> None:
        """A piece of a websocket's message, or its close."""

    def retire(self) -> None:
        """Its worker takes nothing new, and should not have to wait for it."""


class Exchange(_Request, eq=False, kw_only=True):
    """An HTTP request and its answer."""

    asker: Asker
    question: Question
    body: bytes
    converser: Converser | None = None  # the asker, where it asked for another protocol
    answered: bool = False  # its answer has begun
    losses: int = 0

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""
        return len(self.body)

    def retire(self) -> None:
        """Its worker takes nothing new, or the engine: what could go on for ever is asked to begin again elsewhere."""
        if self.converser is not None:
            self.converser.retire()

    def encode(self) -> bytes:
        """HTTP_REQ, as its worker gets it."""
        parts = (self.body,) if self.body else ()
        return frame.encode(kinds.HTTP_REQ, self.question.head_for(self.id), parts, sid=self.number)


Request: TypeAlias = ClientCall | Exchange
"""Both are frames for a worker, which `encode` gives."""


class Waiter(msgspec.Struct, eq=False):
    """Somebody who follows a job on a stream of a link."""

    link: Link
    sid: int
    logs: bool
    reader: Reader | None = None  # it reads what the job yields


Watcher = Callable[[Outcome, Sequence[Buffer]], None]
"""Called with the end of a job inside the turn that records it: what it tells others, it promises."""


@dataclass(slots=True, eq=False)
class JobStream:
    """What one attempt of a job has yielded. `live`: for the one who submitted it, and nobody else."""

    job: str
    live: bool
    count: int  # items on record, those that were used up included
    attempt: int = 0
    epoch: int = 0
    worker: Worker | None = None
    granted: int = 0  # the worker was told that items before this one are done with
    ungranted: int = 0  # bytes of those that came since
    read: bool = False  # somebody has been given an item
    ended: bool = False
    readers: list[Reader] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Reader:
    """Somebody who reads what a job yields. `outcome` is for when nothing is left to send before it."""

    link: Link
    sid: int
    stream: JobStream
    sent: int  # items before this one it has, or they are on their way
    taken: int  # items before this one it has used up
    sizes: deque[int] = field(default_factory=deque)  # bytes of each item between
    outcome: bytes = b""

    @property
    def behind(self) -> bool:
        """Whether there is something on record that it was not sent."""
        return self.sent < self.stream.count


@dataclass(slots=True, eq=False)
class Host:
    """The host that is connected, or was and may come back."""

    id: str
    key_hash: str
    pid: int
    link: Link | None = None
    machine: Machine | None = None  # from its HELLO
    came: bool = False  # it has been connected before, to this engine or to the last one
    seen_at: float = 0.0
