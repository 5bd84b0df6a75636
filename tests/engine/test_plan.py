from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from runpod_flash.engine.plan import TURN_MS, look_again_ms, plan
from runpod_flash.engine.views import (
    Action,
    Capacity,
    DrainWorker,
    EndpointView,
    EnsureEnv,
    Launch,
    PoolView,
    Snapshot,
    StopWorker,
    Waits,
    WorkerView,
)

STATES: tuple[Literal["starting", "idle", "busy", "stopping"], ...] = ("starting", "idle", "busy", "stopping")
ROOMY = Capacity(memory_mb=64_000, gpus=(), max_workers=64)


def snapshot(
    pools: Sequence[PoolView],
    workers: Sequence[WorkerView] = (),
    *,
    endpoints: Sequence[EndpointView] = (),
    capacity: Capacity = ROOMY,
    draining: bool = False,
) -> Snapshot:
    """A snapshot in which every endpoint that is not given has its defaults."""
    known = {pool.endpoint: EndpointView(pool.endpoint) for pool in pools}
    known |= {endpoint.id: endpoint for endpoint in endpoints}
    return Snapshot(known, {pool.id: pool for pool in pools}, tuple(workers), capacity, draining)


def workers(pool: int, count: int, state: Any = "busy", **fields: Any) -> list[WorkerView]:
    return [WorkerView(f"w{pool}.{state}.{n}", pool, state, **fields) for n in range(count)]


def carried_out(before: Snapshot, actions: Sequence[Action]) -> Snapshot:
    """What the engine shows of these actions in its next snapshot, no time having passed."""
    pools, crew = dict(before.pools), {worker.id: worker for worker in before.workers}
    for number, action in enumerate(actions):
        if isinstance(action, Launch):
            fresh = f"new{number}"
            while fresh in crew:
                fresh += "+"
            crew[fresh] = WorkerView(fresh, action.pool, "starting", gpus=action.gpus)
        elif isinstance(action, (StopWorker, DrainWorker)):
            ended = crew[action.worker] = replace(crew[action.worker], state="stopping", idle_ms=0)
            pools[ended.pool] = replace(pools[ended.pool], unmanned_ms=0)
        elif isinstance(action, EnsureEnv):
            pools[action.pool] = replace(pools[action.pool], env="building")
    return replace(before, pools=pools, workers=tuple(crew.values()))


def without_stopping(before: Snapshot) -> Snapshot:
    return replace(before, workers=tuple(one for one in before.workers if one.state != "stopping"))


def launched(actions: Sequence[Action]) -> Counter[int]:
    return Counter(action.pool for action in actions if isinstance(action, Launch))


def acts(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Waits)]


# ── from zero ─────────────────────────────────────────────────────────────────────────────────────


def test_nothing_to_do_needs_nothing() -> None:
    assert plan(snapshot([PoolView(1, 1)])) == []
    assert look_again_ms(snapshot([PoolView(1, 1)])) is None


def test_the_first_job_gets_a_worker_at_once() -> None:
    assert plan(snapshot([PoolView(1, 1, queued=1)])) == [Launch(1)]


def test_a_job_without_environment_has_it_built_first() -> None:
    unknown = PoolView(1, 1, queued=1, env="unknown")
    assert plan(snapshot([unknown])) == [EnsureEnv(1)]
    building = replace(unknown, env="building")
    assert plan(snapshot([building])) == [Waits(1, "environment", "waiting for its environment, which is being built")]


def test_no_worker_starts_while_the_pool_backs_off_or_the_engine_drains() -> None:
    blocked = snapshot([PoolView(1, 1, queued=1, launch_blocked_ms=2500)])
    assert plan(blocked) == [Waits(1, "backoff", "its workers crash while they start; the next try is within 3 s")]
    assert look_again_ms(blocked) == min(2500, 100)
    assert plan(snapshot([PoolView(1, 1, queued=1)], draining=True)) == []
    assert look_again_ms(snapshot([PoolView(1, 1, queued=1)], draining=True)) is None


# ── growing ───────────────────────────────────────────────────────────────────────────────────────


