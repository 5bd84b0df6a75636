"""The head of every frame, typed: what each side says and what the other answers.

Engine, host and client read and write these with msgspec; the worker, which lives in the user's
interpreter, reads and writes the same JSON with the standard library. Unknown fields are ignored, an
unknown frame type is answered with ERROR `unsupported`, and the link stays. Durations are relative and
carry their unit in the name; absolute times are engine wall clock milliseconds (`…_at_ms`).

`parts` of a frame are said in each docstring. A part longer than 256 KiB lies in a blob file instead:
`blobs` lists (index, blob id, size) and the part itself is empty (`wire/blobs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from runpod_flash.model.endpoint import Application, EndpointSpec, Mount, PoolSpec, Program, RuntimeSpec
from runpod_flash.model.job import USUAL_POLICY, JobPolicy
from runpod_flash.wire import frame, kinds

Moved = tuple[int, str, int]
"""A part that lies in a blob file: its index, the blob's id, its size in bytes."""


class Head(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Common base: `KIND` is the frame type that carries this head."""

    KIND: ClassVar[int]

    def body(self) -> bytes:
        """The head alone, for one that goes to several streams."""
        return _encode(self)

    def encode(self, parts: Sequence[frame.Buffer] = (), *, sid: int = 0, flags: int = 0) -> bytes:
        """The whole frame."""
        return frame.encode(self.KIND, _encode(self), parts, sid=sid, flags=flags)


# ── every link ───────────────────────────────────────────────────────────────────────────────────


class WorkerPresence(msgspec.Struct, omit_defaults=True):
    """One live worker, as its host lists it at HELLO."""

    worker: str
    pid: int
    ports: list[tuple[int, int]] = []  # as LAUNCHED had them


class Machine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a host has to give. `gpus` are (index, name, memory in MB)."""

    cpus: int
    memory_mb: int
    gpus: list[tuple[int, str, int]] = []
    facts: dict[str, Any] = {}


class Hello(Head):
    """First frame of whoever connects. A host sends the HELLO of its workers on their behalf."""

    KIND = kinds.HELLO
    proto_min: int
    proto_max: int
    role: str  # client | host | worker
    version: str
    pid: int
    features: list[str] = []
    token: str = ""
    base_env: dict[str, str] = {}  # client: the whitelisted variables its workers shall inherit
    host: str = ""  # host, worker: name of the host
    incarnation: str = ""  # host: new at every start of the host program
    machine: Machine | None = None  # host
    workers: list[WorkerPresence] = []  # host: those alive
    worker: str = ""  # worker; client: the worker whose functions call
    key: str = ""  # host, worker: the secret handed out when it was started


class Welcome(Head):
    """The engine's answer to HELLO."""

    KIND = kinds.WELCOME
    proto: int
    engine: str  # id of the store: another id means another store, nothing known carries over
    start_no: int
    version: str
    pid: int
    data_dir: str
    blob_dir: str
    durability: str  # process | power: whether blobs must be synced before they are named
    lease_ms: int
    beat_ms: int
    max_value: int = 0  # bytes that a result may have; 0: as many as fit


class Refuse(Head):
    """The engine will not talk: why, and what to do. With `handover` the engine is about to leave."""

    KIND = kinds.REFUSE
    code: str
    what: str
    why: str = ""
    fix: str = ""
    handover: bool = False


class Ping(Head):
    """Asks for PONG."""

    KIND = kinds.PING


class Pong(Head):
    """Answers PING."""

    KIND = kinds.PONG


class Error(Head):
    """A request failed; always with flags END and FAILED on the stream of the request."""

    KIND = kinds.ERROR
    code: str
    what: str
    why: str = ""
    fix: str = ""
    retry_after_ms: int | None = None


class Goodbye(Head):
    """The engine leaves on purpose. `reason`: stop | idle | handover. With `stop_host` the host ends too."""

    KIND = kinds.GOODBYE
    reason: str
    stop_host: bool = False


class Ok(Head):
    """A request was carried out (and, where it changes the store, committed)."""

    KIND = kinds.OK
    data: dict[str, Any] = {}


# ── client and engine ────────────────────────────────────────────────────────────────────────────


class Route(msgspec.Struct, omit_defaults=True):
    """Where a load-balanced function answers over HTTP: `GET`, `/models/{name}`."""

    method: str  # ANY_METHOD: of an application, whatever the path
    path: str


class FunctionSpec(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One version of one remote function.

    `schema` is JSON text, an operation object of OpenAPI without references; what it says of `routes` is empty.
    """

    name: str  # module:qualname, script.py:qualname for __main__
    version: str  # sha256 of the source of the function and of all that it reaches by value
    digest: str  # names the shipped bytes
    defs: list[str] = []  # digests that loading it needs, itself last
    where: str = ""  # file:line
    is_async: bool = False  # its timeout and cancellation get a grace of 5 s
    timeout_ms: int = 0  # of a request or job that comes over HTTP; a call says its own
    routes: list[Route] = []  # load-balanced: one, as long as functions have one each
    schema: str = ""
    # Of a queue.
    takes_json: bool = False  # its jobs may come over HTTP, with JSON as their input
    max_retries: int = 1  # of a job that comes over HTTP
    yields: bool = False  # it is a generator


class Declare(Head):
    """A function, its endpoint and its pool: idempotent, before the first SUBMIT. → DECLARED.

    With `exact`, an endpoint that asks for more or other hardware than there is gets ERROR config.
    """

    KIND = kinds.DECLARE
    endpoint: EndpointSpec
    pool: PoolSpec
    function: FunctionSpec
    exact: bool = False


class Declared(Head):
    """`fn` is what SUBMIT names. `missing` are digests to PUT_DEF first; `notices` are for the user.

    `digest`: of the function that is deployed there, whatever was declared.
    """

    KIND = kinds.DECLARED
    fn: int
    endpoint: str
    digest: str = ""
    missing: list[str] = []
    notices: list[str] = []


class DeployedEndpoint(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One endpoint of a release. `functions` are (index of its pool among `pools`, the function)."""

    endpoint: EndpointSpec
    pools: list[PoolSpec]
    functions: list[tuple[int, FunctionSpec]]


class Deploy(Head):
    """Makes this the release of an app's environment, or, with `version`, one that it had. → ENV_STATE*, then OK.

    Workers of all that is new are ready before it answers; then new calls go to them. If its link is lost before,
    nothing has changed. `dry`: only says what would change. OK brings {changed, version, was, changes, endpoints,
    missing, moved}.
    `version`: the number of a release, or -1: the one before. `artifact`: the digest of the project's files.
    """

    KIND = kinds.DEPLOY
    app: str
    env: str
    endpoints: list[DeployedEndpoint] = []
    version: int = 0
    project: str = ""
    artifact: str = ""
    dry: bool = False
    exact: bool = False  # as of DECLARE


class Lookup(Head):
    """Asks for a deployed function by its name. → DECLARED, or ERROR not_deployed.

    Of `function` the name counts, or what stands behind its colon, where only one has that. Without app and env, from a
    worker: its own.
    """

    KIND = kinds.LOOKUP
    endpoint: str
    function: FunctionSpec
    app: str = ""
    env: str = ""


class PutDef(Head):
    """Stores a definition. Part 0: its bytes. → OK."""

    KIND = kinds.PUT_DEF
    digest: str
    name: str = ""


class GetDef(Head):
    """Asks for a definition. → DEF, or ERROR no_definition."""

    KIND = kinds.GET_DEF
    digest: str


class PutBlob(Head):
    """A piece of a blob. Part 0: its bytes from `offset` on; no part: a question. → OK {have: bytes that came so far}.

    A piece that does not follow what came so far is left out. `hashed`: the id says what the contents are.
    """

    KIND = kinds.PUT_BLOB
    blob: str
    size: int
    offset: int = 0
    hashed: bool = False


class GetBlob(Head):
    """Asks for a blob. → OK with its bytes from `offset` on, some of them; or ERROR no_blob."""

    KIND = kinds.GET_BLOB
    blob: str
    offset: int = 0


class DropBlobs(Head):
    """These arguments of a job will not be named again, says who sent them. → OK; they go if the job has completed."""

    KIND = kinds.DROP_BLOBS
    job: str
    blobs: list[str]


class Position(msgspec.Struct, omit_defaults=True):
    """How far a stream has been read: items before `have` of that attempt are here, those before `taken` used up."""

    have: int = 0
    taken: int = 0
    attempt: int = 0  # 0: none has come


class Submit(Head):
    """A call. Parts: the encoded arguments. Idempotent by `job`, so it may be sent again after a lost link.

    With `wait`: STATE*, ENV_STATE*, LOG* (the last two only with `logs`), then OUTCOME with END.
    Without: ACCEPTED with END, once committed. With `stream` what it yields comes as CHUNK*, before OUTCOME; of a job
    that nobody waits for it is kept for those who ATTACH.
    """

    KIND = kinds.SUBMIT
    job: str
    fn: int
    policy: JobPolicy = USUAL_POLICY
    wait: bool = True
    logs: bool = False
    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []  # definitions the arguments need, beyond the function's own
    idem: str | None = None
    instance: str = ""  # of a method: the digest of its constructor's arguments, which is among `defs`
    stream: Position | None = None
    parent: tuple[str, int] | None = None  # from a worker: the job that calls, and its attempt


class Call(Head):
    """A call of a load-balanced function, which no store knows. Parts: the encoded arguments.

    STATE*, ENV_STATE*, LOG* (only with `logs`), CHUNK* (only with `stream`), then RETURNED with END. Its link lost, it
    is not sent again: it may have run. CANCEL with `call` as the job ends it, and so does the end of the link.
    """

    KIND = kinds.CALL
    call: str
    fn: int
    timeout_ms: int = 0
    logs: bool = False
    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []
    instance: str = ""  # as of SUBMIT
    stream: Position | None = None
    parent: tuple[str, int] | None = None  # as in SUBMIT


class Returned(Head):
    """How a load-balanced call ended, from its worker or from the engine. Parts: as those of DONE.

    `stuck`: the worker cannot end the call and should be replaced.
    """

    KIND = kinds.RETURNED
    ok: bool
    values: int = 0
    excs: int = 0
    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []
    load_us: int = 0
    run_us: int = 0
    logs: bool = False  # it printed
    stuck: bool = False
    error: ErrorInfo | None = None


class Accepted(Head):
    """The job is on record. `existing`: it was there before (same id, or same idempotency key)."""

    KIND = kinds.ACCEPTED
    job: str
    existing: bool = False


class Attach(Head):
    """Follows a job that exists. With `wait` as SUBMIT; without, one STATE with END."""

    KIND = kinds.ATTACH
    job: str
    wait: bool = True
    logs: bool = False
    stream: Position | None = None


class Cancel(Head):
    """Client → engine (→ OK) and engine → worker (→ DONE of kind cancelled or released)."""

    KIND = kinds.CANCEL
    job: str
    cause: str = ""
    # Engine → worker.
    epoch: int = 0
    grace_ms: int = 0
    only_waiting: bool = False  # give it back if it has not begun; leave it alone if it has


class Retry(Head):
    """Runs a job that ended without success once more, under its id. → ACCEPTED."""

    KIND = kinds.RETRY
    job: str


class State(Head):
    """Where a job stands. `why`: what it waits for, in a few words for the user ("" if nothing special)."""

    KIND = kinds.STATE
    job: str
    status: str
    attempt: int = 0
    worker: str = ""
    why: str = ""
    progress: Any = None  # what it said last, where that was asked for


class Log(Head):
    """Lines a job printed, as they came. `n` is the number of the first, counted within the attempt."""

    KIND = kinds.LOG
    job: str
    attempt: int
    worker: str
    fd: int  # 1 stdout, 2 stderr
    at_ms: int
    n: int
    lines: list[str]


class ErrorInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Why an attempt did not complete.

    `kind`: user (the function raised) | timeout | lost (its worker vanished) | bind (arguments do not
    fit or cannot be decoded) | encode (the result cannot travel) | load (the function cannot be loaded)
    | env (its environment cannot be built) | cancelled | released (never started) | expired (ttl).
    `verbatim`: what a program of somebody else's said, where clients over HTTP are told that instead.
    """

    type: str
    message: str
    kind: str = "user"
    module: str = "builtins"
    traceback: str = ""
    verbatim: str = ""


class Outcome(Head):
    """How a job ended. Parts: `values` parts of the value, then `excs` parts of the pickled exception.

    `timing` (microseconds): queued, environment, worker_start, load, run.
    """

    KIND = kinds.OUTCOME
    job: str
    status: str
    attempts: int
    created_at_ms: int
    ended_at_ms: int
    started_at_ms: int | None = None
    worker: str = ""
    delay_ms: int = 0
    run_us: int = 0
    encoding: str = "pickle"
    values: int = 0
    excs: int = 0
    blobs: list[Moved] = []
    defs: list[str] = []
    timing: dict[str, int] = {}
    error: ErrorInfo | None = None
    json_error: str = ""
    chunks: int = 0  # the value is the list of that many items, which a stream brings


class Query(Head):
    """Reads facts. → ROWS. `what`: jobs | job | endpoints | workers | logs | events | names | deps | cost | status |
    apps | app_envs | releases."""

    KIND = kinds.QUERY
    what: str
    filter: dict[str, Any] = {}
    limit: int = 100
    cursor: str = ""


class Rows(Head):
    """The facts asked for; `next` continues a long listing ("" at its end)."""

    KIND = kinds.ROWS
    rows: list[dict[str, Any]]
    next: str = ""


class Admin(Head):
    """Operates the engine. → OK.

    `verb`: stop {drain: bool, grace_s: float} | handover | prune_deps {all: bool} | hold_blobs, which keeps every blob
    file for as long as this link lives | withdraw {endpoint, held: bool}, of a program | purge {ended: bool,
    older_than_ms: int, dry: bool, and by what endpoint, app, env and fn they are named}, answered with what was done |
    undeploy, create_app, delete_app, create_env, delete_env {app, env, project}.
    """

    KIND = kinds.ADMIN
    verb: str
    args: dict[str, Any] = {}


# ── engine and host ──────────────────────────────────────────────────────────────────────────────


class EnsureEnv(Head):
    """Builds the environment unless it is there. → ENV_STATE*, the last (ready or failed) with END."""

    KIND = kinds.ENSURE_ENV
    env: str  # request key: PoolSpec.environment_key()
    interpreter: str
    abi: str
    requirements: list[str]
    system: list[str] = []
    index: dict[str, str] = {}
    variables: dict[str, str] = {}  # the caller's PATH, proxies and certificates, for the installer
    runtime: RuntimeSpec | None = None  # for a zygote that is ready when the environment is
    accelerate: bool = False  # as in PoolSpec
    mirror: str = ""


class CancelEnv(Head):
    """Nobody waits for this build any more. No answer."""

    KIND = kinds.CANCEL_ENV
    env: str


class EnvState(Head):
    """Progress of a build. `phase`: resolve | build | ready | failed. To clients on the stream of the call."""

    KIND = kinds.ENV_STATE
    env: str
    phase: str
    line: str = ""
    error: str = ""
    code: str = ""  # of the error, if it is not just any failed build: system_package
    path: str = ""
    lock: str = ""  # id of the resolved set = name of the environment's folder
    size: int = 0
    ms: int = 0


class Launch(Head):
    """Starts a worker. → LAUNCHED."""

    KIND = kinds.LAUNCH
    worker: str
    key: str
    endpoint: str  # the endpoint's name, for logs and process titles
    env: str  # path of the environment's folder
    runtime: RuntimeSpec
    variables: dict[str, str] = {}  # everything beside the clean base
    gpus: list[int] = []
    memory_mb: int | None = None
    cpus: float = 0  # those that it is held to; 0: it may use all that are free
    mounts: list[Mount] = []
    ports: list[int] = []  # those that it wants to open
    at_once: int = 0  # calls that a load-balanced one runs at once; 0: a worker of a queue
    program: Program | None = None  # what runs there instead of our loop
    application: Application | None = None  # what it serves, instead of functions


class Launched(Head):
    """`how`: fork | exec. `error` is "" when the process runs."""

    KIND = kinds.LAUNCHED
    worker: str
    pid: int = 0
    how: str = ""
    ms: float = 0
    error: str = ""
    ports: list[tuple[int, int]] = []  # each that was wanted, and what it was given


class Stop(Head):
    """Ends a worker: SIGTERM, after `grace_ms` SIGKILL to its whole tree. → EXITED (of the worker)."""

    KIND = kinds.STOP
    worker: str
    grace_ms: int = 0
    why: str = ""


class Current(msgspec.Struct, omit_defaults=True):
    """The call that a worker began last, over or not, from its status page."""

    job: str
    epoch: int
    attempt: int


class Exited(Head):
    """A worker is gone and reaped. Kept by the host and sent again until the engine answers OK."""

    KIND = kinds.EXITED
    worker: str
    code: int | None = None  # exit code, if it ended by itself
    signal: int | None = None
    oom: bool = False
    why: str = ""  # stop (asked for) | deadline | memory | host (its host died) | "" (by itself)
    peak_rss_kb: int = 0
    current: Current | None = None
    last_lines: list[str] = []


class Beat(Head):
    """The host renews the lease of all its workers. `workers`: (id, resident kB, CPU ms). → BEAT_OK."""

    KIND = kinds.BEAT
    workers: list[tuple[str, int, int]] = []
    load: float = 0


class BeatOk(Head):
    """Workers that the engine does not know: the host ends them."""

    KIND = kinds.BEAT_OK
    stale: list[str] = []


class Span(Head):
    """Where the output of an attempt lies in the log files. Kept and sent again until OK.

    Sent after the last LOG of the attempt, so an outcome that waits for it shows every line first.
    """

    KIND = kinds.SPAN
    job: str
    attempt: int
    worker: str
    segment: str  # path relative to the data folder
    start: int
    length: int
    lines: int
    cut: bool = False


class ListEnvs(Head):
    """→ ROWS: {id, kind, requirements, lock, python, prefix, size, created_at_ms, used_at_ms, state}.

    `kind`: python, an environment, or system, a prefix of system packages; `prefix` is the one an environment sees.
    """

    KIND = kinds.LIST_ENVS


class PruneEnvs(Head):
    """Removes environments that are not in `keep` (folder names). → ROWS of those removed."""

    KIND = kinds.PRUNE_ENVS
    keep: list[str]


class Working(Head):
    """The jobs that a program has by now, (job, attempt): its output is theirs. No answer, but SPANs of the others."""

    KIND = kinds.WORKING
    worker: str
    jobs: list[tuple[str, int]] = []


class Measure(Head):
    """What is in use right now. → ROWS, one of each worker {worker, processes, memory_kb, cpu_percent} and one of
    each card {gpu, name, percent, memory_mb, memory_used_mb}; takes a fraction of a second."""

    KIND = kinds.MEASURE


# ── engine and worker ────────────────────────────────────────────────────────────────────────────


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


_encode = msgspec.json.Encoder().encode
HEADS: dict[int, type[Head]] = {head.KIND: head for head in Head.__subclasses__()}
"""Frame type → the class of its head."""
_DECODERS = {kind: msgspec.json.Decoder(head) for kind, head in HEADS.items()}


class BadHead(ValueError):
    """The head of a frame does not fit its type; `kind` is the type."""

    def __init__(self, kind: int, why: str) -> None:
        super().__init__(f"{kinds.NAMES.get(kind, f'frame type {kind}')}: {why}")
        self.kind = kind


def decode(message: frame.Frame) -> Any:
    """The typed head of a frame; BadHead if the type is unknown or the head does not fit it."""
    decoder = _DECODERS.get(message.kind)
    if decoder is None:
        raise BadHead(message.kind, "unknown type")
    try:
        return decoder.decode(message.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadHead(message.kind, str(error)) from error
