"""Between engine and host: environments, workers, output."""

from __future__ import annotations

import msgspec

from runpod_flash.model.endpoint import Application, Mount, Program, RuntimeSpec
from runpod_flash.wire import kinds
from runpod_flash.wire.messages.head import Head


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
