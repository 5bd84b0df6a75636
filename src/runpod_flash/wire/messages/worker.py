"""Between engine and worker: calls, results, streams, HTTP."""

from __future__ import annotations

from typing import Any

from runpod_flash.wire import kinds
from runpod_flash.wire.messages.client import ErrorInfo
from runpod_flash.wire.messages.head import Head, Moved


class Ready(Head):
    """First frame of a worker on every new stream. `held`: (job, epoch) that it has in any form.

    `fresh` is true at its first connection. What the store believes this worker has and that is not
    listed never arrived, and goes back to the queue without a loss. DONEs not yet acknowledged are sent
    again right after this frame.
    """

    KIND = kinds.READY
    worker: str
    python: str = ""
    held: list[tuple[str, int]] = []
    fresh: bool = False
    instances: list[str] = []  # that live in it, the least recently used first
    ms: float = 0  # from process start to here


class Def(Head):
    """A definition, before the first START that needs it (and the answer to GET_DEF). Part 0: its bytes."""

    KIND = kinds.DEF
    digest: str


class Start(Head):
    """Run this. Parts: the encoded arguments. `acks`: results now on record: (job, epoch, verdict)."""

    KIND = kinds.START
    job: str
    attempt: int
    epoch: int
    name: str
    digest: str
    timeout_ms: int = 0
    encoding: str = "pickle"
    blobs: list[Moved] = []
    instance: str = ""  # of a method: whose
    drop: list[str] = []  # instances that give way to it
    want_json: bool = False
    acks: list[tuple[str, int, str]] = []
    stream: str = ""  # "" | kept | live: what it yields is sent at once, and kept, or only relayed to its reader


class Invoke(Head):
    """One of many calls that the worker runs at once. Parts: the encoded arguments. → RETURNED with END."""

    KIND = kinds.INVOKE
    call: str
    name: str
    digest: str
    timeout_ms: int = 0
    encoding: str = "pickle"
    blobs: list[Moved] = []
    instance: str = ""  # these two as of START
    drop: list[str] = []
    stream: bool = False


class HttpReq(Head):
    """An HTTP request for a load-balanced function. Part 0: its body, or how that begins. → HTTP_RES.

    `path` is decoded and starts below the endpoint; `query` is as it came; names of headers are in lower case. With
    `more` DATA follows, the last with END. CANCEL with `call` as the job: nobody waits any more.

    With `upgrade` the client asks for another protocol, and HTTP_RES with status 101 and `more` agrees to it: then DATA
    goes both ways until END, messages of a websocket for an application, bare bytes for a program.
    """

    KIND = kinds.HTTP_REQ
    call: str
    name: str
    digest: str
    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, str]] = []
    params: dict[str, str] = {}
    timeout_ms: int = 0
    more: bool = False
    upgrade: str = ""  # such as websocket
    target: str = ""  # for an application or a program: path and query as they came, below the endpoint


class HttpRes(Head):
    """What a worker answers. Part 0: the body, or how it begins. With END, unless `more`: then DATA follows.

    The facts about the call, from `run_us` on, are those of its end: with `more` the last DATA has them. `error` is for
    logs and people who look at the engine, never for the one who asked over HTTP.
    """

    KIND = kinds.HTTP_RES
    status: int
    headers: list[tuple[str, str]] = []
    more: bool = False
    load_us: int = 0
    run_us: int = 0
    logs: bool = False  # it printed
    stuck: bool = False
    error: ErrorInfo | None = None


class Data(Head):
    """A piece of a body. Part 0: its bytes. END on the last, which may be empty; END and FAILED where it breaks off.

    Of what is sent on a stream one way, first part included, all but the last WINDOW bytes were allowed by CREDIT.
    """

    KIND = kinds.DATA
    # Of a websocket. `more`: the message goes on with the next DATA, which is of the same kind. A close has no body.
    op: str = ""  # text | binary | close
    more: bool = False
    code: int = 0
    reason: str = ""
    # With END, from a worker.
    run_us: int = 0
    logs: bool = False
    stuck: bool = False
    error: ErrorInfo | None = None


class Credit(Head):
    """So many bytes of a body were used up, and as many more may be sent on the stream. No answer."""

    KIND = kinds.CREDIT
    bytes: int


class Done(Head):
    """An attempt ended. Parts: `values` of the value, `excs` of the exception, then `json` (0 or 1).

    Kept by the worker until acknowledged. `logs`: the attempt printed, so a SPAN follows from the host.
    """

    KIND = kinds.DONE
    job: str
    epoch: int
    ok: bool
    values: int = 0
    excs: int = 0
    json: int = 0
    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []
    load_us: int = 0
    run_us: int = 0
    # Not of calls that are over within a millisecond.
    cpu_us: int = 0  # of processors, in all threads, and in programs that it started and waited for
    peak_kb: int = 0  # the most memory that the worker, or such a program, has had until then
    logs: bool = False
    json_error: str = ""
    error: ErrorInfo | None = None
    chunks: int = 0  # it yielded so many items that are kept: their list is the value


class Chunk(Head):
    """The `n`-th value, from 0, that an attempt yielded. Parts: the encoded value.

    A worker names the job and its epoch, or sends it on the stream of a load-balanced call; to a client it goes on the
    stream of its request, with the attempt. A worker keeps those of a job until TAKEN, and sends them again after a
    lost link; it is ahead of TAKEN by STREAM_ITEMS or WINDOW bytes at most, whichever comes first.
    """

    KIND = kinds.CHUNK
    n: int
    job: str = ""
    epoch: int = 0
    attempt: int = 0
    blobs: list[Moved] = []
    defs: list[str] = []


class Taken(Head):
    """Items before `upto` are done with: used up, says a client; used up or safe on record, says the engine."""

    KIND = kinds.TAKEN
    upto: int
    job: str = ""  # engine → worker, of a queue
    epoch: int = 0
    left: bool = False  # client: it reads no more of a job that goes on


class Progress(Head):
    """How far a job is, in words of its own. Never more than some a second. No answer."""

    KIND = kinds.PROGRESS
    job: str
    value: Any = None


class Ack(Head):
    """Results now on record; verdict recorded | stale. Either way the worker lets go of them."""

    KIND = kinds.ACK
    acks: list[tuple[str, int, str]]


class Drain(Head):
    """Take nothing new, finish what runs, then exit."""

    KIND = kinds.DRAIN


class Exit(Head):
    """Exit now; nothing runs."""

    KIND = kinds.EXIT
