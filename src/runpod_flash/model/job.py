"""A job's life: its states, the changes between them, and what follows a failed or a lost attempt.

Everything here is data or a pure function; the engine asks and then does it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from types import MappingProxyType
from typing import Final

from runpod_flash.errors import ConfigError, InvalidTransition, call_site, shown
from runpod_flash.model.value import is_count

MAX_LOSSES: Final = 3
"""The loss of a worker that ends its job: one that kills whatever runs it must come to an end."""

FIRST_RETRY_DELAY_MS: Final = 200
LONGEST_RETRY_DELAY_MS: Final = 30_000

DEFAULT_TIMEOUT_MS: Final = 3_600_000
DEFAULT_MAX_RETRIES: Final = 1
HIGHEST_PRIORITY: Final = 1_000_000
LOW_PRIORITY: Final = -HIGHEST_PRIORITY - 1
"""Of jobs for which no further worker is started; below all that programs can say."""
MOST_RETRIES: Final = 1_000_000


class JobStatus:
    """What the public sees: plain strings."""

    IN_QUEUE: Final = "IN_QUEUE"  # waits for a worker, or for the delay before a retry
    IN_PROGRESS: Final = "IN_PROGRESS"  # user code has started
    COMPLETED: Final = "COMPLETED"
    FAILED: Final = "FAILED"  # raised, lost its workers, or could not be started; no retry is left
    CANCELLED: Final = "CANCELLED"  # somebody asked for it
    TIMED_OUT: Final = "TIMED_OUT"  # took longer than its timeout, or its ttl was over


class JobState(IntEnum):
    """What the store holds. `status` is what the public sees of it."""

    READY = 0  # waits for a worker
    DELAYED = 1  # waits for the time of its retry, or of its first start
    ASSIGNED = 2  # at a worker that has not started it
    RUNNING = 3  # user code has started
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    TIMED_OUT = 7

    @property
    def status(self) -> str:
        """The public word for this state."""
        return _STATUS_OF[self]

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this state has ended."""
        return self >= JobState.COMPLETED


_STATUS_OF: Final[Mapping[JobState, str]] = MappingProxyType(
    {
        JobState.READY: JobStatus.IN_QUEUE,
        JobState.DELAYED: JobStatus.IN_QUEUE,
        JobState.ASSIGNED: JobStatus.IN_QUEUE,
        JobState.RUNNING: JobStatus.IN_PROGRESS,
        JobState.COMPLETED: JobStatus.COMPLETED,
        JobState.FAILED: JobStatus.FAILED,
        JobState.CANCELLED: JobStatus.CANCELLED,
        JobState.TIMED_OUT: JobStatus.TIMED_OUT,
    }
)

STATUSES: Final[tuple[str, ...]] = tuple(dict.fromkeys(_STATUS_OF.values()))
WAITING_STATES: Final = frozenset({JobState.READY, JobState.DELAYED})
LIVE_STATES: Final = frozenset({JobState.ASSIGNED, JobState.RUNNING})
TERMINAL_STATES: Final = frozenset(state for state in JobState if state.is_terminal)
TERMINAL_STATUSES: Final = frozenset(state.status for state in TERMINAL_STATES)

_ENDS: Final[Mapping[JobState, str]] = MappingProxyType(
    {
        JobState.COMPLETED: "it returned",
        JobState.FAILED: "it raised, was lost or cannot start, and no attempt is left",
        JobState.CANCELLED: "somebody cancelled it",
        JobState.TIMED_OUT: "it took too long, and no attempt is left, or its ttl was over",
    }
)