def test_eight_jobs_of_a_second_have_three_workers_within_a_tenth_of_a_second() -> None:
    burst = PoolView(1, 1, queued=8)
    assert launched(plan(snapshot([burst]))) == {1: 1}
    starting = workers(1, 1, "starting")
    assert look_again_ms(snapshot([burst], starting)) == 100
    waited = replace(burst, oldest_wait_ms=100)
    assert launched(plan(snapshot([waited], starting))) == {1: 2}


def test_a_burst_of_tiny_calls_is_left_to_the_worker_that_is_there() -> None:
    tiny = PoolView(1, 1, queued=500, running=1, oldest_wait_ms=199, queued_runs_soon=True)
    assert acts(plan(snapshot([tiny], workers(1, 1)))) == []


def test_calls_that_were_short_and_are_not_any_more_get_their_workers() -> None:
    """What was measured says that the queue is empty soon; the oldest of it says otherwise."""
    changed = PoolView(1, 1, queued=7, running=1, oldest_wait_ms=150, queued_runs_soon=True)
    assert look_again_ms(snapshot([changed], workers(1, 1))) == 50
    assert launched(plan(snapshot([replace(changed, oldest_wait_ms=200)], workers(1, 1)))) == {1: 2}


def test_scaler_value_is_a_delay_in_fortieths() -> None:
    patient = EndpointView(1, scaler_value=60)
    pool = PoolView(1, 1, queued=2, running=1, oldest_wait_ms=1499)
    crew = workers(1, 1)
    assert look_again_ms(snapshot([pool], crew, endpoints=[patient])) == 1
    assert acts(plan(snapshot([pool], crew, endpoints=[patient]))) == []
    assert launched(plan(snapshot([replace(pool, oldest_wait_ms=1500)], crew, endpoints=[patient]))) == {1: 2}


def test_a_pool_takes_no_more_workers_than_it_has_jobs() -> None:
    assert launched(plan(snapshot([PoolView(1, 1, queued=2, oldest_wait_ms=9000)]))) == {1: 2}
    several = PoolView(1, 1, queued=9, oldest_wait_ms=9000, concurrency=4)
    assert launched(plan(snapshot([several], endpoints=[EndpointView(1, workers_max=10)]))) == {1: 3}


def test_request_count_divides_what_is_in_flight() -> None:
    endpoint = EndpointView(1, scaler="REQUEST_COUNT", scaler_value=4, workers_max=10)
    pool = PoolView(1, 1, queued=5, running=4)
    assert launched(plan(snapshot([pool], workers(1, 1), endpoints=[endpoint]))) == {1: 2}


def test_workers_max_counts_over_all_pools_of_an_endpoint() -> None:
    pools = [PoolView(n, 1, queued=9, oldest_wait_ms=1000) for n in (1, 2)]
    actions = plan(snapshot(pools, workers(1, 1, "starting")))
    assert launched(actions) == {1: 1, 2: 1}
    why = "waiting for a worker: workersMax=3 are busy"
    assert set(actions[-2:]) == {Waits(1, "workers_max", why), Waits(2, "workers_max", why)}


def test_stopping_workers_count_until_they_are_gone() -> None:
    full = snapshot([PoolView(1, 1, queued=1), PoolView(2, 1)], workers(2, 3, "stopping"))
    assert plan(full) == []
    assert plan(replace(full, workers=full.workers[1:])) == [Launch(1)]


# ── sharing ───────────────────────────────────────────────────────────────────────────────────────


def test_five_environments_share_three_workers() -> None:
    """Each function is called once, in turn or together, and every call finds a worker in the end."""
    state = snapshot([PoolView(n, 1, queued=1) for n in range(5)])
    served: set[int] = set()
    for _ in range(10):
        state = without_stopping(carried_out(state, plan(state)))
        served |= {worker.pool for worker in state.workers}
        done = {worker.pool for worker in state.workers}
        pools = {n: replace(pool, queued=0 if n in done else pool.queued) for n, pool in state.pools.items()}
        idle = tuple(replace(worker, state="idle", idle_ms=10) for worker in state.workers)
        state = replace(state, pools=pools, workers=idle)
    assert served == set(range(5))
    assert len(state.workers) == 3


