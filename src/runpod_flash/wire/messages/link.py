"""What every link says: hello, errors, goodbyes."""

from __future__ import annotations

from typing import Any

import msgspec

from runpod_flash.wire import kinds
from runpod_flash.wire.messages.head import Head


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
    token: str = ""
    base_env: dict[str, str] = {}  # client: the whitelisted variables its workers shall inherit
    host: str = ""  # host, worker: name of the host
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
