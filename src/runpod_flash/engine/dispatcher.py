"""Which worker runs what: choice, sending ahead, acknowledgements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from runpod_flash.engine import homes
from runpod_flash.engine.definitions import Definitions
from runpod_flash.engine.lineage import waits_for_calls
from runpod_flash.engine.records import Active, Function, Pool, Worker
from runpod_flash.engine.state import ArgsHead, State
from runpod_flash.engine.store.rows import Claimed, Returned
from runpod_flash.errors import StoreError
from runpod_flash.model.job import JobState
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.messages import Ack, Drain, Start, Stop

AHEAD_LIMIT: Final = 512
"""Calls at most that wait at a worker behind the one that runs."""
IDLE_GRACE_MS: Final = 2000
PROGRAM_GRACE_MS: Final = 10_000
"""The same for a program of the user's own, which may have to put away much more than we do."""
_SHORT_US: Final = 1000.0
_AHEAD_US: Final = 20_000.0
_LITTLE_US: Final = 200.0
_OVERHEAD_US: Final = 20.0
_ACK_AFTER_S: Final = 0.05
_args_head = msgspec.json.Decoder(ArgsHead)
PLAIN: Final = ArgsHead()
JSON: Final = ArgsHead("json")
"""Arguments of a job that came over HTTP: part 0 is its input, as JSON text."""
_READY: Final = JobState.READY