def test_the_longest_idle_worker_makes_room() -> None:
    pools = [PoolView(1, 1), PoolView(2, 1), PoolView(3, 1, queued=1)]
    crew = [
        WorkerView("young", 1, "idle", idle_ms=10),
        WorkerView("old", 1, "idle", idle_ms=500),
        WorkerView("middle", 2, "idle", idle_ms=50),
    ]
    before = snapshot(pools, crew)
    assert plan(before) == [StopWorker("old", "evicted")]
    after = carried_out(before, plan(before))
    assert plan(after) == []
    assert plan(without_stopping(after)) == [Launch(3)]


def test_a_worker_whose_own_queue_has_jobs_is_not_evicted() -> None:
    pools = [PoolView(1, 1, queued=1), PoolView(2, 1, queued=1)]
    crew = workers(1, 3, "idle", idle_ms=900)
    assert acts(plan(snapshot(pools, crew))) == []


def test_kept_workers_are_evicted_last_but_they_are() -> None:
    endpoint = EndpointView(1, workers_min=1, held=True, priority_pool=1, workers_max=2)
    pools = [PoolView(1, 1), PoolView(2, 1), PoolView(3, 1, queued=1)]
    crew = [WorkerView("kept", 1, "idle", idle_ms=900), WorkerView("other", 2, "idle", idle_ms=1)]
    assert acts(plan(snapshot(pools, crew, endpoints=[endpoint]))) == [StopWorker("other", "evicted")]
    busy = [crew[0], replace(crew[1], state="busy")]
    assert acts(plan(snapshot(pools, busy, endpoints=[endpoint]))) == [StopWorker("kept", "evicted")]


def test_a_full_machine_is_shared_evenly_between_endpoints() -> None:
    pools = [PoolView(n, n, queued=50, oldest_wait_ms=1000) for n in (1, 2)]
    endpoints = [EndpointView(n, workers_max=50) for n in (1, 2)]
    small = Capacity(memory_mb=0, gpus=(), max_workers=8)
    crew = workers(1, 2)
    actions = plan(snapshot(pools, crew, endpoints=endpoints, capacity=small))
    assert launched(actions) == {1: 2, 2: 4}


def test_an_idle_worker_of_any_endpoint_makes_room_on_a_full_machine() -> None:
    pools = [PoolView(1, 1), PoolView(2, 2, queued=1)]
    small = Capacity(memory_mb=0, gpus=(), max_workers=2)
    crew = [*workers(1, 1, "busy"), *workers(1, 1, "idle", idle_ms=5)]
    assert plan(snapshot(pools, crew, capacity=small)) == [StopWorker("w1.idle.0", "evicted")]


def test_a_pool_with_a_long_queue_gives_way_to_one_that_has_no_worker() -> None:
    greedy = PoolView(1, 1, queued=1000, running=3, oldest_wait_ms=60_000)
    starved = PoolView(2, 1, queued=1, oldest_wait_ms=TURN_MS)
    crew = workers(1, 3, age_ms=TURN_MS)
    before = snapshot([greedy, starved], crew)
    assert acts(plan(before)) == [DrainWorker("w1.busy.0", "evicted")]
    after = carried_out(before, plan(before))
    assert acts(plan(after)) == []
    assert acts(plan(without_stopping(after))) == [Launch(2)]


def test_nobody_has_to_give_way_before_its_turn_is_over() -> None:
    greedy = PoolView(1, 1, queued=1000, running=3, oldest_wait_ms=60_000)
    starved = PoolView(2, 1, queued=1, oldest_wait_ms=TURN_MS - 1)
    old, young = workers(1, 3, age_ms=TURN_MS), workers(1, 3, age_ms=TURN_MS - 10)
    assert acts(plan(snapshot([greedy, starved], old))) == []
    assert look_again_ms(snapshot([greedy, starved], old)) == 1
    waiting = replace(starved, oldest_wait_ms=TURN_MS)
    assert acts(plan(snapshot([greedy, waiting], young))) == []
    assert look_again_ms(snapshot([greedy, waiting], young)) == 10


def test_even_shares_are_left_alone() -> None:
    pools = [PoolView(n, n, queued=50, running=2, oldest_wait_ms=9000) for n in (1, 2)]
    small = Capacity(memory_mb=0, gpus=(), max_workers=5)
    crew = [*workers(1, 3, age_ms=9000), *workers(2, 2, age_ms=9000)]
    assert acts(plan(snapshot(pools, crew, capacity=small))) == []


