"""The peers' lines of the table."""

from __future__ import annotations

from benchmarks import nursery
from benchmarks.figures import Row, Rows, Run
from benchmarks.peers.installed import PEERS, NotInstallable, Peer, interpreter

TITLES = {
    ("ray", "task"): "Ray task, not durable",
    ("ray", "actor"): "Ray actor call, not durable",
    ("celery", "task"): "Celery + Redis, may lose the last second",
}


def rows(run: Run, wanted: str) -> Rows:
    """Of one peer: the same two measurements as ours, pinned alike."""
    peer = next(peer for peer in PEERS if peer.name == wanted)
    try:
        yield from _measured(run, peer)
    except (NotInstallable, nursery.Failed) as error:
        yield Row("Peers", f"{peer.name} {' '.join(peer.requirements)}", note=str(error))


def _measured(run: Run, peer: Peer) -> Rows:
    python = interpreter(peer)
    trip = run.round_trip_us()
    alone = nursery.run(peer.module, "sequential", run.calls(1000), python=python, core=run.core)
    many = nursery.run(peer.module, "in_flight", run.calls(9000), python=python)
    for kind, found in alone.items():
        title = f"{TITLES[peer.name, kind]}, p50"
        yield Row("Peers", title, found["p50"], "µs", trip, note=f"p99 {found['p99']:,.0f} µs")
    for kind, found in many.items():
        yield Row("Peers", f"{TITLES[peer.name, kind]}, 1000 in flight", found["rate"], "calls/s", trip)