class Dispatcher:
    """Chooses workers and talks to them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ack_timer = False
        self._definitions = Definitions(state)

    # ── choice ────────────────────────────────────────────────────────────────────────────────────

    def free(self, fn: Function) -> Worker | None:
        """The newest idle worker that may run `fn`: it is the warmest, and the others can be let go.

        A worker that holds another version of the same function is no choice: both at once could need twice
        the memory that one needs.
        """
        if fn.pool.asks:
            return _asking(fn.pool)
        for worker in reversed(fn.pool.idle):
            if self.suits(worker, fn):
                return worker
        return None

    def free_home(self, fn: Function, instance: str) -> Worker | None:
        """The worker that may have a call of this instance now: its home if that is idle, any idle one if it has none.

        A worker that is busy is waited for, not passed over: the state of the instance is there.
        """
        home = fn.pool.homes.get(instance)
        if home is not None:
            first = not fn.pool.of_instances.get(instance)  # none of its calls waits already
            return home if first and home.state == "idle" and self.suits(home, fn) else None
        if homes.unclaimed(fn.pool) or not homes.may_settle(fn.pool):
            return None
        return homes.roomiest(worker for worker in reversed(fn.pool.idle) if self.suits(worker, fn))

    def suits(self, worker: Worker, fn: Function) -> bool:
        """Whether the worker holds no other version of this function."""
        return worker.loaded.get(fn.spec.name, fn.spec.version) == fn.spec.version

    def busy_with(self, fn: Function) -> Worker | None:
        """A worker that runs nothing but `fn` and may be sent more of it ahead: the least loaded one.

        It is found for a few short calls at a time, a fifth of a millisecond of them: they make less of a difference
        than the search does.
        """
        if (
            fn.ahead_left > 0
            and fn.ahead_at is not None
            and fn.run_us < _SHORT_US
            and self._may_have_more(fn.ahead_at, fn)
        ):
            fn.ahead_left -= 1
            return fn.ahead_at
        most = limit = self.ahead(fn)
        best = None
        if most > 1:
            for worker in fn.pool.workers.values():
                if len(worker.inflight) < limit and self._may_have_more(worker, fn):
                    best, limit = worker, len(worker.inflight)
            fn.ahead_at, fn.ahead_left = best, min(most - limit - 1, int(_LITTLE_US / (fn.run_us + _OVERHEAD_US)))
        return best

    def ahead(self, fn: Function) -> int:
        """Calls that a worker of `fn` may hold: 1 unless it is known to be short, then 20 ms worth of them."""
        if not 0 <= fn.run_us < _SHORT_US or fn.pool.asks:
            return 1
        return min(AHEAD_LIMIT, 1 + int(_AHEAD_US / (fn.run_us + _OVERHEAD_US)))

    # ── talking ───────────────────────────────────────────────────────────────────────────────────

    def assign(self, worker: Worker, job: Active, args: ArgsHead, parts: Sequence[frame.Buffer]) -> None:
        """Sends a job that is on record as this worker's."""
        self._note(worker, job)
        spec = job.fn.spec
        self.engage(worker, job.fn, args.defs)
        start = Start(
            job=job.job,
            attempt=job.attempt,
            epoch=job.epoch,
            name=spec.name,
            digest=spec.digest,
            timeout_ms=job.timeout_ms,
        )
        if worker.acks:
            start.acks = self._take_acks(worker)
        if args is not PLAIN:
            start.encoding, start.blobs, start.stream = args.encoding, args.blobs, args.stream
        if not job.awaited and start.encoding == "pickle":
            start.want_json = True  # whoever asks for it over HTTP
        if job.instance:
            start.instance, start.drop = job.instance, homes.settle(worker, job.instance)
        # At most one start ever: with durability `power` its claim is on disk before the worker has it.
        send = self._state.turn.send if job.max_retries else self._state.turn.promise
        send(worker.link, frame.encode(kinds.START, start.body(), parts))

    def engage(self, worker: Worker, fn: Function, more: Sequence[str]) -> None:
        """The worker is about to get a call of `fn`: it has the definitions that this needs, and is busy."""
        if worker.state == "idle":
            worker.pool.idle.remove(worker)
            worker.state = "busy"
        spec = fn.spec  # another one, with other definitions, once it was declared again
        if worker.latest is spec and not more:
            return
        worker.loaded[spec.name] = spec.version
        for digest in (*spec.defs, *more):
            if digest not in worker.sent:
                self._definitions.send(worker, digest)
        worker.latest = spec if worker.sent.issuperset(spec.defs) else None

    def serve(self, pool: Pool) -> None:
        """Gives the pool's idle workers what is ready, the newest first."""
        if pool.asks:
            while pool.queued and not self._state.draining and (asking := _asking(pool)) and self._may_claim(asking):
                pass
            return
        if pool.of_instances:  # what one may not have, another may
            for worker in reversed(list(pool.idle)):
                self.fill(worker)
            return
        while pool.queued and pool.idle and not self._state.draining:
            before = pool.queued, len(pool.idle)
            self.fill(pool.idle[-1])
            if (pool.queued, len(pool.idle)) == before:
                break

    def fill(self, worker: Worker) -> None:
        """Gives a worker the next jobs of its pool, if there are any and it may have them."""
        pool = worker.pool
        if worker.link is None or worker.state not in {"idle", "busy"} or self._state.draining:
            return
        if pool.asks:
            while worker.room and pool.queued and self._may_claim(worker):
                pass
            return
        if not worker.inflight and pool.queued and not (self._has_place(worker) and self._claim(worker)):
            return
        if worker.inflight and pool.queued:
            self._claim_ahead(worker)

    def offer(self, worker: Worker, room: int) -> None:
        """A program asks for so many jobs; 0: it has ceased to."""
        worker.room = room
        worker.pool.at_once = max(worker.pool.at_once, len(worker.inflight) + room)
        if room:
            self.fill(worker)

    def rest(self, worker: Worker) -> None:
        """A worker has nothing to do."""
        if worker.inflight or worker.requests or worker.link is None:
            return
        if worker.state == "busy":
            pool = worker.pool
            worker.state, worker.idle_since = "idle", self._state.clock.monotonic()
            pool.idle.append(worker)
            # What is of a release that is called no more has no more to wait for.
            self._state.look_by(worker.idle_since + (0 if pool.phase else pool.endpoint.spec.idle_timeout_s))
            if self._state.hungry:
                self._state.replan()
        elif worker.state != "idle":
            return
        if worker.acks and not self._ack_timer:
            self._ack_timer = True
            self._state.call_later(_ACK_AFTER_S, self._acknowledge)

    def drain(self, worker: Worker, why: str) -> None:
        """A worker takes nothing new, and ends after what it has."""
        if worker.state == "stopping":
            return
        if worker in worker.pool.idle:
            worker.pool.idle.remove(worker)
        worker.state, worker.stop_why = "draining", why
        homes.vacate(worker)
        self.stop_if_drained(worker)

    def stop_if_drained(self, worker: Worker) -> None:
        """A worker that takes nothing new ends after its last job."""
        if worker.state == "draining" and not worker.has_work:
            self.stop(worker, worker.stop_why, grace_ms=IDLE_GRACE_MS)

    def stop(self, worker: Worker, why: str, *, grace_ms: int = 0) -> None:
        """Has the host end a worker; what it runs is settled when it has exited."""
        if worker in worker.pool.idle:
            worker.pool.idle.remove(worker)
        worker.state = "stopping"
        homes.vacate(worker)
        worker.stop_why = worker.stop_why or why
        if worker.pool.asks:
            # Before the signal: one that waits for a job ends only when it has its answer.
            self._state.turn.send(worker.link, Drain().encode())
            grace_ms = PROGRAM_GRACE_MS if grace_ms else 0
        # To a host that is away it is said again when it comes back.
        if self._state.host:
            self._state.turn.send(self._state.host.link, Stop(worker=worker.id, grace_ms=grace_ms, why=why).encode())

    def begin_next(self, worker: Worker) -> None:
        """The first of a worker's jobs runs now, if it did not yet: the result of the one before it has come."""
        inflight = worker.inflight
        if inflight and not inflight[0].begun_at and not worker.pool.asks:
            inflight[0].begun_at = worker.last_done

    def go_on(self, worker: Worker) -> None:
        """A worker has brought a result: its next job runs, and it gets more, or rests."""
        self.begin_next(worker)
        if worker.pool.queued or not worker.inflight:
            self.fill(worker)
            self.rest(worker)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _may_have_more(self, worker: Worker, fn: Function) -> bool:
        inflight = worker.inflight
        return (
            bool(inflight)
            and worker.state == "busy"
            and worker.link is not None
            and inflight[0].fn is fn
            and self._may_have_others_behind(inflight[0])
        )

    def _may_have_others_behind(self, front: Active) -> bool:
        """Whether calls of the same function may wait behind that job.

        Not behind one that is started once at most: with durability `power` its START waits for the disk, and they
        would overtake it. Nor behind one that waits for calls of its own.
        """
        return front.max_retries > 0 and not self._state.lineage.waits(front.job)

    def _has_place(self, worker: Worker) -> bool:
        """Whether a worker may go on with the next job; not one too many, lent while others waited for their calls."""
        lineage, endpoint = self._state.lineage, worker.pool.endpoint
        if not lineage.above and len(worker.pool.workers) <= endpoint.spec.workers_max:
            return True
        taken = sum(
            each.state in {"starting", "idle", "busy"} and not waits_for_calls(lineage, each)
            for pool in endpoint.pools
            if pool.phase is worker.pool.phase
            for each in pool.workers.values()
        )
        if taken > endpoint.spec.workers_max:
            self._state.replan()
            return False
        return True

    def _may_claim(self, worker: Worker) -> bool:
        """One job for a program that asks for some; False if it gets none."""
        return self._has_place(worker) and self._claim(worker)

    def _note(self, worker: Worker, job: Active) -> None:
        if worker.pool.asks:
            worker.room -= 1  # it begins the job when it says so
        elif not worker.inflight:
            job.begun_at = self._state.clock.monotonic()
        worker.inflight.append(job)
        self._state.active[job.job] = job

    def _claim(self, worker: Worker) -> bool:
        """One job for a worker that has none; False if the next one needs another worker than this."""
        store, pool = self._state.turn.write(), worker.pool
        now = self._state.clock.wall_ms()
        if not pool.of_instances:
            claimed = store.claim(pool.id, worker.id, now)
        elif (claimed := store.claim_apart(pool.id, worker.id, now, *homes.whose_jobs(worker))) is None:
            return False
        if claimed is None:
            # Only a bug of ours can cause it; memory is read again from the store.
            raise StoreError(
                f"the store has none of the {pool.queued} jobs that wait in pool {pool.id}",
                why="the engine remembers what its store does not hold: a bug of Flash, or somebody wrote to the store",
                fix="nothing has to be done: the engine reads everything anew; please report it",
            )
        fn = self._state.functions[claimed.fn]
        if self.suits(worker, fn):
            self._take(worker, claimed)
            return True
        attempt = claimed.attempt - 1
        store.back(Returned(claimed.id, claimed.epoch, _READY, now, attempt, claimed.failures, claimed.losses))
        other = self.free(fn)
        if other is None:
            self.stop(worker, "version", grace_ms=IDLE_GRACE_MS if worker.instances else 0)
            self._state.replan()
            return False
        return self._claim(other) and (not pool.queued or self._claim(worker))

    def _claim_ahead(self, worker: Worker) -> None:
        front, have = worker.inflight[0], len(worker.inflight)
        fn = front.fn
        limit = self.ahead(fn)
        if front.instance or have > limit // 2 or not self._may_have_others_behind(front):
            return
        store = self._state.turn.write()
        for claimed in store.claim_ahead(worker.pool.id, fn.id, worker.id, self._state.clock.wall_ms(), limit - have):
            self._take(worker, claimed)

    def _take(self, worker: Worker, claimed: Claimed) -> None:
        worker.pool.leave(len(claimed.args), claimed.instance or "")
        job = active(claimed, self._state.functions[claimed.fn], self._state.clock.wall_ms())
        self.assign(worker, job, args_head(claimed.args_head), frame.unpack_parts(claimed.args))

    def _take_acks(self, worker: Worker) -> list[tuple[str, int, str]]:
        """The acknowledgements that a START takes along: all, unless they have to wait for the disk."""
        acks, worker.acks = worker.acks, []
        if self._state.turn.syncs:
            self._state.turn.promise(worker.link, Ack(acks=acks).encode())
            return []
        return acks

    def _acknowledge(self) -> None:
        """Sends acknowledgements to workers that no START brings them to."""
        self._ack_timer = False
        for worker in self._state.workers.values():
            if worker.acks and worker.link is not None:
                self._state.turn.promise(worker.link, Ack(acks=worker.acks).encode())
                worker.acks = []


