"""What is told of an attempt and of a job's end: outcomes, where the time went, why a worker vanished."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from runpod_flash.engine.records import Active, Worker
from runpod_flash.engine.state import OutHead
from runpod_flash.engine.store.rows import Ended
from runpod_flash.model.job import ErrorKind, JobState
from runpod_flash.wire import frame
from runpod_flash.wire.messages import Done, ErrorInfo, Exited, Outcome

_out_head = msgspec.json.Decoder(OutHead)
_error = msgspec.json.Decoder(ErrorInfo)
_NOTHING = OutHead()
_SELDOM: Final = ("excs", "blobs", "defs", "json_error", "chunks")
_seldom_of: Final = attrgetter(*_SELDOM)


def outcome_of(row: dict[str, Any]) -> tuple[Outcome, Sequence[bytes]]:
    """The outcome of a job that has ended, from its row."""
    view = out_head_of(row)
    parts = frame.unpack_parts(row["out"]) if row["out"] else ()
    started = row["started_ms"]
    head = Outcome(
        job=row["id"],
        status=JobState(row["state"]).status,
        attempts=row["attempt"],
        created_at_ms=row["created_ms"],
        ended_at_ms=row["ended_ms"],
        started_at_ms=started,
        worker=row["worker"] or "",
        delay_ms=max(0, (started or row["ended_ms"]) - row["created_ms"]),
        run_us=view.run_us,
        encoding=view.encoding,
        values=view.values,
        excs=view.excs,
        blobs=view.blobs,
        defs=view.defs,
        error=_error.decode(row["error"]) if row["error"] else None,
        json_error=view.json_error,
        chunks=view.chunks,
    )
    return head, parts


def out_head_of(row: dict[str, Any]) -> OutHead:
    """What the outcome of a job's row consists of; nothing, if it came to none."""
    return _out_head.decode(row["out_head"]) if row["out_head"] else OutHead()


def outcome_now(job: Active, worker: Worker, ended: Ended, head: Done | None, error: ErrorInfo | None) -> Outcome:
    """The outcome of a job that ends at its worker; what `outcome_of` would read from the store."""
    view = head or _NOTHING
    outcome = Outcome(
        job=job.job,
        status=ended.state.status,
        attempts=job.attempt,
        created_at_ms=job.created_ms,
        ended_at_ms=ended.ended_ms,
        started_at_ms=ended.started_ms,
        worker=worker.id,
        delay_ms=max(0, (ended.started_ms or ended.ended_ms) - job.created_ms),
        run_us=view.run_us,
        values=view.values,
    )
    # Only what there is: naming all the fields that a plain outcome leaves at their defaults doubles what it costs.
    seldom = _seldom_of(view)
    if any(seldom):
        for name, value in zip(_SELDOM, seldom, strict=True):
            setattr(outcome, name, value)
    outcome.encoding, outcome.error = view.encoding, error
    return outcome


def view_of(head: Done) -> OutHead:
    """What the parts of a DONE are, without the error, which has a column of its own."""
    return OutHead(
        values=head.values,
        excs=head.excs,
        encoding=head.encoding,
        blobs=head.blobs,
        defs=head.defs,
        run_us=head.run_us,
        cpu_us=head.cpu_us,
        peak_kb=head.peak_kb,
        load_us=head.load_us,
        json_error=head.json_error,
        chunks=head.chunks,
    )


def first_line(error: ErrorInfo) -> str:
    """An error in one line, for the record of events."""
    return f"{error.type}: {error.message}".splitlines()[0][:500]


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


def timing_of(row: dict[str, Any], view: OutHead) -> dict[str, int]:
    """Where a job's time went, in microseconds: queued, environment, worker_start, load, run."""
    waited = msgspec.json.decode(row["timing"]) if row["timing"] else {}
    return {"queued": 0, **waited, "load": view.load_us, "run": view.run_us}


