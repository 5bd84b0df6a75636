"""Durability `power`: what promises something waits until the disk has it; the rest goes out meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Accepted, Ack, Cancel, Done, Error, Outcome, Start
from tests.engine.scene import ClientSide, Scene, WorkerSide


class Disk:
    """Lets the test say when a sync ends."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._may_end = threading.Semaphore(0)
        self._sync = scene.store.log.sync
        self.fails = False
        scene.store.log.sync = self._slow  # type: ignore[method-assign]

    def _slow(self) -> None:
        assert self._may_end.acquire(timeout=10)
        if self.fails:
            raise OSError("the device is gone")
        self._sync()

    def ends(self) -> None:
        """The sync that runs ends, and the engine hears of it."""
        self._may_end.release()
        self._scene.wait_for_thread()
        self._scene.loop.spin()

    def is_fast(self) -> None:
        """From here on."""
        self._scene.store.log.sync = self._sync  # type: ignore[method-assign]
        self._may_end.release(100)
        self._scene.spin()


@pytest.fixture
def power(scenes: Callable[..., Scene]) -> Scene:
    return scenes(durability="power")


@pytest.fixture
def caller(power: Scene) -> ClientSide:
    return power.client()


@pytest.fixture
def one(power: Scene, caller: ClientSide) -> WorkerSide:
    """An idle worker."""
    host = power.host_up()
    caller.submit(caller.declare(workers_max=1))
    power.advance(1)
    (worker,) = host.workers.values()
    worker.done()
    power.advance(1)
    for wire in (caller.wire, worker.wire):
        wire.said.clear()
    caller.patient = False
    return worker


@pytest.fixture
def disk(power: Scene, one: WorkerSide) -> Disk:
    return Disk(power)


def returns(scene: Scene, worker: WorkerSide) -> str:
    """The call that runs returns, and nobody waits for the disk."""
    start = worker.running
    assert start is not None
    worker.finish(start, Done(job=start.job, epoch=start.epoch, ok=True))
    scene.loop.spin()
    return start.job


@pytest.fixture
def fn(power: Scene, one: WorkerSide) -> int:
    """The function that the worker has."""
    return max(power.engine.state.functions)


def test_accepted_waits_for_the_disk_and_the_start_does_not(
    power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int
) -> None:
    job = caller.submit(fn, wait=False)
    assert one.jobs == [job]
    assert not caller.wire.all(Accepted)
    disk.ends()
    assert caller.wire.all(Accepted) == [Accepted(job=job)]
    disk.is_fast()
    power.check()


def test_an_outcome_waits_for_the_disk(power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int) -> None:
    job = caller.submit(fn)
    returns(power, one)
    assert power.state(job) is JobState.COMPLETED
    assert not caller.wire.all(Outcome)
    disk.ends()
    assert caller.outcomes(job)
    disk.is_fast()


def test_an_acknowledgement_waits_for_the_disk_and_not_for_the_next_start(
    power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int
) -> None:
    first, second = caller.submit(fn), caller.submit(fn)
    one.wire.said.clear()
    returns(power, one)
    (start,) = one.wire.all(Start)
    assert (start.job, start.acks) == (second, [])
    assert not one.wire.all(Ack)
    disk.ends()
    assert [ack.acks for ack in one.wire.all(Ack)] == [[(first, 1, "recorded")]]
    disk.is_fast()


def test_one_start_at_most_means_that_the_claim_is_on_disk_before_the_worker_has_it(
    power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int
) -> None:
    once = caller.submit(fn, wait=False, max_retries=0)
    assert power.state(once) is JobState.RUNNING
    assert one.jobs == []
    caller.says(Cancel(job=once))  # does not overtake the START it is about, either
    disk.is_fast()
    power.advance(1)
    assert power.executions[once] <= 1
    assert power.state(once) is JobState.CANCELLED
    power.check()


def test_promises_of_many_turns_share_one_sync(
    power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int
) -> None:
    jobs = [caller.submit(fn, wait=False) for _ in range(5)]
    disk.ends()  # of the first one
    assert len(caller.wire.all(Accepted)) == 1
    disk.ends()  # of all others together
    assert [accepted.job for accepted in caller.wire.all(Accepted)] == jobs
    disk.is_fast()


def test_a_sync_that_fails_breaks_every_promise_that_waits_for_it(
    power: Scene, caller: ClientSide, one: WorkerSide, disk: Disk, fn: int
) -> None:
    caller.submit(fn, wait=False)
    disk.fails = True
    disk.ends()
    assert not caller.wire.all(Accepted)
    assert not caller.wire.all(Error)
    assert caller.wire.closed  # it sends the call again, to an engine that has read its store again
    disk.fails = False
    disk.is_fast()


def test_a_stop_keeps_every_promise_before_it_says_goodbye(power: Scene, caller: ClientSide, fn: int) -> None:
    job = caller.submit(fn, wait=False)
    power.stop(grace_s=0)
    assert [type(said.head).__name__ for said in caller.wire.said] == ["Accepted", "Goodbye"]
    assert caller.wire.all(Accepted) == [Accepted(job=job)]
