"""Between client and engine: functions, calls, jobs, questions."""

from __future__ import annotations

from typing import Any

import msgspec

from runpod_flash.model.endpoint import EndpointSpec, PoolSpec
from runpod_flash.model.job import USUAL_POLICY, JobPolicy
from runpod_flash.wire import kinds
from runpod_flash.wire.messages.head import Head, Moved


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
    """How a job ended. Parts: `values` parts of the value, then `excs` parts of the pickled exception."""

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