TRANSITIONS: Final[Mapping[tuple[JobState, JobState], str]] = MappingProxyType(
    {
        (JobState.READY, JobState.ASSIGNED): "it was sent ahead to a busy worker",
        (JobState.READY, JobState.RUNNING): "an idle worker took it",
        (
            JobState.READY,
            JobState.FAILED,
        ): "it can never start: no environment, no place, or its callers hold what it needs",
        (JobState.READY, JobState.CANCELLED): "somebody cancelled it",
        (JobState.READY, JobState.TIMED_OUT): "its ttl was over",
        (JobState.DELAYED, JobState.READY): "its time came",
        (JobState.DELAYED, JobState.FAILED): "it can never start: no environment, no place, no endpoint",
        (JobState.DELAYED, JobState.CANCELLED): "somebody cancelled it",
        (JobState.DELAYED, JobState.TIMED_OUT): "its ttl was over",
        (JobState.ASSIGNED, JobState.RUNNING): "its worker came to it",
        (JobState.ASSIGNED, JobState.READY): "its worker gave it back or died before starting it",
        (JobState.ASSIGNED, JobState.DELAYED): "it started and failed between two looks, and is tried again",
        **{(JobState.ASSIGNED, end): f"between two looks {why}" for end, why in _ENDS.items()},
        (JobState.RUNNING, JobState.READY): "its worker was lost, and it runs again",
        (JobState.RUNNING, JobState.DELAYED): "it failed, and is tried again after a pause",
        **{(JobState.RUNNING, end): why for end, why in _ENDS.items()},
        # Not from CANCELLED: who cancelled a job did not want it.
        (JobState.FAILED, JobState.READY): "somebody asked for it to be tried again",
        (JobState.TIMED_OUT, JobState.READY): "somebody asked for it to be tried again",
    }
)
"""Every change of state that exists, and why it happens."""


def check_transition(before: JobState, after: JobState, *, job: str = "?", because: str = "") -> None:
    """Let `before` → `after` pass, or raise `InvalidTransition` with what could have followed."""
    if (before, after) in TRANSITIONS:
        return
    possible = [f"{end.name} ({why})" for (start, end), why in TRANSITIONS.items() if start is before]
    raise InvalidTransition(
        f"job {job} cannot go from {before.name} to {after.name}",
        why=(f"asked because {because}; " if because else "")
        + f"what can follow {before.name}: {', '.join(possible) or 'nothing, it is final'}",
        fix="please report this with the engine's log; nothing was changed",
    )


# ── policy ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How one job is run. Times in milliseconds."""

    timeout_ms: int = DEFAULT_TIMEOUT_MS  # of one attempt, from the start of user code
    max_retries: int = DEFAULT_MAX_RETRIES  # further attempts after failed ones
    ttl_ms: int | None = None  # from its submission until it has to have ended; None: for ever
    priority: int = 0  # higher first
    delay_ms: int = 0  # before the first attempt


USUAL_POLICY: Final = JobPolicy()
"""What nearly every call has: shared, so that it is known by sight, and need not be sent."""


def check_policy(policy: JobPolicy) -> JobPolicy:
    """`policy`, or a `ConfigError` that names field, value and rule. For where it is written."""
    if policy == USUAL_POLICY:
        return USUAL_POLICY
    _require("timeout", policy.timeout_ms, is_count(policy.timeout_ms, 1), "at least 1 ms")
    retries = is_count(policy.max_retries, 0) and policy.max_retries <= MOST_RETRIES
    _require("max_retries", policy.max_retries, retries, f"a whole number, 0 or more, and at most {MOST_RETRIES:,}")
    _require("ttl", policy.ttl_ms, policy.ttl_ms is None or is_count(policy.ttl_ms, 1), "at least 1 ms, or None")
    _require("priority", policy.priority, _is_priority(policy.priority), "a whole number within ±1,000,000")
    _require("delay", policy.delay_ms, is_count(policy.delay_ms, 0), "0 or more")
    return policy


def _is_priority(value: int) -> bool:
    return is_count(value, -HIGHEST_PRIORITY) and value <= HIGHEST_PRIORITY


