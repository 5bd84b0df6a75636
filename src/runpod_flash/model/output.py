"""JobOutput: what a call on a queue returns.

It has two natures. It is the report on a job: `id`, `status`, `output`, `error` and the rest. And programs
may use it as if it were the function's own value. One whose output is exactly a dict, list, tuple, str,
int, float or bytes is an instance of that type too, holding a shallow copy: json, FastAPI and Pydantic ask
for the type, so delegation is not enough. Every other output, such as None, a bool, an array or a user's
class, is delegated to, operator by operator. A failed job that is used as a value raises RemoteError.

    JobOutput            the report; construct it, and you get one of
    ├── _Plain           delegates to any other output; has no __dict__, which FastAPI would show
    ├── _Failed          a _Plain whose every use raises
    └── _Dict, _List, …  the forms, also instances of that type
"""

from __future__ import annotations

import copy
import operator
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn, TypeVar, cast

from runpod_flash.errors import JobCancelled, JobTimeout, RemoteError, WorkerLost
from runpod_flash.model import frameworks, operators
from runpod_flash.model.job import ErrorKind, JobStatus

R = TypeVar("R", covariant=True)

LONGEST_REPR: Final = 200

# As a value a failed job is asked for items and attributes by code that takes these errors for "not there".
_SWALLOWED: Final = (LookupError, AttributeError)


class Record(NamedTuple):
    """The facts, shared by every form. A tuple, because every call makes one."""

    id: str
    status: str
    output: Any  # None unless it completed
    error: str | None  # None if it completed
    error_kind: str
    exception: BaseException | None
    traceback: str | None
    started_at: int
    ended_at: int
    worker_id: str
    delay_time: int
    execution_time: int
    attempts: int


class JobOutput(Generic[R]):
    """The report on a job that ended, usable as the function's value if it completed.

    A failed job does not raise when it is awaited: look at `error`, or call `unwrap()`.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _record: Record

    def __new__(
        cls,
        *,
        id: str,
        status: str = JobStatus.COMPLETED,
        output: Any = None,
        error: str | None = None,
        error_kind: str = ErrorKind.USER,
        exception: BaseException | None = None,
        traceback: str | None = None,
        started_at_ms: int | None = None,
        ended_at_ms: int = 0,
        worker_id: str = "",
        delay_time: int = 0,
        execution_time: int = 0,
        attempts: int = 1,
    ) -> JobOutput[R]:
        """The right form for `output`. Times in milliseconds since 1970; one that never started has none."""
        completed = status == JobStatus.COMPLETED
        ended_at = ended_at_ms // 1000
        return form_of(
            Record(
                id,
                status,
                output if completed else None,
                None if completed else error or f"the job ended {status}",
                error_kind,
                exception,
                traceback,
                ended_at if started_at_ms is None else started_at_ms // 1000,
                ended_at,
                worker_id,
                delay_time,
                execution_time,
                attempts,
            )
        )

    if not TYPE_CHECKING:

        def __init__(self, **_: Any) -> None:
            """Nothing: else the forms would take the report for their contents, as dict(id=…) does."""

    # ── the report ────────────────────────────────────────────────────────────────────────────────

    @property
    def id(self) -> str:
        """The job's id."""
        return self._record.id

    @property
    def status(self) -> str:
        """COMPLETED, FAILED, CANCELLED or TIMED_OUT."""
        return self._record.status

    @property
    def output(self) -> R | None:
        """What the function returned; None if the job did not complete."""
        return cast("R | None", self._record.output)

    @property
    def error(self) -> str | None:
        """Why it did not complete, such as `ValueError: Invalid input`; None if it did."""
        return self._record.error

    @property
    def exception(self) -> BaseException | None:
        """The exception that the function raised, where it could be rebuilt."""
        return self._record.exception

    @property
    def traceback(self) -> str | None:
        """The traceback at the worker."""
        return self._record.traceback

    @property
    def started_at(self) -> int:
        """When user code started, in Unix seconds; the end if it never did."""
        return self._record.started_at

    @property
    def ended_at(self) -> int:
        """When the job ended, in Unix seconds."""
        return self._record.ended_at

    @property
    def worker_id(self) -> str:
        """The worker of the last attempt; empty if there was none."""
        return self._record.worker_id

    @property
    def delay_time(self) -> int:
        """Milliseconds in the queue."""
        return self._record.delay_time

    @property
    def execution_time(self) -> int:
        """Milliseconds of the last attempt."""
        return self._record.execution_time

    @property
    def attempts(self) -> int:
        """How often it was started."""
        return self._record.attempts

    workerId = worker_id
    delayTime = delay_time
    executionTime = execution_time

    def unwrap(self) -> R:
        """The plain output; a job that did not complete raises a RemoteError of the original type."""
        if self.error is not None:
            raise _remote_error(self._record, never=())
        return cast("R", self._record.output)

    # ── what every form has in common ─────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        record = self._record
        what = f"output={_short(record.output)}" if record.error is None else f"error={_short(record.error)}"
        return f"JobOutput(id={record.id!r}, status={record.status!r}, {what})"

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """Travel as the output, said in the standard library's words: not every reader has this class."""
        return operator.getitem, ((_value(self._record),), 0)

    def __copy__(self) -> JobOutput[R]:
        return form_of(self._record)

    def __deepcopy__(self, memo: dict[int, Any]) -> JobOutput[R]:
        return form_of(self._record._replace(output=copy.deepcopy(self._record.output, memo)))

    @property
    def __pydantic_serializer__(self) -> Any:
        """Pydantic asks values of unknown type for this when it writes them."""
        return frameworks.pydantic_serializer(_output_of)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        """A field or route declared as JobOutput takes one, and shows its output."""
        return frameworks.pydantic_schema(JobOutput, _output_of)


