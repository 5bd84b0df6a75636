"""Endpoints looked after: by Runpod's own package (GraphQL), and by REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.gateway.runpod import query_language
from tests.gateway.raw import AUTHORIZED, HOST, Answer, Client
from tests.gateway.stage import Stage


def ask(one: Stage, method: str, path: str, body: Any = None, *, headers: str = AUTHORIZED) -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    with Client(one) as client:
        head = f"{method} {path} HTTP/1.1\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        return client.ask(head.encode() + data)


def query(one: Stage, text: str, **variables: Any) -> Any:
    answer = ask(one, "POST", "/graphql", {"query": text, "variables": variables})
    assert answer.status == 200
    return json.loads(answer.body)


def test_endpoints_are_listed_and_shown(jobs: Stage) -> None:
    listed = json.loads(ask(jobs, "GET", "/v2/serverless").body)["endpoints"]
    assert sorted(one["name"] for one in listed) == ["echo", "two"]
    echo = json.loads(ask(jobs, "GET", "/v2/serverless/echo").body)
    assert echo in listed
    assert (echo["type"], echo["requestUrls"]["run"]) == ("QUEUE", f"/v2/{echo['id']}/run")
    workers = json.loads(ask(jobs, "GET", f"/v2/serverless/{echo['id']}/workers").body)
    assert workers["summary"]["total"] == len(workers["workers"])


def test_how_far_an_endpoint_scales_is_changed_and_stays_so(jobs: Stage) -> None:
    body = {"workers": {"max": 5, "idleTimeout": 7}, "scaling": {"type": "REQUEST_COUNT", "requestCount": 2}}
    changed = json.loads(ask(jobs, "PATCH", "/v2/serverless/two", body).body)
    assert changed["workers"] == {"min": 0, "max": 5, "idleTimeout": 7.0}
    assert json.loads(ask(jobs, "GET", "/v2/serverless/two").body) == changed
    again = json.loads(ask(jobs, "POST", "/v2/serverless", {"name": "two", "workers": {"max": 4}, "image": "x"}).body)
    assert again["workers"]["max"] == 4


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"image": "x"}, 422, "image: it cannot be changed here"),
        ({"workers": {"max": -1}}, 422, "workers: -1 is no whole number"),
        ({"workers": {"most": 1}}, 422, "there is no 'most' in it"),
        ({"workers": {"min": 9, "max": 2}}, 400, "9 to 2 workers are not possible"),
        ({"scaling": {"type": "SOON"}}, 422, "'SOON' is none of"),
        ([], 400, "a JSON object"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(jobs: Stage, body: Any, status: int, words: str) -> None:
    before = ask(jobs, "GET", "/v2/serverless/echo").body
    answer = ask(jobs, "PATCH", "/v2/serverless/echo", body)
    assert answer.status == status
    assert words in json.loads(answer.body)["error"]
    assert ask(jobs, "GET", "/v2/serverless/echo").body == before


def test_an_endpoint_is_not_made_here_and_the_answer_says_by_what(jobs: Stage) -> None:
    answer = ask(jobs, "POST", "/v2/serverless", {"name": "new", "workers": {"max": 1}})
    assert answer.status == 422
    assert "flash serve" in json.loads(answer.body)["error"]
    errors = query(jobs, 'mutation { saveEndpoint(input: {name: "new", templateId: "t"}) { id } }')["errors"]
    assert "flash serve" in errors[0]["message"]


def test_deleted_is_what_waits_and_the_workers(jobs: Stage) -> None:
    jobs.declare("m:gone", endpoint="gone")
    job = json.loads(ask(jobs, "POST", "/v2/gone/run", {"input": 1}).body)["id"]
    assert ask(jobs, "DELETE", "/v2/serverless/gone").status == 204
    assert json.loads(ask(jobs, "GET", f"/v2/gone/status/{job}").body)["status"] == "CANCELLED"


def test_it_needs_the_key_and_has_its_methods(jobs: Stage) -> None:
    for method, path in (("GET", "/v2/serverless"), ("POST", "/graphql"), ("DELETE", "/v2/serverless/echo")):
        assert ask(jobs, method, path, headers=HOST).status == 401
    assert ask(jobs, "PUT", "/v2/serverless/echo").status == 405
    assert ask(jobs, "GET", "/graphql").status == 405
    assert ask(jobs, "GET", "/v2/serverless/none").status == 404
    assert ask(jobs, "GET", "/v2/serverless/echo/what").status == 404


def test_queries_with_aliases_variables_and_lists(jobs: Stage) -> None:
    found = query(
        jobs,
        """query Mine($id: String!) { mine: myself { a: endpoint(id: $id) { name workersMax nothing } pods { id } }
                                       gpuTypes(input: {id: "NVIDIA L4"}) { displayName memoryInGb } }  # all""",
        id="echo",
    )
    assert found["data"] == {
        "mine": {"a": {"name": "echo", "workersMax": 3, "nothing": None}, "pods": []},
        "gpuTypes": [{"displayName": "NVIDIA L4", "memoryInGb": 24}],
    }


def test_errors_are_told_as_graphql_does(jobs: Stage) -> None:
    for text, words in (("{ what }", "no 'what' here"), ("mutation {", "ends too early"), ("§", "cannot be read")):
        assert words in query(jobs, text)["errors"][0]["message"]
    assert ask(jobs, "POST", "/graphql", [1]).status == 400
    assert "has to be" in json.loads(ask(jobs, "POST", "/graphql", {"query": 1}).body)["errors"][0]["message"]


@given(st.text(alphabet='{}()[]:$"\\!abc1-., \n#', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query_language.read(text, {"a": 1})
    except query_language.BadQuery:
        pass
