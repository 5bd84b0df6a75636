"""The peers' lines of the table."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import nursery
from benchmarks.figures import Row, Rows, Run
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.installed import NotInstallable, interpreter

LIMIT_S: Final = 240
"""For one measurement; a peer that hangs is ended then, and its line says so."""


def rows(run: Run, peer: Peer) -> Rows:
    """Of one peer: the same measurements as ours, pinned alike."""
    try:
        python = interpreter(peer)
        yield from _one_at_a_time(run, peer, python)
        yield from _in_flight(run, peer, python)
    except (NotInstallable, nursery.Failed) as error:
        yield Row("Peers", peer.name, note=f"could not be measured: {error}")
    for kind in peer.kinds.values():
        note = f"{kind.promise} {_versions(peer)}"
        yield Row("Peers", kind.title, note=note.rstrip(), about=True)


def _one_at_a_time(run: Run, peer: Peer, python: str) -> Rows:
    every, trip = run.beside(lambda: _figures(peer, "sequential", run.calls(600), python, run.core))
    for kind, found in every.items():
        title = f"{peer.kinds[kind].title}, awaited no-op"
        yield Row("Peers", f"{title}, p50", found["p50"], "µs", trip, note=f"best {found['best']:,.0f} µs")
        yield Row("Peers", f"{title}, p99", found["p99"], "µs", trip)


def _in_flight(run: Run, peer: Peer, python: str) -> Rows:
    every, trip = run.beside(lambda: _figures(peer, "in_flight", run.calls(6000), python, core=None))
    for kind, found in every.items():
        title = peer.kinds[kind].title
        thirds = f"thirds {found['slowest']:,.0f} to {found['fastest']:,.0f}"
        yield Row("Peers", f"{title}, 1000 in flight, 2 workers", found["rate"], "calls/s", trip, note=thirds)
        if "idle_mb" in found:
            yield Row("Peers", f"{title}, idle: 2 workers and the caller, PSS", found["idle_mb"], "MB")


def _figures(peer: Peer, how: str, calls: str, python: str, core: int | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = nursery.run(peer.module, how, calls, python=python, core=core, limit_s=LIMIT_S)
    return found


def _versions(peer: Peer) -> str:
    return f"({', '.join(peer.requirements)})" if peer.requirements else ""
