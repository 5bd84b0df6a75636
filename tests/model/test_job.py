"""A job's life: states, transitions, and what follows a failure or a loss."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.errors import ConfigError, InvalidTransition
from runpod_flash.model.job import (
    STATUSES,
    TERMINAL_STATES,
    TERMINAL_STATUSES,
    TRANSITIONS,
    JobPolicy,
    JobState,
    after_failure,
    after_loss,
    check_policy,
    check_transition,
    new_job_id,
    retry_delay_ms,
)


def test_the_public_words_are_six_and_four_of_them_are_final() -> None:
    assert STATUSES == ("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
    assert {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"} == TERMINAL_STATUSES
    assert JobState.ASSIGNED.status == "IN_QUEUE"
    assert all(type(word) is str for word in STATUSES)


def test_an_ended_job_changes_only_where_somebody_retries_it() -> None:
    from_the_end = {move for move in TRANSITIONS if move[0] in TERMINAL_STATES}
    assert from_the_end == {(before, JobState.READY) for before in (JobState.FAILED, JobState.TIMED_OUT)}


def test_every_state_can_be_reached_and_every_living_one_can_end() -> None:
    assert {after for _, after in TRANSITIONS} == set(JobState)
    for state in set(JobState) - TERMINAL_STATES:
        for end in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
            check_transition(state, end)


def test_other_changes_are_refused_with_the_story() -> None:
    with pytest.raises(InvalidTransition, match="job j cannot go from COMPLETED to RUNNING") as caught:
        check_transition(JobState.COMPLETED, JobState.RUNNING, job="j", because="a late frame came")
    assert "a late frame came" in str(caught.value)
    assert "final" in str(caught.value)


# ── retries ───────────────────────────────────────────────────────────────────────────────────────


def test_pauses_double_from_a_fifth_of_a_second_to_half_a_minute() -> None:
    middle = [retry_delay_ms(failures, 0.5) for failures in (1, 2, 3, 8, 9, 1000)]
    assert middle == [200, 400, 800, 25_600, 30_000, 30_000]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_jitter_of_a_pause_is_a_quarter(failures: int, rand: float) -> None:
    middle = retry_delay_ms(failures, 0.5)
    assert 0.75 * middle - 1 <= retry_delay_ms(failures, rand) <= 1.25 * middle + 1


@pytest.mark.parametrize(("kind", "end"), [("user", JobState.FAILED), ("timeout", JobState.TIMED_OUT)])
@given(st.integers(0, 20))
def test_a_failing_job_is_started_once_more_than_it_has_retries(kind: str, end: JobState, max_retries: int) -> None:
    policy, failures, starts, state = JobPolicy(max_retries=max_retries), 0, 0, JobState.READY
    while state not in TERMINAL_STATES:
        starts += 1
        then = after_failure(policy, failures, 0, kind=kind, rand=0.5)
        state, failures = then.state, then.failures
        assert (then.delay_ms > 0) == (state is JobState.DELAYED)
    assert (starts, state, failures) == (max_retries + 1, end, max_retries + 1)


@pytest.mark.parametrize("kind", ["bind", "encode", "load", "env", "something new"])
def test_what_would_fail_again_is_not_retried(kind: str) -> None:
    then = after_failure(JobPolicy(max_retries=9), 0, 0, kind=kind, rand=0)
    assert then.state is JobState.FAILED
    assert kind in then.why


@pytest.mark.parametrize(
    ("kind", "state"),
    [("released", JobState.READY), ("cancelled", JobState.CANCELLED), ("expired", JobState.TIMED_OUT)],
)
def test_what_is_no_failure_counts_as_none(kind: str, state: JobState) -> None:
    then = after_failure(JobPolicy(), 1, 2, kind=kind, rand=0)
    assert (then.state, then.failures, then.losses) == (state, 1, 2)


# ── losses ────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 20), st.integers(0, 20))
def test_the_third_loss_is_the_last_whatever_the_retries(max_retries: int, failures: int) -> None:
    policy = JobPolicy(max_retries=max_retries)
    steps = [after_loss(policy, failures, losses, started=True) for losses in range(3)]
    assert [step.state for step in steps] == [JobState.READY, JobState.READY, JobState.FAILED]
    assert [step.losses for step in steps] == [1, 2, 3]
    assert {step.failures for step in steps} == {failures}
    assert "3 times" in steps[-1].why


def test_a_job_that_may_start_once_is_not_run_again() -> None:
    then = after_loss(JobPolicy(max_retries=0), 0, 0, started=True)
    assert then.state is JobState.FAILED
    assert "max_retries=0" in then.why


@pytest.mark.parametrize("max_retries", [0, 1])
def test_a_job_that_was_not_started_goes_back_uncounted(max_retries: int) -> None:
    then = after_loss(JobPolicy(max_retries=max_retries), 0, 2, started=False)
    assert (then.state, then.losses) == (JobState.READY, 2)


@given(st.lists(st.sampled_from(["user", "timeout", "lost", "released"]), max_size=30), st.integers(0, 5))
def test_every_step_is_a_transition_that_exists(ends: list[str], max_retries: int) -> None:
    policy, failures, losses = JobPolicy(max_retries=max_retries), 0, 0
    for end in ends:
        if end == "lost":
            then = after_loss(policy, failures, losses, started=True)
        else:
            then = after_failure(policy, failures, losses, kind=end, rand=0.5)
        check_transition(JobState.ASSIGNED if end == "released" else JobState.RUNNING, then.state)
        if then.state.is_terminal:
            break
        failures, losses = then.failures, then.losses


# ── policy and ids ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "wrong", [{"timeout_ms": 0}, {"max_retries": -1}, {"ttl_ms": 0}, {"priority": 10**7}, {"delay_ms": -1},
              {"max_retries": 1.5}, {"max_retries": "two"}, {"priority": None}]
)  # fmt: skip
def test_an_impossible_policy_names_its_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).removesuffix("_ms")):
        check_policy(JobPolicy(**wrong))


def test_a_policy_travels_in_messages() -> None:
    policy = JobPolicy(ttl_ms=5)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=JobPolicy) == check_policy(policy)


def test_ids_are_uuids_of_version_7_and_sort_by_their_time() -> None:
    made = [new_job_id() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {uuid.UUID(one).version for one in made} == {7}
    assert all(str(uuid.UUID(one)) == one for one in made)