def test_endless_queues_take_turns_on_one_worker() -> None:
    """Three pools, one place, a minute in steps of 100 ms; a drained worker is gone a step later."""
    state = snapshot(
        [PoolView(n, 1, queued=1000, oldest_wait_ms=1000 * n) for n in range(3)],
        endpoints=[EndpointView(1, workers_max=1)],
    )
    worked: Counter[int] = Counter()
    for _ in range(600):
        state = without_stopping(state)
        state = after_100_ms(carried_out(state, plan(state)))
        worked.update(one.pool for one in state.workers if one.state == "busy")
    assert all(worked[n] > 150 for n in range(3))


def after_100_ms(state: Snapshot) -> Snapshot:
    """Whatever started is busy now, and everybody has waited a little longer."""
    crew = tuple(
        replace(one, state="stopping" if one.state == "stopping" else "busy", age_ms=one.age_ms + 100)
        for one in state.workers
    )
    manned = {one.pool for one in crew if one.state == "busy"}
    pools = {
        n: replace(
            pool,
            oldest_wait_ms=pool.oldest_wait_ms + 100,
            unmanned_ms=0 if n in manned else pool.unmanned_ms + 100,
        )
        for n, pool in state.pools.items()
    }
    return replace(state, pools=pools, workers=crew)


# ── memory and cards ──────────────────────────────────────────────────────────────────────────────


def test_cards_are_leased_to_one_worker_each() -> None:
    two = Capacity(memory_mb=0, gpus=(0, 1), max_workers=9)
    pool = PoolView(1, 1, queued=3, gpus=1, oldest_wait_ms=1000)
    endpoint = EndpointView(1, name="train")
    actions = plan(snapshot([pool], capacity=two, endpoints=[endpoint]))
    assert actions[:2] == [Launch(1, (0,)), Launch(1, (1,))]
    crew = [WorkerView("a", 1, "busy", gpus=(0,)), WorkerView("b", 1, "busy", gpus=(1,))]
    assert plan(snapshot([pool], crew, capacity=two, endpoints=[endpoint])) == [
        Waits(1, "gpu", "waiting for a GPU: GPU 0 is in use by train, GPU 1 by train")
    ]


def test_a_pool_gets_cards_of_its_kind_and_waits_for_no_others() -> None:
    three = Capacity(memory_mb=0, gpus=(0, 1, 2), max_workers=9)
    pools = [
        PoolView(1, 1, queued=9, gpus=1, cards=(1,), oldest_wait_ms=1000),
        PoolView(2, 2, queued=1, gpus=2, cards=(0, 2), oldest_wait_ms=1000),
    ]
    actions = plan(snapshot(pools, capacity=three))
    assert [one for one in actions if isinstance(one, Launch)] == [Launch(1, (1,)), Launch(2, (0, 2))]
    crew = [WorkerView("a", 1, "busy", gpus=(1,)), WorkerView("b", 2, "idle", gpus=(0, 2))]
    waits = plan(snapshot(pools[:1], crew[:1], capacity=three))
    why = "waiting for a GPU: GPU 1 is in use by worker a"
    assert waits == [Waits(1, "gpu", why)], "the other two are of no use to it"
    other = replace(pools[0], id=3, endpoint=3, cards=(2,))
    assert plan(snapshot([pools[0], replace(pools[1], queued=0), other], crew, capacity=three))[0] == StopWorker(
        "b", "evicted"
    )


def test_only_a_worker_that_has_a_card_makes_room_for_one_that_needs_it() -> None:
    one = Capacity(memory_mb=0, gpus=(0,), max_workers=9)
    pools = [PoolView(1, 1), PoolView(2, 1, gpus=1), PoolView(3, 2, queued=1, gpus=1)]
    crew = [WorkerView("plain", 1, "idle", idle_ms=900), WorkerView("card", 2, "idle", gpus=(0,), idle_ms=1)]
    assert plan(snapshot(pools, crew, capacity=one)) == [StopWorker("card", "evicted")]


