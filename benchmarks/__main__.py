"""Runs what was asked for and prints one table.

Exit codes: 0 all goals met, 1 one was missed, 2 wrong use, 130 interrupted. Nothing is left running.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console

from benchmarks import (
    apps,
    cold_start,
    command_line,
    flash_calls,
    footprint,
    http,
    nursery,
    running,
    runpod,
    scope,
    startup,
    table,
    values,
    volumes,
    yardstick,
)
from benchmarks.figures import Row, Rows, Run
from benchmarks.neighbours import Neighbours
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.rows import rows as peer_rows

Measure = Callable[[Run], Rows]
OURS: Final[dict[str, Measure]] = {
    "sequential": flash_calls.sequential_rows,
    "in-flight": flash_calls.in_flight_rows,
    "values": values.rows,
    "scope": scope.rows,
    "http": http.rows,
    "runpod": runpod.rows,
    "cold-start": cold_start.rows,
    "volume": volumes.rows,
    "engine-start": startup.engine_rows,
    "import": startup.import_rows,
    "footprint": footprint.rows,
    "version": command_line.version_rows,
    "listing": command_line.listing_rows,
    "apps": apps.rows,
    "run": running.rows,
}
QUIET_CORES: Final = 0.1
"""More than this used by others, and the figures should be taken again."""
THEIRS: Final[dict[str, Measure]] = {peer.name: partial(peer_rows, peer=peer) for peer in PEERS}


def main() -> int:
    """The command line."""
    options = _options()
    if sys.platform != "linux":
        print("benchmarks need Linux: they pin processes and read their memory in /proc", file=sys.stderr)
        return 2
    core = max(os.sched_getaffinity(0)) if options.pin else None
    run = Run(core=core, quick=options.quick, peers=not options.no_peers)
    chosen = {**OURS, **({} if options.no_peers else THEIRS)}
    if options.only:
        chosen = {name: measure for name, measure in {**OURS, **THEIRS}.items() if name in options.only}
    neighbours = Neighbours()
    crowded: dict[str, float] = {}
    try:
        rows = _measure_all(run, chosen, crowded)
    except KeyboardInterrupt:
        return 130
    console = Console(width=None if sys.stdout.isatty() else 140)
    table.show(rows, console)
    busy = neighbours.cores()
    _say_how_busy(busy, crowded, console)
    if options.json:
        table.write_json(rows, busy, crowded, options.json)
    return 1 if any(row.good is False for row in rows) else 0


def _say_how_busy(others_cores: float, crowded: Mapping[str, float], console: Console) -> None:
    colour = "yellow" if others_cores > QUIET_CORES else "dim"
    console.print(
        f"[{colour}]Meanwhile other programs used {others_cores:.2f} cores of this machine.[/]", highlight=False
    )
    if crowded:
        during = ", ".join(f"{name} ({cores:.2f})" for name, cores in crowded.items())
        console.print(f"[yellow]More than {QUIET_CORES}, so measure again: {during}.[/]", highlight=False)


def _options() -> argparse.Namespace:
    names = [*OURS, *THEIRS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast and light this is.")
    option = parser.add_argument
    option("--only", action="append", metavar="NAME", choices=names, help=f"one or more of {', '.join(names)}")
    option("--quick", action="store_true", help="a tenth of the calls: to see that it works")
    option("--no-peers", action="store_true", help="without the systems of others, which are installed first")
    option("--json", type=Path, metavar="FILE", help="write the figures there as well")
    option("--pin", action=argparse.BooleanOptionalAction, default=True, help="sequential figures on one core")
    return parser.parse_args()


def _measure_all(run: Run, chosen: dict[str, Measure], crowded: dict[str, float]) -> list[Row]:
    """The rows; and in `crowded`, during which of the measurements others were busy."""
    nursery.CACHE.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    progress = Console(stderr=True)
    for number, (name, measure) in enumerate(chosen.items(), 1):
        neighbours = Neighbours()
        with progress.status(f"{number} of {len(chosen)}: {name}"):
            try:
                rows += measure(run)
            except nursery.Failed as error:
                rows.append(Row("Flash", name, note=f"failed: {error}", broken=True))
        if (cores := neighbours.cores()) > QUIET_CORES:
            crowded[name] = cores
    return [*_yardstick_rows(run), *rows]


def _yardstick_rows(run: Run) -> Rows:
    run.round_trip_us()
    trip = median(reading.typical for reading in run.trips)
    best = min(reading.best for reading in run.trips)
    name = "200 bytes there and back over a unix socket"
    yield Row("Yardstick", name, trip, "µs", trip, note=f"best {best:.2g}")
    count = yardstick.python_ms()
    yield Row("Yardstick", "Python counts to a million", count.typical, "ms", trip, note=f"best {count.best:.3g}")
    copy = yardstick.memcpy_ms()
    yield Row("Yardstick", "memcpy of 100 MB", copy.typical, "ms", trip, note=f"best {copy.best:.2g}")
    sync = yardstick.sync_us(nursery.CACHE)
    yield Row("Yardstick", "4 KiB appended and synced", sync.typical, "µs", trip, note=f"best {sync.best:.0f}")


if __name__ == "__main__":
    sys.exit(main())
