"""Everything the engine holds in memory, in one place that its parts share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from runpod_flash.engine.clock import Clock
from runpod_flash.engine.lineage import Lineage
from runpod_flash.engine.records import Active, Endpoint, Environment, Function, Host, Pool, Worker
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.turn import Turn
from runpod_flash.settings import Settings
from runpod_flash.wire.messages import EnvState, Moved

MAX_WAITING: Final = 1_000_000
"""Waiting jobs of one endpoint, beyond which new ones are refused."""
MAX_WAITING_BYTES: Final = 1 << 30
"""Bytes of arguments of the waiting jobs of one endpoint, beyond which new ones are refused."""


class ArgsHead(msgspec.Struct, omit_defaults=True):
    """How the arguments of a job are encoded, as the store keeps it; absent when all is default."""

    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []
    stream: str = ""  # as START has it


class ChunkHead(msgspec.Struct, omit_defaults=True):
    """What the parts of an item are, as the store keeps it; absent when all is default."""

    blobs: list[Moved] = []
    defs: list[str] = []


class OutHead(msgspec.Struct, omit_defaults=True):
    """What the parts of a job's outcome are, as the store keeps it."""

    values: int = 0
    excs: int = 0
    encoding: str = "pickle"
    blobs: list[Moved] = []
    defs: list[str] = []
    run_us: int = 0
    cpu_us: int = 0
    peak_kb: int = 0
    load_us: int = 0
    json_error: str = ""
    chunks: int = 0


@dataclass(slots=True, eq=False)
class Client:
    """What one client link has: the endpoints it declared and the jobs it follows (stream → job)."""

    since_ms: int = 0
    endpoints: set[int] = field(default_factory=set)
    functions: set[int] = field(default_factory=set)
    follows: dict[int, str] = field(default_factory=dict)
    worker: Worker | None = None  # it makes calls from inside of this one


class State:
    """The engine's memory, and the tools that every part uses."""

    def __init__(
        self, store: Store, turn: Turn, clock: Clock, settings: Settings, call_later: Callable[..., Any]
    ) -> None:
        self.store = store
        self.turn = turn
        self.clock = clock
        self.settings = settings
        self.call_later = call_later
        # Set by those who do it.
        self.replan: Callable[[], None] = lambda: None
        self.look_by: Callable[[float], None] = lambda at: None  # time alone may change the plan by then (monotonic)
        self.wake_at: Callable[[int], None] = lambda wall_ms: None  # a delayed job is due then, or one expires
        # Of pools that are staged: one has a worker more, one cannot have any, an environment is being built.
        self.staged_ready: Callable[[Pool], None] = lambda pool: None
        self.staged_failed: Callable[[Pool, str], None] = lambda pool, why: None
        self.staged_build: Callable[[Pool, EnvState], None] = lambda pool, head: None
        self.undeployed: Callable[[Pool], None] = lambda pool: None  # nobody calls it any more
        self.draining = False
        self.gateway_url: str | None = None  # where the gateway listens, once it does
        self.token_file: str | None = None
        self.hungry = False  # some pool waits for a worker, and an idle one of another would do
        self.resume_at = 0.0  # monotonic: after a failed commit the engine does nothing of its own accord until then
        self.lineage = Lineage()
        self.clear()

    def clear(self) -> None:
        """Forgets everything that can be read again from the store."""
        self.endpoints: dict[int, Endpoint] = {}
        self.pools: dict[int, Pool] = {}
        self.functions: dict[int, Function] = {}
        self.environments: dict[str, Environment] = {}
        self.workers: dict[str, Worker] = {}
        self.active: dict[str, Active] = {}
        self.of_low_priority: set[int] = set()  # pools in which such jobs wait, or did
        self.host: Host | None = None
        self.lineage.clear()

    def event(self, kind: str, data: dict[str, Any], *, job: str | None = None, endpoint: int | None = None) -> None:
        """Puts something on record that no column tells."""
        text = msgspec.json.encode(data).decode()
        self.turn.write().add_event(kind, self.clock.wall_ms(), text, job=job, endpoint=endpoint)

    def add_pool(self, pool: Pool) -> None:
        """Takes a pool into memory, with its endpoint and environment."""
        self.pools[pool.id] = pool
        pool.endpoint.pools.append(pool)
        pool.environment.pools.append(pool)

    def environment(self, key: str) -> Environment:
        """The environment of that request key, known or new."""
        return self.environments.setdefault(key, Environment(key))
