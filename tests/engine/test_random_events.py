"""Random events against a real engine: whatever happens in whatever order, what is always true stays true."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Accepted, Attach, Cancel, Retry
from tests.engine.scene import NOBODY, ClientSide, Scene, WorkerSide

FUNCTIONS = (("f", "v1", False), ("f", "v2", False), ("g", "v1", True))


class RandomEvents(RuleBasedStateMachine):
    """Callers, workers, hosts and engines come and go."""

    @initialize(workers_max=st.integers(1, 3))
    def begin(self, workers_max: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.scene = Scene(self.folder)
        self.scene.watch_transitions()
        self.workers_max = workers_max
        self.acknowledged: list[str] = []
        self.programs: list[ClientSide] = []
        self.program()
        self.scene.host_up()

    def program(self) -> None:
        """A new program; it declares the functions."""
        client = self.scene.client()
        self.functions = [
            client.declare(n, version=v, is_async=a, workers_max=self.workers_max) for n, v, a in FUNCTIONS
        ]
        self.programs.append(client)

    @property
    def client(self) -> ClientSide:
        return self.programs[-1]

    def worker(self, number: int, *, busy: bool = True) -> WorkerSide | None:
        """One of the workers."""
        assert self.scene.host is not None
        workers = [one for one in self.scene.host.workers.values() if one.running is not None or not busy]
        return workers[number % len(workers)] if workers else None

    # ── callers ───────────────────────────────────────────────────────────────────────────────────

    @rule(
        fn=st.integers(0, 2),
        size=st.integers(0, 3000),
        max_retries=st.sampled_from([0, 1, 1, 3]),
        priority=st.integers(-1, 1),
        delay_ms=st.sampled_from([0, 0, 0, 300]),
        ttl_ms=st.sampled_from([None, None, 400]),
        count=st.integers(1, 4),
    )
    def submit(self, fn: int, size: int, count: int, **policy: Any) -> None:
        for _ in range(count):
            job = self.client.submit(self.functions[fn], b"x" * size, wait=False, **policy)
            assert Accepted(job=job) in self.client.wire.all(Accepted)
            self.acknowledged.append(job)
        self.scene.advance(0.05)  # enough for workers to come

    @precondition(lambda self: self.acknowledged)
    @rule(number=st.integers(0, 100), what=st.sampled_from([Cancel, Cancel, Retry, Attach]))
    def ask_about(self, number: int, what: Any) -> None:
        self.client.says(what(job=self.acknowledged[number % len(self.acknowledged)]))

    @rule()
    def program_ends(self) -> None:
        self.client.leave()
        self.program()

    # ── workers ───────────────────────────────────────────────────────────────────────────────────

    @rule(number=st.integers(0, 5), run_us=st.sampled_from([10, 10, 10, 5000]), times=st.integers(1, 5))
    def call_returns(self, number: int, run_us: int, times: int) -> None:
        for _ in range(times):
            if worker := self.worker(number):
                worker.done(run_us=run_us)

    @rule(number=st.integers(0, 5), kind=st.sampled_from(["user", "user", "timeout", "load"]))
    def call_raises(self, number: int, kind: str) -> None:
        if worker := self.worker(number):
            worker.fails(kind)

    @rule(number=st.integers(0, 5), unsent=st.integers(0, 2))
    def worker_dies(self, number: int, unsent: int) -> None:
        """Perhaps with results that nobody has read."""
        if worker := self.worker(number, busy=False):
            for _ in range(unsent):
                if worker.running is not None:
                    worker.done(send=False)
            worker.die()

    @rule(number=st.integers(0, 5), unsent=st.integers(0, 2), later=st.booleans())
    def worker_gets_a_new_stream(self, number: int, unsent: int, later: bool) -> None:
        """What it sent on the old one may be lost."""
        if worker := self.worker(number, busy=False):
            for _ in range(unsent):
                if worker.running is not None:
                    worker.done(send=False)
            if later:
                worker.wire.close()
                self.scene.spin()
            worker.connect()
            self.scene.spin()

    @rule(number=st.integers(0, 5))
    def worker_goes_without_a_trace(self, number: int) -> None:
        """Its host forgot it, and says nothing."""
        if worker := self.worker(number, busy=False):
            assert self.scene.host is not None
            del self.scene.host.workers[worker.id]
            worker.wire.close()
            self.scene.host.wire.close()
            self.scene.spin()
            self.scene.back()
            self.scene.advance(2.5)

    # ── engine and host ───────────────────────────────────────────────────────────────────────────

    @rule(unsent=st.integers(0, 2))
    def engine_is_killed(self, unsent: int) -> None:
        if (worker := self.worker(0)) is not None:
            for _ in range(unsent):
                if worker.running is not None:
                    worker.done(send=False)
        self.scene.restart()
        self.program()
        self.scene.back()

    @rule()
    def engine_is_replaced(self) -> None:
        self.scene.stop(reason="handover", stop_host=False)
        self.scene.restart()
        self.program()
        self.scene.back()

    @rule()
    def engine_and_host_stop(self) -> None:
        self.scene.stop()
        self.scene.restart()
        self.program()
        self.scene.host_up()

    @rule()
    def host_is_killed(self) -> None:
        before = self.scene.host
        self.scene.kill_host()
        assert before is not None
        before.successor()

    @rule()
    def host_and_engine_are_killed(self) -> None:
        before = self.scene.host
        assert before is not None
        before.die()
        self.scene.kill()
        with closing(sqlite3.connect(self.scene.path)) as db, db:
            db.execute("UPDATE hosts SET pid = ?", (NOBODY,))
        self.scene.start()
        self.program()
        before.successor()

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.scene.advance(seconds)

    # ── what is always true ───────────────────────────────────────────────────────────────────────

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "scene"):
            self.scene.spin()
            self.scene.check()

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        try:
            self._finish()
        finally:
            self.scene.close()
            shutil.rmtree(self.folder)

    def _finish(self) -> None:
        """With peers that do their work, every acknowledged job comes to an end."""
        for _ in range(400):
            self.scene.advance(0.5)
            if not self.scene.rows("SELECT id FROM jobs WHERE state < 4"):
                break
            assert self.scene.host is not None
            for worker in list(self.scene.host.workers.values()):
                while worker.running is not None and not worker.wire.closed:
                    worker.done(run_us=5000)
        self.scene.check()
        left = {job: self.scene.state(job) for job in self.acknowledged}
        assert all(state.is_terminal for state in left.values()), left
        for job, state in left.items():
            error = self.scene.job(job)["error"]
            assert (state is JobState.COMPLETED) == (error is None)


RandomEvents.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRandomEvents = RandomEvents.TestCase