def _require(field: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{field}={shown(value)} is not possible", where=call_site(), why=f"{field} must be {rule}")


# ── what follows an attempt that did not complete ─────────────────────────────────────────────────


class ErrorKind:
    """Why an attempt did not complete."""

    USER: Final = "user"  # the function raised
    TIMEOUT: Final = "timeout"  # it took longer than its timeout
    LOST: Final = "lost"  # its worker vanished
    BIND: Final = "bind"  # the arguments do not fit, or cannot be decoded
    ENCODE: Final = "encode"  # the result cannot travel
    LOAD: Final = "load"  # the function cannot be loaded
    ENV: Final = "env"  # its environment cannot be built
    CANCELLED: Final = "cancelled"  # somebody asked for it
    RELEASED: Final = "released"  # it was never started
    EXPIRED: Final = "expired"  # its ttl was over
    STUCK: Final = "stuck"  # it waits for what those hold that wait for it


RETRIED_KINDS: Final = frozenset({ErrorKind.USER, ErrorKind.TIMEOUT})
"""Only these may turn out otherwise the next time; the rest would fail the same way again."""


@dataclass(frozen=True, slots=True)
class Next:
    """What becomes of a job after an attempt: its state, the pause before it, its counts, and why."""

    state: JobState
    delay_ms: int
    failures: int
    losses: int
    why: str


def retry_delay_ms(failures: int, rand: float) -> int:
    """The pause after the `failures`-th failed attempt: 0.2 s, doubling to 30 s, a quarter more or less.

    `rand` is from [0, 1). The jitter keeps jobs that failed together from coming back together.
    """
    pause = FIRST_RETRY_DELAY_MS << min(max(failures, 1) - 1, 16)
    return round(min(pause, LONGEST_RETRY_DELAY_MS) * (0.75 + 0.5 * rand))


def after_failure(policy: JobPolicy, failures: int, losses: int, *, kind: str, rand: float) -> Next:
    """What follows an attempt that ended with an error of `kind`; `failures` were counted before it."""
    if kind == ErrorKind.RELEASED:
        return Next(JobState.READY, 0, failures, losses, "it was given back unstarted")
    if kind == ErrorKind.CANCELLED:
        return Next(JobState.CANCELLED, 0, failures, losses, "it was cancelled")
    if kind == ErrorKind.EXPIRED:
        return Next(JobState.TIMED_OUT, 0, failures, losses, "its ttl was over")
    failed = failures + 1
    if kind in RETRIED_KINDS and failures < policy.max_retries:
        pause = retry_delay_ms(failed, rand)
        return Next(JobState.DELAYED, pause, failed, losses, f"retry {failed} of {policy.max_retries}")
    end = JobState.TIMED_OUT if kind == ErrorKind.TIMEOUT else JobState.FAILED
    return Next(end, 0, failed, losses, _why_no_retry(policy, kind))


def after_loss(policy: JobPolicy, failures: int, losses: int, *, started: bool) -> Next:
    """What follows the loss of the worker that held a job; `losses` were counted before it.

    A loss uses up no retry. A job that had not started goes back uncounted, since nothing of it ran. One with
    `max_retries=0` was promised at most one start. The third loss is the last.
    """
    if not started:
        return Next(JobState.READY, 0, failures, losses, "its worker was lost before starting it")
    lost = losses + 1
    if policy.max_retries == 0:
        why = "its worker was lost, and max_retries=0 promises at most one start"
        return Next(JobState.FAILED, 0, failures, lost, why)
    if lost >= MAX_LOSSES:
        return Next(JobState.FAILED, 0, failures, lost, f"its worker was lost {lost} times")
    return Next(JobState.READY, 0, failures, lost, f"its worker was lost, for the {_ORDINALS[lost]} time")


_ORDINALS: Final = ("", "first", "second")


def _why_no_retry(policy: JobPolicy, kind: str) -> str:
    if kind not in RETRIED_KINDS:
        return f"an error of this kind ({kind}) would be the same the next time"
    return f"no retry is left (max_retries={policy.max_retries})"


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────


def new_job_id() -> str:
    """A UUID of version 7, 36 characters. Ids made one after the other in a process sort in that order.

    The 12 bits after the millisecond hold its fraction in steps of 244 ns (RFC 9562, section 6.2, method 3),
    so no counter has to survive threads and forks; 62 bits are random.
    """
    time = (_time_ns() << 12) // 1_000_000  # in fractions of a millisecond, 4096 each
    noise = _noise.getrandbits(62)
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031 - every call has one, and this is the fastest way
        time >> 28,
        time >> 12 & 0xFFFF,
        time & 0xFFF,
        0x8000 | noise >> 48,
        noise & 0xFFFF_FFFF_FFFF,
    )


def new_call_id() -> str:
    """An id for a load-balanced call, which looks like a job's, and is in no order with those of other programs.

    What a short call does is done with cold caches, and there making a UUID takes six times as long as counting on.
    """
    return f"{_calls[0]}{next(_calls[1]):012x}"


def _begin_anew() -> tuple[str, Iterator[int]]:
    first = new_job_id()
    return first[:24], count(int(first[25:], 16))


_time_ns = time.time_ns
# Not the system's randomness for every id, which costs two thirds of making one: ids must differ, not be secret.
_noise: Final = random.Random(os.urandom(32))
_calls = _begin_anew()


def _after_fork() -> None:
    global _calls
    _noise.seed(os.urandom(32))
    _calls = _begin_anew()


os.register_at_fork(after_in_child=_after_fork)