def _output_of(job: JobOutput[R]) -> R:
    return cast("R", _value(job._record))


def _value(record: Record) -> Any:
    if record.error is not None:
        raise _remote_error(record, never=_SWALLOWED)
    return record.output


def _remote_error(
    record: Record, *, never: tuple[type[BaseException], ...], kind: type[RemoteError] | None = None
) -> RemoteError:
    worker = f", worker {record.worker_id}" if record.worker_id else ""
    return (kind or _error_class(record)).of(
        record.error or record.status,
        where=f"job {record.id} ({record.status}, attempts: {record.attempts}{worker})",
        fix=f"flash job {record.id} shows its attempts, flash logs {record.id} what it printed",
        original=record.exception,
        traceback=record.traceback,
        never=never,
    )


def _error_class(record: Record) -> type[RemoteError]:
    if record.error_kind == ErrorKind.LOST:
        return WorkerLost
    by_status = {JobStatus.TIMED_OUT: JobTimeout, JobStatus.CANCELLED: JobCancelled}
    return by_status.get(record.status, RemoteError)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a repr of a user's class; ours must not raise
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST_REPR else text[:LONGEST_REPR] + "…"


# ── the plain form ────────────────────────────────────────────────────────────────────────────────


class _Plain(JobOutput[Any]):
    """Delegates every operator to the output, and raises for a job that did not complete."""

    __slots__ = ("__weakref__", "_record")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"JobOutput.{name} cannot be set: it reports what happened")

    def __eq__(self, other: object) -> Any:
        if self is other:
            return True
        if self.error is not None or (isinstance(other, JobOutput) and other.error is not None):
            return False
        try:
            return self._record.output == (other.output if isinstance(other, JobOutput) else other)
        except Exception:  # noqa: BLE001 - comparing with a user's class; == of ours must not raise
            return False

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return not equal if isinstance(equal, bool) else self._record.output != other

    def __hash__(self) -> int:
        return object.__hash__(self) if self.error is not None else hash(self._record.output)

    def __str__(self) -> str:
        return repr(self) if self.error is not None else str(self._record.output)

    def __format__(self, spec: str) -> str:
        return repr(self) if self.error is not None and not spec else format(_value(self._record), spec)

    def __iter__(self) -> Iterator[Any]:
        return iter(_value(self._record))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """What NumPy and pandas ask for. NumPy is loaded, since it asks."""
        array = sys.modules["numpy"].asarray(_value(self._record), dtype=dtype)
        return array.copy() if copy else array


operators.delegate(_Plain, _output_of)


class _Failed(_Plain):
    """A job that did not complete."""

    __slots__ = ()

    def keys(self) -> Any:
        """What `**job` asks for."""
        return _value(self._record)

    def __getattr__(self, name: str) -> NoReturn:
        """What the value would have, such as `get` or `append`: its absence has a reason."""
        if name.startswith("_"):  # what copying, printing and frameworks look for in anything
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise _remote_error(self._record, never=_SWALLOWED, kind=_NoAttribute)


class _NoAttribute(RemoteError, AttributeError):
    """The error of a failed job, for those who ask whether it has an attribute: it has not."""


# ── the forms that are instances of their output's type ───────────────────────────────────────────


def _make_form(kind: Any) -> type[JobOutput[Any]]:
    """A class that is a JobOutput and a `kind`; with a __dict__, since tuples and ints allow no slots."""

    def equal(self: Any, other: object) -> Any:
        try:
            return kind.__eq__(self, other)
        except Exception:  # noqa: BLE001 - something in it has an == that raises; ours must not
            return False

    def unequal(self: Any, other: object) -> Any:
        try:
            return kind.__ne__(self, other)
        except Exception:  # noqa: BLE001 - as above
            return True

    def new(_: Any, *args: Any, **keywords: Any) -> Any:
        return kind(*args, **keywords)

    body: dict[str, Any] = {
        # Who makes another one of the same type, as dataclasses.asdict does, means the value and no report.
        "__new__": new,
        "__eq__": equal,
        "__ne__": unequal,
        "__hash__": kind.__hash__,
        "__str__": kind.__str__ if kind is str else kind.__repr__,
        "__module__": __name__,
        "__doc__": JobOutput.__doc__,
    }
    return type(f"_{kind.__name__.title()}", (JobOutput, kind), body)


_FORMS: Final[dict[type[Any], type[JobOutput[Any]]]] = {
    kind: _make_form(kind) for kind in (dict, list, tuple, str, int, float, bytes)
}
_MAKERS: Final[dict[type[Any], Callable[..., Any]]] = {
    kind: partial(kind.__new__, form) for kind, form in _FORMS.items()
}


def form_of(record: Record) -> JobOutput[Any]:
    """The JobOutput with these facts."""
    if frameworks.FASTAPI in sys.modules:
        frameworks.teach(JobOutput, (_Plain, _Failed))
    output = record.output
    kind: Any = type(output)
    make = _MAKERS.get(kind)
    made: Any
    if make is None:
        made = object.__new__(_Plain if record.error is None else _Failed)
        object.__setattr__(made, "_record", record)  # its own refuses
        return made  # type: ignore[no-any-return]
    if kind is dict:
        made = make()
        dict.update(made, output)
    elif kind is list:
        made = make()
        list.extend(made, output)
    else:
        made = make(output)
    made._record = record
    return made  # type: ignore[no-any-return]


def _rename(form: type[Any]) -> None:
    """Show users one class, in the messages of json or Pydantic for example."""
    form.__name__ = form.__qualname__ = "JobOutput"


_ALL: Final[tuple[type[Any], ...]] = (_Plain, _Failed, *_FORMS.values())
for _form in _ALL:
    _rename(_form)