def _asking(pool: Pool) -> Worker | None:
    """Of the programs that ask for a job the one with the fewest, of those the newest."""
    asking = [one for one in pool.workers.values() if one.room and one.link and one.state in {"idle", "busy"}]
    return min(reversed(asking), key=lambda worker: len(worker.inflight), default=None)


def active(claimed: Claimed, fn: Function, assigned_ms: int) -> Active:
    """The memory of a job that has been claimed."""
    return Active(
        job=claimed.id,
        fn=fn,
        epoch=claimed.epoch,
        attempt=claimed.attempt,
        failures=claimed.failures,
        losses=claimed.losses,
        timeout_ms=claimed.timeout_ms,
        max_retries=claimed.max_retries,
        created_ms=claimed.created_ms,
        assigned_ms=assigned_ms,
        size=len(claimed.args),
        seq=claimed.seq,
        stream=args_head(claimed.args_head).stream,
        instance=claimed.instance or "",
        priority=claimed.priority,
        awaited=bool(claimed.awaited),
    )


def args_head(said: str | None) -> ArgsHead:
    """How the arguments of a job are encoded, from what is on record of them."""
    return _args_head.decode(said) if said else PLAIN


def forget(pool: Pool, worker: Worker) -> None:
    """Takes a worker that is gone out of its pool."""
    homes.vacate(worker)
    pool.workers.pop(worker.id, None)
    if worker in pool.idle:
        pool.idle.remove(worker)