def test_two_cards_are_not_snatched_away_one_by_one() -> None:
    """What is free or becoming free is kept for whoever was promised it."""
    two = Capacity(memory_mb=0, gpus=(0, 1), max_workers=9)
    wide = PoolView(1, 1, queued=1, gpus=2, oldest_wait_ms=9000)
    narrow = PoolView(2, 2, queued=1, gpus=1, oldest_wait_ms=100)
    leaving = WorkerView("leaving", 2, "stopping", gpus=(1,))
    waits = Waits(2, "gpu", "waiting for a GPU: GPU 1 is in use by worker leaving")
    assert plan(snapshot([wide, narrow], [leaving], capacity=two)) == [waits]


def test_memory_is_not_promised_twice() -> None:
    small = Capacity(memory_mb=10_000, gpus=(), max_workers=9)
    pool = PoolView(1, 1, queued=3, memory_mb=4000, oldest_wait_ms=1000)
    actions = plan(snapshot([pool], capacity=small))
    assert launched(actions) == {1: 2}
    assert actions[-1] == Waits(1, "memory", "waiting for memory: a worker needs 4000 of this machine's 10000 MB")


def test_more_than_the_machine_has_is_clamped_and_starts() -> None:
    small = Capacity(memory_mb=1000, gpus=(0,), max_workers=1)
    pool = PoolView(1, 1, queued=1, memory_mb=64_000, gpus=8)
    assert plan(snapshot([pool], capacity=small)) == [Launch(1, (0,))]


# ── ending ────────────────────────────────────────────────────────────────────────────────────────


def test_idle_workers_end_after_their_timeout_and_not_below_the_minimum() -> None:
    crew = [WorkerView("a", 1, "idle", idle_ms=900), WorkerView("b", 1, "idle", idle_ms=400)]
    held = EndpointView(1, idle_timeout_ms=500, workers_min=1, held=True, priority_pool=1)
    before = snapshot([PoolView(1, 1)], crew, endpoints=[held])
    assert plan(before) == [StopWorker("a", "idle")]
    assert plan(replace(before, workers=(replace(crew[1], idle_ms=9000),))) == []
    loose = replace(before, endpoints={1: replace(held, held=False)})
    assert look_again_ms(loose) == 100
    late = replace(loose, workers=tuple(replace(one, idle_ms=600) for one in crew))
    assert len(plan(late)) == 2


def test_minimum_workers_start_without_jobs_but_push_nobody_out() -> None:
    held = EndpointView(1, workers_min=2, workers_max=3, held=True, priority_pool=2)
    pools = [PoolView(1, 1), PoolView(2, 1)]
    assert plan(snapshot(pools, endpoints=[held])) == [Launch(2), Launch(2)]
    crew = workers(1, 2, "idle", idle_ms=10)
    assert plan(snapshot(pools, crew, endpoints=[held])) == [Launch(2)]
    unbuilt = [pools[0], replace(pools[1], env="unknown")]
    assert plan(snapshot(unbuilt, endpoints=[held])) == [EnsureEnv(2)]


def test_a_lowered_maximum_ends_idle_workers_first_and_busy_ones_after_their_job() -> None:
    lower = EndpointView(1, workers_max=1)
    crew = [*workers(1, 2, "busy"), *workers(1, 1, "idle"), *workers(1, 1, "starting")]
    assert plan(snapshot([PoolView(1, 1, running=2)], crew, endpoints=[lower])) == [
        StopWorker("w1.idle.0", "surplus"),
        StopWorker("w1.starting.0", "surplus"),
        DrainWorker("w1.busy.0", "surplus"),
    ]


