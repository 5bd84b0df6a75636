"""What has to be looked at while workers live: their deadlines, their memory, the machine's memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from runpod_flash.host.loop import Loop
from runpod_flash.host.machine import available_share
from runpod_flash.host.processes import Process, shared_fairly_kb, snapshot
from runpod_flash.host.worker import Worker
from runpod_flash.host.workers import Workers

LOOK_S = 0.25
GRACE_S = 5.0
"""After a deadline; the worker itself, or the engine, acts first if it can."""
LEAST_MEMORY = 0.03
_PAUSE_S = 1.0  # for the memory of one that was killed to come back


class Guard:
    """Looks every 250 ms, and does nothing at all while there is no worker."""

    def __init__(
        self,
        workers: Workers,
        loop: Loop,
        note: Callable[[str], None],
        available: Callable[[], float] = available_share,
    ) -> None:
        self._workers = workers
        self._loop = loop
        self._note = note
        self._available = available
        self._looking = False
        self._patience_until = 0.0

    def wake(self) -> None:
        """A worker was started. Idempotent."""
        if not self._looking:
            self._looking = True
            self._loop.after(LOOK_S, self._look)

    def _look(self) -> None:
        if not len(self._workers):
            self._looking = False
            return
        self._loop.after(LOOK_S, self._look)
        now = time.monotonic_ns()
        limited = []
        for worker in list(self._workers):
            worker.log.settle()
            status = worker.doing()
            if status.deadline_ns and now > status.deadline_ns + int(GRACE_S * 1e9):
                self._end(worker, "deadline", f"job {status.job} is past its deadline and its grace")
            elif (status.running or worker.launch.at_once or worker.launch.program) and worker.launch.memory_mb:
                limited.append(worker)
        if limited:
            self._check_limits(limited, snapshot())
        if self._available() < LEAST_MEMORY and time.monotonic() > self._patience_until:
            self._save_machine()

    def _check_limits(self, workers: list[Worker], table: dict[int, Process]) -> None:
        for worker in workers:
            limit = (worker.launch.memory_mb or 0) * 1024
            tree = self._workers.processes_of(worker, table)
            # Resident sizes count shared pages many times, but are cheap: they tell who is worth a look.
            if sum(row.rss_kb for row in tree) > limit and (used := shared_fairly_kb(tree)) > limit:
                worker.used_kb = used
                self._end(worker, "memory", f"uses {used // 1024} MB, its limit is {limit // 1024} MB")

    def _save_machine(self) -> None:
        """The machine is about to swap or to kill somebody: rather one of ours, the one that takes most."""
        self._patience_until = time.monotonic() + _PAUSE_S
        table = snapshot()
        processes_of = self._workers.processes_of
        sizes = {worker: sum(row.rss_kb for row in processes_of(worker, table)) for worker in self._workers}
        if sizes:
            biggest = max(sizes, key=lambda worker: sizes[worker])
            self._end(
                biggest,
                "memory",
                f"the machine has no memory left, this one uses {sizes[biggest] // 1024} MB",
            )

    def _end(self, worker: Worker, why: str, story: str) -> None:
        if not worker.ending:
            self._note(f"worker {worker.id} is killed: {story}")
            self._workers.end(worker, why)
