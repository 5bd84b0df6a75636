"""Whatever is asked of the Job API, it answers as its own OpenAPI document says, and never with a failure of ours."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.gateway.runpod import openapi
from runpod_flash.gateway.runpod.verbs import VERBS
from tests.gateway.raw import AUTHORIZED, HOST, Answer, Client
from tests.gateway.stage import Stage

DOCUMENT = openapi.document()
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def client(jobs: Stage) -> Iterator[Client]:
    with Client(jobs) as one:
        yield one


@pytest.fixture(scope="module")
def known(client: Client) -> list[str]:
    """The ids of some jobs, one of them cancelled."""
    ids = []
    for _ in range(3):
        body = '{"input": {}}'
        answer = client.ask(f"POST /v2/echo/run HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n{body}")
        ids.append(json.loads(answer.body)["id"])
    client.ask(f"POST /v2/echo/cancel/{ids[0]} HTTP/1.1\r\n{AUTHORIZED}Content-Length: 0\r\n\r\n")
    return ids


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
policies = st.fixed_dictionaries(
    {},
    optional={name: st.integers(-1, 1 << 70) | json_values for name in ("executionTimeout", "ttl", "lowPriority")},
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "input": json_values,
        "webhook": st.text(max_size=30) | st.just("http://127.0.0.1:9/x") | json_values,
        "policy": policies | json_values,
        "s3Config": json_values,
        "more": json_values,
    },
).map(lambda value: json.dumps(value).encode())
managed = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["echo", "two", "none"]) | json_values,
        "workers": st.fixed_dictionaries({}, optional=dict.fromkeys(("min", "max", "idleTimeout", "x"), json_values)),
        "scaling": st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "queueDelay"), json_values)) | json_values,
        "timeout": json_values,
        "query": st.sampled_from(["{ myself { endpoints { id } } }", "mutation { saveEndpoint { id } }"]) | st.text(),
        "variables": json_values,
    },
).map(lambda value: json.dumps(value).encode())
nested = st.integers(1, 6000).map(lambda deep: b'{"input":' + b"[" * deep + b"]" * deep + b"}")
numbers = st.sampled_from(["", "0", "1", "-1", "x", "1e3", "9" * 30, "٣"]) | st.text(max_size=5)
headers = st.sampled_from(
    [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: text/xml; charset=utf-8\r\n",
        "Content-Type: \xff\r\n",
        "X-Flash-Function: nothing\r\n",
        "X-Flash-Endpoint: echo\r\nX-Flash-App: app\r\n",
        "X-Request-ID: \x01\xff\r\n",
    ]
)
authorizations = st.sampled_from([AUTHORIZED] * 6 + [HOST, f"{HOST}Authorization: Bearer \xff\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A method, a path of the document, and the bytes of a request for it."""
    method, path = draw(st.sampled_from(OPERATIONS))
    endpoints = st.sampled_from(["echo"] * 6 + ["two", "two:first", "two:none", "flash", "nobody"]) | st.text(
        max_size=12
    )
    target = path.replace("{endpoint}", quote(draw(endpoints), safe=":"))
    if "{id}" in path:
        target = target.replace(
            "{id}", quote(draw(st.sampled_from(["KNOWN0", "KNOWN1", "KNOWN2"]) | st.text(max_size=50)))
        )
    query = {name: draw(numbers) for name in ("from", "status", "limit", "cursor") if draw(st.booleans())}
    query["wait"] = draw(st.sampled_from(["0", "1", "x", "-5", "9e9"]))
    target += "?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())
    method = draw(st.sampled_from([method] * 6 + ["PUT", "DELETE", "OPTIONS", "HEAD"]))
    kinds = bodies | bodies | managed | managed | st.binary(max_size=40) | nested
    body = draw(kinds) if method not in {"GET", "HEAD"} else b""
    head = f"{method} {target} HTTP/1.1\r\n{draw(authorizations)}{draw(headers)}Content-Length: {len(body)}\r\n\r\n"
    return method, path, head.encode("latin-1") + body


@given(asked=requests())
def test_every_answer_is_one_of_those_that_are_described(
    asked: tuple[str, str, bytes], jobs: Stage, known: list[str]
) -> None:
    method, path, data = asked
    for number, job in enumerate(known):
        data = data.replace(b"KNOWN%d" % number, job.encode())
    with Client(jobs) as client:
        answer = client.ask(data, head=method == "HEAD")
    check(method, path, answer)