# ── whatever the snapshot ─────────────────────────────────────────────────────────────────────────


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot that an engine can be in: cards are leased once, and running jobs have a worker."""
    cards = tuple(range(draw(st.integers(0, 3))))
    capacity = Capacity(draw(st.sampled_from([0, 4000, 16_000])), cards, draw(st.integers(1, 8)))
    endpoints = {n: draw(_endpoints(n)) for n in range(draw(st.integers(1, 3)))}
    pools = {n: draw(_pools(n, len(endpoints))) for n in range(draw(st.integers(1, 5)))}
    free, crew = list(cards), []
    for n in range(draw(st.integers(0, capacity.max_workers))):
        pool = pools[draw(st.integers(0, len(pools) - 1))]
        suitable = [card for card in free if card in _suitable(pool, cards)]
        need = min(pool.gpus, len(_suitable(pool, cards)))
        if len(suitable) < need:
            continue
        leased = tuple(suitable[:need])
        free = [card for card in free if card not in leased]
        state = draw(st.sampled_from(STATES))
        idle_ms = draw(st.sampled_from([0, 50, 5000])) if state == "idle" else 0
        age_ms = draw(st.sampled_from([0, TURN_MS]))
        if state != "stopping":
            pools[pool.id] = replace(pools[pool.id], unmanned_ms=0)
        crew.append(WorkerView(f"w{n}", pool.id, state, idle_ms=idle_ms, gpus=leased, age_ms=age_ms))
    return Snapshot(endpoints, pools, tuple(crew), capacity, draw(st.integers(0, 9)) == 0)


def _suitable(pool: PoolView, cards: tuple[int, ...]) -> tuple[int, ...]:
    return cards if pool.cards is None else tuple(card for card in cards if card in pool.cards)


@st.composite
def _endpoints(draw: st.DrawFn, number: int) -> EndpointView:
    most = draw(st.integers(1, 5))
    return EndpointView(
        number,
        workers_min=draw(st.integers(0, most)),
        workers_max=most,
        idle_timeout_ms=draw(st.sampled_from([0, 1000, 300_000])),
        scaler=draw(st.sampled_from(["QUEUE_DELAY", "REQUEST_COUNT"])),
        scaler_value=draw(st.integers(1, 5)),
        held=draw(st.booleans()),
        priority_pool=draw(st.sampled_from([None, number])),
        lb=draw(st.booleans()),
    )


@st.composite
def _pools(draw: st.DrawFn, number: int, endpoints: int) -> PoolView:
    return PoolView(
        number,
        number % endpoints,
        queued=draw(st.sampled_from([0, 0, 1, 3, 40])),
        oldest_wait_ms=draw(st.sampled_from([0, 150, 9000])),
        running=draw(st.integers(0, 3)),
        env=draw(st.sampled_from(["unknown", "building", "ready", "ready"])),
        gpus=draw(st.sampled_from([0, 0, 1, 2, 9])),
        cards=draw(st.sampled_from([None, None, (0,), (1, 2)])),
        memory_mb=draw(st.sampled_from([None, 1000, 3000, 99_000])),
        concurrency=draw(st.sampled_from([1, 1, 4])),
        launch_blocked_ms=draw(st.sampled_from([0, 0, 0, 700])),
        queued_runs_soon=draw(st.booleans()),
        unmanned_ms=draw(st.sampled_from([0, 500, 9000])),
    )


def _memory(state: Snapshot) -> int:
    return sum(min(state.pools[one.pool].memory_mb or 0, state.capacity.memory_mb) for one in state.workers)


@given(snapshots())
def test_no_limit_is_ever_crossed(before: Snapshot) -> None:
    after = carried_out(before, plan(before))
    grown = launched(plan(before))
    per_endpoint = Counter(after.pools[one.pool].endpoint for one in after.workers)
    for pool in grown:
        endpoint = after.endpoints[after.pools[pool].endpoint]
        assert per_endpoint[endpoint.id] <= endpoint.workers_max
    if grown:
        assert len(after.workers) <= after.capacity.max_workers
    if any(after.pools[pool].memory_mb for pool in grown):
        assert _memory(after) <= after.capacity.memory_mb
    leases = Counter(gpu for one in after.workers for gpu in one.gpus)
    assert all(count == 1 for count in leases.values())


@given(snapshots())
def test_a_busy_worker_is_never_stopped_and_nobody_is_ended_twice(before: Snapshot) -> None:
    states = {one.id: one.state for one in before.workers}
    actions = plan(before)
    ended = [action for action in actions if isinstance(action, (StopWorker, DrainWorker))]
    assert max(Counter(action.worker for action in ended).values(), default=1) == 1
    for action in ended:
        allowed = {"busy"} if isinstance(action, DrainWorker) else {"idle", "starting"}
        assert states[action.worker] in allowed


@given(snapshots())
def test_only_pools_that_may_start_workers_are_given_them(before: Snapshot) -> None:
    for action in plan(before):
        if isinstance(action, Launch):
            pool = before.pools[action.pool]
            assert pool.env == "ready"
            assert pool.launch_blocked_ms == 0
            suitable = _suitable(pool, before.capacity.gpus)
            assert len(action.gpus) == min(pool.gpus, len(suitable))
            assert set(action.gpus) <= set(suitable)
            assert not before.draining


@given(snapshots())
def test_the_same_snapshot_gives_the_same_plan(before: Snapshot) -> None:
    shuffled = replace(before, workers=tuple(reversed(before.workers)))
    assert plan(before) == plan(before)
    assert set(plan(shuffled)) == set(plan(before))


@given(snapshots())
def test_a_plan_that_is_being_carried_out_is_not_made_again(before: Snapshot) -> None:
    after = carried_out(before, plan(before))
    assert acts(plan(after)) == []


@given(snapshots())
def test_a_queue_without_a_worker_is_helped_or_told_why_not(before: Snapshot) -> None:
    actions = plan(before)
    after = carried_out(before, actions)
    waiting = {action.pool for action in actions if isinstance(action, Waits)}
    manned = {one.pool for one in after.workers if one.state != "stopping"}
    ends = any(one.state == "stopping" for one in after.workers)
    for pool in before.pools.values():
        if pool.queued and not before.draining and pool.id not in manned:
            assert pool.id in waiting or EnsureEnv(pool.id) in actions or ends


def needed(pool: PoolView) -> bool:
    """Calls wait for its workers, or are at them: load-balanced, an idle one is about to get some."""
    return bool(pool.queued or pool.running)


@given(snapshots())
def test_who_is_told_to_wait_cannot_be_given_an_idle_worker_s_place(before: Snapshot) -> None:
    """Progress: if a pool with no worker gets none, no idle worker that nobody needs is in its way."""
    actions = plan(before)
    after = carried_out(before, actions)
    if any(one.state == "stopping" for one in after.workers):
        return
    told = {action.pool for action in actions if isinstance(action, Waits)}
    for number in told:
        pool = before.pools[number]
        if pool.env != "ready" or pool.launch_blocked_ms:
            continue
        useless = {one.id for one in after.workers if one.state == "idle" and not needed(before.pools[one.pool])}
        rest = tuple(one for one in after.workers if one.id not in useless)
        assert launched(plan(replace(after, workers=rest)))[number] == 0


@settings(max_examples=50)
@given(snapshots())
def test_everything_settles_when_workers_do_as_they_are_told(before: Snapshot) -> None:
    """No flapping: with stopped workers gone and launched ones busy, the plan comes to rest."""
    state = replace(
        before,
        pools={n: replace(pool, env="ready", launch_blocked_ms=0) for n, pool in before.pools.items()},
    )
    for _ in range(60):
        actions = acts(plan(state))
        if not actions and not any(one.state == "stopping" for one in state.workers):
            return
        state = without_stopping(carried_out(state, actions))
        state = replace(
            state,
            workers=tuple(replace(one, state="busy") if one.state == "starting" else one for one in state.workers),
        )
    raise AssertionError(f"still busy after 60 rounds: {acts(plan(state))}")


def test_calls_at_load_balanced_workers_bring_more_of_them_before_anyone_waits() -> None:
    endpoint = EndpointView(1, workers_max=5, scaler="REQUEST_COUNT", scaler_value=4, lb=True)
    pool = PoolView(1, 1, running=9, concurrency=100)
    busy = WorkerView("a", 1, "busy")
    assert plan(snapshot([pool], [busy], endpoints=[endpoint])) == [Launch(1), Launch(1)]
    assert plan(snapshot([replace(pool, running=4)], [busy], endpoints=[endpoint])) == []


def test_a_load_balanced_worker_that_takes_one_call_is_asked_for_no_more_than_that() -> None:
    endpoint = EndpointView(1, workers_max=5, scaler="REQUEST_COUNT", scaler_value=4, lb=True)
    assert plan(snapshot([PoolView(1, 1, queued=3, concurrency=1)], endpoints=[endpoint])) == [Launch(1)] * 3
