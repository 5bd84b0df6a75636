"""How long somebody waits who deploys an app: for the first time, after a change, and when nothing has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run

FLASH: Final = Path(sys.executable).with_name("flash")
SAME: Final = "flash deploy, nothing changed"
CHANGED: Final = "flash deploy after a change of a route, its workers ready"


def rows(run: Run) -> Rows:
    """A project as `flash init` makes it, deployed to an engine that runs."""
    found, trip = run.beside(lambda: nursery.run(__name__, "3" if run.quick else "9"))
    for name, goal in ((SAME, Goal(1000)), (CHANGED, None)):
        times = found[name]
        spread = f"{min(times):.0f} to {max(times):.0f} ms"
        yield Row("Flash", name, median(times), "ms", trip, goal, spread)


def main() -> None:
    """In the nursery: makes an app, deploys it, and deploys it again and again."""
    times = int(sys.argv[1])
    folder = Path(os.environ["BENCH_SCRATCH"])  # which goes with the nursery
    _spent(folder, "init", "shop")
    root = folder / "shop"
    _spent(root, "deploy", "--yes")
    same = [_spent(root, "deploy", "--yes") for _ in range(times)]
    changed = []
    for number in range(min(times, 3)):
        with (root / "main.py").open("a", encoding="utf-8") as file:
            file.write(f"\n# change {number}\n")
        changed.append(_spent(root, "deploy", "--yes"))
    print(json.dumps({SAME: same, CHANGED: changed}))


def _spent(folder: Path, *arguments: str) -> float:
    """Milliseconds on the clock."""
    begin = time.perf_counter_ns()
    ended = subprocess.run(
        [FLASH, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, env=os.environ
    )
    clock = (time.perf_counter_ns() - begin) / 1e6
    if ended.returncode:
        said = ended.stderr.decode(errors="replace")
        raise nursery.Failed(f"flash {' '.join(arguments)} ended with {ended.returncode}: {said}")
    return clock


if __name__ == "__main__":
    main()
