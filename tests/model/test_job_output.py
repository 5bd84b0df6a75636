"""JobOutput: a report on a job, and the function's value."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.errors import JobCancelled, JobTimeout, RemoteError, WorkerLost
from runpod_flash.model.output import JobOutput

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


def completed(output: Any) -> Any:
    return JobOutput(id="job-1", output=output, started_at_ms=1500, ended_at_ms=3999, worker_id="w1", delay_time=7)


def failed(error: BaseException | None = None, **report: Any) -> Any:
    error = error or ValueError("Invalid input")
    text = f"{type(error).__name__}: {error}"
    return JobOutput(**{"id": "job-2", "status": "FAILED", "error": text, "exception": error, **report})


@given(PLAIN)
def test_a_completed_job_equals_prints_and_travels_as_its_output(value: Any) -> None:
    job = completed(value)
    assert isinstance(job, JobOutput)
    assert job == value
    assert value == job
    assert (job != value) is False
    assert str(job) == str(value)
    travelled = pickle.loads(pickle.dumps({"inside": [job]}))["inside"][0]
    assert travelled == value
    assert type(travelled) is type(value)
    assert type(job.unwrap()) is type(value)


@pytest.mark.parametrize("value", [{"a": 1}, [1], (1, 2), "text", 3, 2.5, b"bytes"])
def test_it_is_an_instance_of_the_type_of_its_output(value: Any) -> None:
    assert isinstance(completed(value), type(value))


class OwnDict(dict[str, int]):
    pass


@pytest.mark.parametrize("value", [None, True, {1}, OwnDict(a=1), object()])
def test_any_other_output_is_delegated_to_and_leaves_no_dict_to_show(value: Any) -> None:
    job = completed(value)
    assert not isinstance(job, (dict, list, str, int))
    assert not hasattr(job, "__dict__")
    assert bool(job) == bool(value)


def test_operators_reach_the_output_from_both_sides() -> None:
    dictionary, number = completed(OwnDict(a=1)), completed(3)
    assert dictionary["a"] == 1
    assert "a" in dictionary
    assert list(dictionary) == ["a"]
    assert len(dictionary) == 1
    assert (number + 1, 10 - number, number**2, -number) == (4, 7, 9, -3)
    assert completed({1}) | {2} == {1, 2}
    assert {2} | completed({1}) == {1, 2}
    assert completed({1}) | completed({2}) == {1, 2}
    assert f"{completed(2.5):.2f}" == "2.50"


def test_a_dict_output_can_be_spread_and_merged() -> None:
    job = completed({"a": 1})
    assert {**job, "b": 2} == {"a": 1, "b": 2}
    assert job | {"b": 2} == {"a": 1, "b": 2}
    assert dict(**job) == {"a": 1}


def test_the_form_is_a_copy_and_the_output_stays_as_it_came() -> None:
    job = completed({"a": 1})
    job["a"] = 2
    assert job == {"a": 2}
    assert job.output == {"a": 1}
    assert type(job.output) is dict


def test_attributes_of_the_job_win_over_keys_and_no_other_attribute_leads_to_the_output() -> None:
    job = completed({"id": "theirs", "colour": "red"})
    assert job.id == "job-1"
    assert job["id"] == "theirs"
    assert not hasattr(job, "colour")
    assert not hasattr(completed({1}), "add")


def test_the_report_has_whole_seconds_and_both_spellings() -> None:
    job = completed(1)
    assert (job.started_at, job.ended_at) == (1, 3)
    assert job.workerId == job.worker_id == "w1"
    assert job.delayTime == job.delay_time == 7
    assert job.executionTime == job.execution_time == 0
    assert type(job.status) is str


def test_a_job_that_never_started_has_its_end_for_a_start() -> None:
    job: JobOutput[None] = JobOutput(id="j", status="CANCELLED", ended_at_ms=5000)
    assert job.started_at == job.ended_at == 5


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "TIMED_OUT"])
def test_every_status_but_completed_has_an_error(status: str) -> None:
    assert JobOutput(id="j", status=status).error
    assert completed(1).error is None


USES: dict[str, Any] = {
    "item": lambda job: job["key"],
    "index": lambda job: job[0],
    "iteration": list,
    "length": len,
    "membership": lambda job: "x" in job,
    "truth": bool,
    "addition": lambda job: job + 1,
    "reflected addition": lambda job: 1 + job,
    "order": lambda job: job > 1,
    "int": int,
    "float": float,
    "spread": lambda job: {**job},
    "format": lambda job: f"{job:>3}",
    "pickle": pickle.dumps,
    "cloudpickle, inside": lambda job: cloudpickle.dumps([{"a": job}]),
    "unwrap": lambda job: job.unwrap(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_a_failed_job_as_a_value_raises_its_error(use: Any) -> None:
    job = failed(traceback="Traceback (most recent call last):\n  the user's line")
    with pytest.raises(RemoteError, match="the user's line") as caught:
        use(job)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is job.exception
    assert caught.value.args == ("Invalid input",)
    assert "job-2" in str(caught.value)


@pytest.mark.parametrize("error", [KeyError("key"), IndexError(0), AttributeError("x"), StopIteration(1)])
@pytest.mark.parametrize("name", [name for name in USES if name != "unwrap"])
def test_errors_that_would_be_swallowed_are_not_imitated(error: Exception, name: str) -> None:
    with pytest.raises(RemoteError) as caught:
        USES[name](failed(error))
    assert not isinstance(caught.value, (LookupError, AttributeError, StopIteration))


def test_unwrap_raises_the_original_type_whatever_it_is() -> None:
    with pytest.raises(KeyError):
        failed(KeyError("key")).unwrap()


def test_the_end_of_a_job_decides_the_class_of_its_error() -> None:
    with pytest.raises(JobTimeout) as timeout:
        failed(TimeoutError("60 s"), status="TIMED_OUT").unwrap()
    assert isinstance(timeout.value, TimeoutError)
    with pytest.raises(JobCancelled):
        JobOutput(id="j", status="CANCELLED").unwrap()
    with pytest.raises(WorkerLost):
        JobOutput(id="j", status="FAILED", error="killed by signal 9", error_kind="lost").unwrap()


def test_a_failed_job_equals_only_itself_and_can_be_shown() -> None:
    one, other = failed(), failed()
    assert one == one
    assert one != other
    assert one != None  # noqa: E711 - that is the point
    assert len({one, other}) == 2
    assert "Invalid input" in repr(one)
    assert "Invalid input" in f"{one}"


class Hostile:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")

    def __repr__(self) -> str:
        raise RuntimeError("no showing")


@pytest.mark.parametrize("value", [Hostile(), [Hostile()], {"a": Hostile()}])
def test_neither_equality_nor_repr_ever_raises(value: Any) -> None:
    assert (completed(value) == [Hostile()]) in (True, False)
    assert (completed(value) != {"a": Hostile()}) in (True, False)
    assert "job-1" in repr(completed(value))


def test_copies_are_jobs_too_also_of_failed_ones() -> None:
    for job in (completed({"a": [1]}), completed(None), failed()):
        for twin in (copy.copy(job), copy.deepcopy(job)):
            assert isinstance(twin, JobOutput)
            assert (twin.id, twin.error, twin.output) == (job.id, job.error, job.output)


@dataclasses.dataclass
class Report:
    job: Any
    more: list[Any]


@pytest.mark.parametrize("value", [{"a": 1}, [1], (1, 2), "text", 3, None])
def test_dataclasses_take_jobs_apart_as_values(value: Any) -> None:
    assert dataclasses.asdict(Report(completed(value), [completed(value)])) == {"job": value, "more": [value]}
    assert dataclasses.replace(Report(completed(value), []), more=[1]).job == value
    again = type(completed(value))
    if isinstance(value, (dict, list, tuple)):
        assert type(again(value)) is type(value), "who makes another of its type gets the plain one"


def shape(value: object) -> str:
    match value:
        case {"a": int(number), **rest}:
            return f"a mapping with {number} and {len(rest)} more"
        case [first, *others]:
            return f"{first} and {len(others)} more"
        case str(text):
            return text
        case int(number):
            return f"number {number}"
    return "nothing of that"


@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, [1, 2], (1, 2, 3), "text", 3])
def test_match_statements_see_the_value(value: Any) -> None:
    assert shape(completed(value)) == shape(value) != "nothing of that"
    assert shape(failed()) == "nothing of that"


@pytest.mark.parametrize("name", ["get", "items", "append", "upper", "shape"])
def test_methods_of_the_value_that_a_failed_job_lacks_raise_its_error(name: str) -> None:
    job = failed(KeyError("key"))
    with pytest.raises(RemoteError, match="job-2"):
        getattr(job, name)
    with pytest.raises(ValueError, match="Invalid input"):
        getattr(failed(), name)
    assert not hasattr(job, name), "and who only asks is told that it is not there"
    assert not hasattr(job, "__dataclass_fields__")


def test_a_report_cannot_be_changed() -> None:
    for job in (completed(1), completed(None), failed()):
        with pytest.raises(AttributeError):
            job.status = "COMPLETED"
