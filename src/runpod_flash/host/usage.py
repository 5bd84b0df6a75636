"""What workers and cards use right now, for `flash ps`: measured when somebody asks, so it costs nothing otherwise.

A share of a processor is a difference between two looks. The pause between them is short, since a person waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from runpod_flash.host.commands import Command, Result, Runner, Steps
from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import Children, Process, shared_fairly_kb, snapshot, tree_of

PAUSE_S = 0.2
LIMIT_S = 1.2
"""A graphics driver that hangs does not keep the other facts back for longer."""
_NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=index,name,memory.total,utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
)

Rows = list[dict[str, Any]]
Trees = Mapping[str, list[Process]]
"""Worker → its processes."""


class Running(Protocol):
    """As much of a worker as is needed here."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def pid(self) -> int:
        """Its process."""


class Usage:
    """Measures for whoever asks; who asks meanwhile gets the same answer."""

    def __init__(self, workers: Iterable[Running], loop: Loop, children: Children, *, cards: bool) -> None:
        self._workers = workers
        self._loop = loop
        self._children = children
        self._cards = cards
        self._asking: list[Callable[[Rows], None]] = []
        self._trees: Rows = []

    def measure(self, answer: Callable[[Rows], None]) -> None:
        """Calls back with the rows; at once where nothing runs and there is no card."""
        self._asking.append(answer)
        if len(self._asking) > 1:
            return
        self._trees = []
        runner = Runner(self._loop, self._children, self._steps())
        if self._asking:
            self._loop.after(LIMIT_S, lambda: self._give_up(runner))

    def _steps(self) -> Steps:
        workers = list(self._workers)
        if workers:
            before, began = _look(workers), time.monotonic()
            yield PAUSE_S
            self._trees = _rows(before, _look(workers), time.monotonic() - began)
        cards = read_cards((yield Command(_NVIDIA_SMI, dict(os.environ), Path("/")))) if self._cards else []
        self._answer([*self._trees, *cards])

    def _give_up(self, runner: Runner) -> None:
        if not runner.over:
            runner.cancel()
            self._answer(self._trees)

    def _answer(self, rows: Rows) -> None:
        asking, self._asking = self._asking, []
        for answer in asking:
            answer(rows)


def _look(workers: Iterable[Running]) -> Trees:
    table = snapshot()
    return {worker.id: tree_of(worker.pid, table) for worker in workers}


def _rows(before: Trees, after: Trees, seconds: float) -> Rows:
    return [
        {
            "worker": worker,
            "processes": len(tree),
            "memory_kb": shared_fairly_kb(tree),
            "cpu_percent": round(_cpu_ms(before[worker], tree) / (10 * seconds)),
        }
        for worker, tree in after.items()
        if tree
    ]


def _cpu_ms(before: Iterable[Process], after: Iterable[Process]) -> int:
    """What they used in between, with those that came meanwhile and without those that went."""
    used = {(row.pid, row.started): row.cpu_ms for row in before}
    return sum(max(0, row.cpu_ms - used.get((row.pid, row.started), 0)) for row in after)


def read_cards(said: Result | None) -> Rows:
    """What nvidia-smi printed; a field that a card does not tell is None."""
    return [row for line in (said.out if said else "").splitlines() if (row := _card(line))]


def _card(line: str) -> dict[str, Any] | None:
    index, _, rest = line.partition(",")
    name, *numbers = rest.rsplit(",", 3)
    if not index.strip().isdigit() or len(numbers) != 3:
        return None
    total, percent, used = (int(text) if (text := each.strip()).isdigit() else None for each in numbers)
    return {
        "gpu": int(index),
        "name": name.strip(),
        "percent": percent,
        "memory_mb": total,
        "memory_used_mb": used,
    }
