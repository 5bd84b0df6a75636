"""JobOutput in FastAPI, Pydantic, NumPy, pandas and json: the real ones."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import numpy as np
import orjson
import pandas as pd
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from runpod_flash.errors import RemoteError
from runpod_flash.model.output import JobOutput


class Point(BaseModel):
    x: int


class LooksLikeAJob(BaseModel):
    """A model that could be filled from a job's own attributes, which must never happen."""

    id: str
    status: str
    error: str | None


def completed(output: Any) -> Any:
    return JobOutput(id="job-1", output=output, ended_at_ms=1000)


def failed() -> Any:
    error = ValueError("the secret of the inside")
    return JobOutput(id="job-2", status="FAILED", error=f"ValueError: {error}", exception=error)


def returning(value: Any) -> Callable[[], Any]:
    """A route without a return annotation, which FastAPI would read."""

    def route():  # type: ignore[no-untyped-def]
        return value

    return route


class Client:
    """Asks an application without a server between."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._get(path))

    async def _get(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)


VALUES = [{"x": 1}, [1, 2], "text", 3, 2.5, None, True, {"x": [{"y": None}]}, [], {}, 0, ""]


@pytest.fixture(scope="module")
def client() -> Client:
    app = FastAPI()
    for number, value in enumerate(VALUES):
        bare, nested = returning(completed(value)), returning({"inside": [completed(value)]})
        app.get(f"/bare/{number}")(bare)
        app.get(f"/any/{number}", response_model=Any)(bare)
        app.get(f"/typed/{number}", response_model=type(value))(bare)
        app.get(f"/job/{number}", response_model=JobOutput[Any])(bare)
        app.get(f"/nested/{number}")(nested)
        app.get(f"/nested_typed/{number}", response_model=dict)(nested)

    @app.get("/model")
    def declared() -> Point:
        job: Point = completed({"x": 1})
        return job

    @app.get("/instance")
    async def instance() -> Point:
        job: Point = completed(Point(x=1))
        return job

    @app.get("/annotated")
    async def annotated() -> JobOutput[Any]:
        job: JobOutput[Any] = completed({"x": 1})
        return job

    models = {
        "any": Any,
        "dict": dict,
        "model": Point,
        "like": LooksLikeAJob,
        "job": JobOutput,
        "list": list[int],
    }
    for name, model in models.items():
        app.get(f"/failed/{name}", response_model=model)(returning(failed()))
    app.get("/failed/none")(returning(failed()))
    app.get("/failed/nested")(returning({"inside": [failed()]}))
    app.get("/failed/nested_typed", response_model=dict)(returning({"inside": [failed()]}))
    return Client(app)


@pytest.mark.parametrize("kind", ["bare", "any", "typed", "job"])
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_a_completed_job_is_answered_as_its_output(client: Client, kind: str, number: int) -> None:
    answer = client.get(f"/{kind}/{number}")
    assert (answer.status_code, answer.json()) == (200, VALUES[number])


@pytest.mark.parametrize("kind", ["nested", "nested_typed"])
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_a_completed_job_inside_an_answer_is_its_output(client: Client, kind: str, number: int) -> None:
    answer = client.get(f"/{kind}/{number}")
    assert (answer.status_code, answer.json()) == (200, {"inside": [VALUES[number]]})


@pytest.mark.parametrize("path", ["/model", "/instance", "/annotated"])
def test_response_models_are_filled_from_the_output(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"x": 1})


@pytest.mark.parametrize("name", ["none", "any", "dict", "model", "like", "job", "list", "nested"])
def test_a_failed_job_is_answered_with_500_its_id_and_no_internals(client: Client, name: str) -> None:
    answer = client.get(f"/failed/{name}")
    assert answer.status_code == 500
    assert "job-2" in answer.text
    assert "secret" not in answer.text


def test_a_failed_job_deep_inside_a_typed_answer_is_never_200(client: Client) -> None:
    answer = client.get("/failed/nested_typed")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_schemas_of_routes_that_declare_jobs_can_be_made(client: Client) -> None:
    assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("value", [{"x": 1}, [1], "s", 3, 2.5])
def test_json_writes_the_output(value: Any) -> None:
    assert json.loads(json.dumps({"a": completed(value)})) == {"a": value}


def test_json_refuses_a_failed_job() -> None:
    with pytest.raises(TypeError, match="JobOutput"):
        json.dumps(failed())


@pytest.mark.parametrize("value", [{"x": 1}, [1], (1,), "s", 3, 2.5, b"b"])
def test_pydantic_takes_a_job_where_it_wants_the_type_of_its_output(value: Any) -> None:
    taken = TypeAdapter(type(value)).validate_python(completed(value))
    assert taken == value


def test_pydantic_builds_models_from_jobs_and_names_the_failed_one() -> None:
    assert Point.model_validate(completed({"x": 1})).x == 1
    assert Point(**completed({"x": 1})).x == 1
    with pytest.raises(ValidationError, match="job-2"):
        Point.model_validate(failed())
    with pytest.raises(RemoteError):
        Point(**failed())


def test_a_pydantic_field_may_be_a_job_and_is_written_as_its_output() -> None:
    class Report(BaseModel):
        job: JobOutput[Any]
        free: Any

    report = Report(job=completed(None), free=completed({"x": 1}))
    assert report.job.id == "job-1"
    assert json.loads(report.model_dump_json()) == {"job": None, "free": {"x": 1}}


def test_pydantic_reading_attributes_of_a_failed_job_is_refused_by_fastapi_not_by_luck() -> None:
    class FromAttributes(LooksLikeAJob):
        model_config = ConfigDict(from_attributes=True)

    # Outside of FastAPI, who asks Pydantic to read a job's attributes gets them: they are public.
    assert FromAttributes.model_validate(failed()).id == "job-2"


def test_numpy_and_pandas_read_jobs() -> None:
    array = np.arange(3)
    assert (np.asarray(completed(array)) == array).all()
    assert ((completed(array) + 1) == array + 1).all()
    assert ((1 + completed(array)) == array + 1).all()
    assert (array * completed(array)).sum() == 5
    assert np.asarray(completed([1, 2])).sum() == 3
    frame = pd.DataFrame([completed({"a": 1}), completed({"a": 2})])
    assert list(frame["a"]) == [1, 2]
    assert list(pd.DataFrame(completed({"a": [1, 2]}))["a"]) == [1, 2]
    assert list(pd.Series(completed([1, 2]))) == [1, 2]
    assert list(pd.Series(completed(array))) == [0, 1, 2]


def test_arrays_compare_by_element_and_nothing_raises() -> None:
    array = np.arange(3)
    assert (completed(array) == array).all()
    assert repr(completed(array)).startswith("JobOutput(id='job-1'")


def test_numpy_gets_the_error_of_a_failed_job() -> None:
    with pytest.raises(RemoteError):
        np.asarray(failed())


@pytest.mark.parametrize("value", [{"x": 1}, [1], "s", 3])
def test_other_json_libraries_write_the_output(value: Any) -> None:
    assert orjson.loads(orjson.dumps({"a": completed(value)})) == {"a": value}
    # msgspec writes no subclasses of str and int by itself, whosever they are.
    written = msgspec.json.encode([completed(value)], enc_hook=lambda job: job.output)
    assert msgspec.json.decode(written) == [value]
    assert msgspec.convert(completed(value), type(value)) == value
    for write in (orjson.dumps, msgspec.json.encode):
        with pytest.raises(TypeError, match="JobOutput"):
            write(failed())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the first Pydantic does not run there")
def test_fields_of_the_first_pydantic_take_jobs() -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        point: dict[str, int]
        numbers: list[int]
        free: Any

    old = Old(point=completed({"x": 1}), numbers=completed([1, 2]), free=completed("text"))
    assert json.loads(old.json()) == {"point": {"x": 1}, "numbers": [1, 2], "free": "text"}
    with pytest.raises(v1.ValidationError):
        Old(point=failed(), numbers=[], free=1)


def test_frames_of_many_results_are_made_of_their_outputs() -> None:
    frame = pd.DataFrame({"n": [1, 2], "job": [completed({"mean": 2.0}), completed({"mean": 4.0})]})
    assert list(pd.json_normalize(frame["job"])["mean"]) == [2.0, 4.0]
    assert pd.DataFrame([completed([1, 2]), completed([3, 4])]).sum().tolist() == [4, 6]
    assert pd.Series([completed(1.5), completed(2.5)], dtype=float).mean() == 2.0
    with pytest.raises(RemoteError):
        pd.DataFrame([failed(), failed()])