ODD: dict[str, tuple[str, str, set[int]]] = {
    # headers, body, what is answered where the operation reads such a thing; 0: as if it were not there
    "another type": ("Content-Type: text/xml; charset=utf-8\r\n", "<a/>", {0, 400, 415}),
    "a type of odd bytes": ("Content-Type: \xff\xfe;;==\r\n", '{"input": 1}', {0, 400, 415}),
    "no JSON": ("Content-Type: application/json\r\n", '{"input": ', {0, 400}),
    "other JSON": ("Content-Type: application/json\r\n", "[1]", {0, 400, 422}),
    "no key": ("", "{}", {401}),
    "a forged key": ("Authorization: Bearer forged\r\n", "{}", {401}),
    "a key of odd bytes": ("Authorization: \xc3\x28 \xff\r\n", "{}", {401}),
    "a header of 20 KiB": (f"X-Flash-Function: {'f' * 20_480}\r\n", "{}", {0, 400, 404}),
    "a header of 100 KiB": (f"X-Odd: {'y' * 102_400}\r\n", "{}", {431}),
    "two hundred headers": ("".join(f"X-{n}: y\r\n" for n in range(200)), "{}", {431}),
    "a request id of odd bytes": ("X-Request-ID: \x01\xff\r\n", "{}", {0, 400}),
}


@pytest.mark.parametrize("odd", ODD)
def test_every_operation_answers_what_is_odd_as_described_and_nothing_is_left(jobs: Stage, odd: str) -> None:
    headers, body, statuses = ODD[odd]
    key = HOST if statuses == {401} else AUTHORIZED
    before = jobs_of(jobs)
    for method, path in OPERATIONS:
        target = path.replace("{endpoint}", "two").replace("{id}", "no-such-id") + ("?wait=0" if "{" in path else "")
        head = f"{method} {target} HTTP/1.1\r\n{key}{headers}Content-Length: {len(body)}\r\n\r\n"
        with Client(jobs) as client:
            answer = client.ask((head + body).encode("latin-1"))
        assert 0 in statuses or answer.status in statuses, (method, target, answer)
        if answer.status != 431:  # before anybody looks whose it is
            check(method, path, answer)
        assert json.loads(answer.body or b"{}").get("error", "x" if answer.status < 400 else ""), (target, answer)
    assert jobs_of(jobs) == before


def jobs_of(jobs: Stage) -> Any:
    """What there is of jobs and of endpoints: nothing that is refused may change it."""
    with Client(jobs) as client:
        return [
            client.ask(f"GET {path} HTTP/1.1\r\n{AUTHORIZED}\r\n").body
            for path in ("/v2/two/requests", "/v2/two/health", "/v2/serverless")
        ]


def check(method: str, path: str, answer: Answer) -> None:
    assert answer.status < 500, answer
    if method == "HEAD":
        return
    described = DOCUMENT["paths"][path]
    responses = described.get(method.lower(), next(iter(described.values())))["responses"]
    assert str(answer.status) in responses, answer
    if answer.status == 204:
        return
    schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
    assert answer.headers["content-type"] == "application/json"
    jsonschema.validate(json.loads(answer.body), {**schema, "components": DOCUMENT["components"]})


def test_every_operation_for_clients_is_described_with_its_methods() -> None:
    described: dict[str, set[str]] = {}
    for path, methods in DOCUMENT["paths"].items():
        if path.startswith("/v2/{endpoint}/"):
            described.setdefault(path.split("/")[3], set()).update(method.upper() for method in methods)
    assert described == {name: set(verb.methods) for name, verb in VERBS.items() if verb.token}


def test_the_document_and_its_page_are_served_and_fetch_nothing_from_elsewhere(client: Client) -> None:
    served = client.ask(f"GET /openapi.json HTTP/1.1\r\n{HOST}\r\n")
    assert json.loads(served.body) == DOCUMENT
    page = client.ask(f"GET /docs HTTP/1.1\r\n{HOST}\r\n")
    assert page.status == 200
    assert b'"/openapi.json"' in page.body
    assert b"http://" not in page.body
    assert b"https://" not in page.body
    assert client.ask(f"GET /docs/swagger-ui.css HTTP/1.1\r\n{HOST}\r\n").status == 200


def test_nothing_of_an_id_can_break_out_of_a_line(client: Client) -> None:
    for id in ("%0d%0a", "%00", string.printable.encode().hex()[:60], "../../x"):
        answer: Any = client.ask(f"GET /v2/echo/status/{id} HTTP/1.1\r\n{AUTHORIZED}\r\n")
        assert answer.status in {400, 404}