def waiting_of(job: Active, worker: Worker) -> dict[str, int]:
    """Where the time before an attempt went, in microseconds: queued, environment, worker_start; empty: none did.

    Building its environment and starting its worker are told apart from standing in line.
    """
    wait = max(0, job.assigned_ms - job.created_ms) * 1000
    if not wait:
        return {}
    environment = worker.pool.environment
    start = min(wait, _overlap(job, worker, worker.launched_at, worker.ready_at))
    built = min(wait - start, _overlap(job, worker, environment.asked_at, environment.ready_at))
    return {"queued": wait - start - built, "environment": built, "worker_start": start}


def _overlap(job: Active, worker: Worker, begin: float, end: float) -> int:
    """Microseconds of [begin, end] (steady seconds) in which the job waited."""
    if not begin or not end:
        return 0
    base = worker.launched_ms - worker.launched_at * 1000  # steady → wall, by the one moment known in both
    first, last = max(base + begin * 1000, job.created_ms), min(base + end * 1000, job.assigned_ms)
    return max(0, round((last - first) * 1000))


# ── losses ────────────────────────────────────────────────────────────────────────────────────────


def overdue_error(job: Active) -> ErrorInfo:
    """The attempt was ended because it took too long."""
    message = f"the attempt took longer than its timeout of {job.timeout_ms / 1000:g} s"
    return ErrorInfo(type="TimeoutError", message=message, kind=ErrorKind.TIMEOUT)


def cancelled_error(job: Active, now_ms: int) -> ErrorInfo:
    """A job was ended before its time: somebody asked for it, or its ttl was over."""
    if job.expired:
        return expired_error(f"it had not ended {(now_ms - job.created_ms) / 1000:.1f} s after it was submitted")
    return ErrorInfo(
        type="JobCancelled",
        module="runpod_flash.errors",
        message=f"cancelled: {job.cancelling}",
        kind=ErrorKind.CANCELLED,
    )


def expired_error(how: str) -> ErrorInfo:
    """The ttl of a job is over."""
    return ErrorInfo(type="Expired", message=f"ttl expired: {how}", kind=ErrorKind.EXPIRED)


def exit_error(head: Exited, memory_mb: int | None) -> ErrorInfo:
    """What happened to a worker, as the error of the job that it ran."""
    lines = [f"its worker {_exit_words(head, memory_mb)}"]
    if head.last_lines:
        lines += ["last lines of its output:", *(f"  {line}" for line in head.last_lines)]
    return ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message="\n".join(lines), kind=ErrorKind.LOST)


def start_error(head: Exited, *, is_program: bool, ready: bool) -> str:
    """Why a worker ended that did not begin well, where its output says nothing."""
    if not is_program or ready or head.code is None or head.oom or head.why:
        return exit_error(head, None).message
    return f"it ended, with exit code {head.code} and no word, and had not asked for a job: a worker calls start(…)"


def _exit_words(head: Exited, memory_mb: int | None) -> str:
    if head.oom or head.why == "memory":
        limit = f"its limit is {memory_mb} MB" if memory_mb else "the machine had none left"
        return f"was killed because it ran out of memory ({limit}; it used {head.peak_rss_kb // 1024} MB)"
    if head.why == "host":
        return "died with its host"
    if head.why == "stop":
        return "was ended with its engine"
    if head.why == "cancel":
        return "was ended because another call on it was cancelled and did not stop"
    if head.why == "deadline":
        return "was ended because another call on it took too long"
    if head.signal is not None:
        return f"was killed by signal {head.signal} ({_signal_name(head.signal)})"
    if head.code is not None:
        return f"exited with code {head.code} in the middle of the call"
    return "vanished"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def tell_losses(earlier: Sequence[bytes], last: ErrorInfo, why: str) -> ErrorInfo:
    """The error of a job that was lost for the last time: it names every loss, and shows the end of the last one."""
    lost = [*(_error.decode(raw) for raw in earlier), last]
    told = "\n".join(f"{n}. attempt: {one.message.partition(chr(10))[0]}" for n, one in enumerate(lost, 1))
    _first, _, rest = last.message.partition("\n")
    message = f"{why}\n{told}" + (f"\n{rest}" if rest else "")
    return msgspec.structs.replace(last, message=message)
