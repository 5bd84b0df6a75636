"""Requests of the Job API that cannot be granted: the right status, an error in words, and nothing done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from runpod_flash.engine import retention
from runpod_flash.gateway.limits import AROUND
from tests.gateway.raw import AUTHORIZED, HOST, Answer, Client
from tests.gateway.stage import Stage, stage


def ask(one: Stage, method: str, path: str, body: str = "", *, headers: str = AUTHORIZED) -> Answer:
    with Client(one) as client:
        return client.ask(f"{method} {path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}")


def error(answer: Answer) -> str:
    found: str = json.loads(answer.body)["error"]
    return found


def test_an_endpoint_that_does_not_exist_is_told_with_what_is_probably_meant(jobs: Stage) -> None:
    answer = ask(jobs, "POST", "/v2/ecoh/run", '{"input": {}}')
    assert answer.status == 404
    assert "Did you mean 'echo'?" in error(answer)


@pytest.mark.parametrize("key", ["", "Authorization: Bearer wrong-token\r\n"])
def test_without_the_key_nothing_is_told(jobs: Stage, key: str) -> None:
    for path in ("/v2/echo/run", "/v2/none/run", "/v2/echo/none"):
        answer = ask(jobs, "POST", path, '{"input": {}}', headers=HOST + key)
        assert answer.status == 401, path
        assert "flash engine token" in error(answer)


def test_the_bare_key_will_do(jobs: Stage) -> None:
    bare = AUTHORIZED.replace("Bearer ", "")
    assert ask(jobs, "GET", "/v2/echo/status/none", headers=bare).status == 404


def test_an_operation_that_does_not_exist_and_a_method_that_it_does_not_have(jobs: Stage) -> None:
    answer = ask(jobs, "POST", "/v2/echo/rum", '{"input": {}}')
    assert answer.status == 404
    assert "Did you mean 'run'?" in error(answer)
    answer = ask(jobs, "GET", "/v2/echo/run")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "no JSON"),
        ('{"input": ', "no JSON"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", 'no "input"'),
        ('{"input": 1, "policy": {"ttl": "soon"}}', "$.policy.ttl"),
        ('{"input": 1, "policy": {"executionTimeout": 0}}', "policy.executionTimeout is 0"),
        ('{"input": 1, "webhook": "ftp://example.org"}', "http or https"),
    ],
)
def test_a_body_that_is_no_job_is_refused_with_what_is_wrong_with_it(jobs: Stage, body: str, words: str) -> None:
    answer = ask(jobs, "POST", "/v2/echo/run", body)
    assert answer.status == 400
    assert words in error(answer)


def test_a_body_of_another_type_is_refused(jobs: Stage) -> None:
    answer = ask(jobs, "POST", "/v2/echo/run", "<x/>", headers=f"{AUTHORIZED}Content-Type: text/xml\r\n")
    assert (answer.status, "application/json" in error(answer)) == (415, True)


@pytest.mark.parametrize(
    ("path", "most", "variable"),
    [
        ("/v2/echo/run", (1 << 20) + AROUND, "FLASH_RUN_BODY"),
        ("/v2/echo/runsync?wait=0", (2 << 20) + AROUND, "FLASH_RUNSYNC_BODY"),
        ("/v2/echo/purge-queue", 4 << 20, "FLASH_GATEWAY_BODY"),
    ],
)
def test_a_body_beyond_its_limit_is_refused_before_it_is_read(jobs: Stage, path: str, most: int, variable: str) -> None:
    listed = ask(jobs, "GET", "/v2/echo/requests").body
    for length in (f"Content-Length: {most + 1}\r\n\r\n", f"Transfer-Encoding: chunked\r\n\r\n{most:x}\r\n"):
        with Client(jobs) as client:
            client.send(f"POST {path} HTTP/1.1\r\n{AUTHORIZED}{length}")
            if "chunked" in length:
                client.send(b" " * most + b"\r\n1\r\n \r\n")
            answer = client.read()
        assert (answer.status, error(answer)) == (413, f"the body may have {most} bytes ({variable})")
    assert ask(jobs, "GET", "/v2/echo/requests").body == listed
    wrong = f"{HOST}Content-Length: {most + 1}\r\n\r\n"
    with Client(jobs) as client:
        assert client.ask(f"POST {path} HTTP/1.1\r\n{wrong}").status == 401, "strangers are told of no limit"


def test_a_job_as_large_as_may_be_is_taken(jobs: Stage) -> None:
    assert ask(jobs, "POST", "/v2/echo/run", f'{{"input": {{"data": "{"x" * (1 << 20)}"}}}}').status == 200


def test_a_job_that_is_not_there_is_not_found(jobs: Stage) -> None:
    answer = ask(jobs, "GET", "/v2/echo/status/0-u1")
    assert answer.status == 404
    assert "no job '0-u1'" in error(answer)


def test_a_job_that_was_kept_long_enough_is_there_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_FIRST_SWEEP_S", 0.05)
    monkeypatch.setattr(retention, "_SWEEP_S", 0.05)
    with stage(tmp_path / "home", FLASH_RETENTION_SPAWNED="0.01") as one:
        one.builds = "later"
        one.declare("m:echo", endpoint="echo")
        job = json.loads(ask(one, "POST", "/v2/echo/run", '{"input": 1, "policy": {"ttl": 1}}').body)["id"]
        end = time.monotonic() + 20
        while ask(one, "GET", f"/v2/echo/status/{job}").status == 200:
            assert time.monotonic() < end, "it is kept for ever"
            time.sleep(0.02)
        for verb in ("status", "status-sync", "stream", "cancel", "retry"):
            answer = ask(one, "POST", f"/v2/echo/{verb}/{job}")
            assert (answer.status, "or of long ago" in error(answer)) == (404, True), verb
        assert json.loads(ask(one, "GET", "/v2/echo/requests").body) == {"requests": []}


def test_several_functions_have_to_be_told_apart(jobs: Stage) -> None:
    answer = ask(jobs, "POST", "/v2/two/run", '{"input": {}}')
    assert (answer.status, json.loads(answer.body)["functions"]) == (400, ["m:first", "m:second"])
    assert ask(jobs, "POST", "/v2/two:first/run", '{"input": {}}').status == 200
    assert (
        ask(jobs, "POST", "/v2/two/run", '{"input": {}}', headers=f"{AUTHORIZED}X-Flash-Function: second\r\n").status
        == 200
    )
    answer = ask(jobs, "POST", "/v2/two:third/run", '{"input": {}}')
    assert (answer.status, json.loads(answer.body)["functions"]) == (404, ["m:first", "m:second"])


def test_headers_name_an_endpoint_as_well(jobs: Stage) -> None:
    def by(*headers: str) -> Answer:
        lines = "".join(f"X-Flash-{one}\r\n" for one in headers)
        return ask(jobs, "POST", "/v2/flash/run", '{"input": {"__empty": true}}', headers=AUTHORIZED + lines)

    assert by("App: app", "Environment: dev", "Endpoint: echo").status == 200
    assert by("Endpoint: echo").status == 200
    assert by("Endpoint: two", "Function: first").status == 200
    assert by().status == 400
    for headers in (("App: other", "Endpoint: echo"), ("Environment: production", "Endpoint: echo"), ("Endpoint: no",)):
        answer = by(*headers)
        assert answer.status == 404
        assert "not found" in error(answer)
    assert "app/dev" in error(by("App: other", "Endpoint: echo"))


def test_two_apps_with_an_endpoint_of_one_name_are_told_apart(jobs: Stage) -> None:
    for app in ("mine-0a1b2c", "yours"):
        jobs.declare("m:same", endpoint="same", app=app)
    answer = ask(jobs, "POST", "/v2/same/run", '{"input": 1}')
    choices = json.loads(answer.body)["choices"]
    assert (answer.status, sorted(one["app"] for one in choices)) == (404, ["mine-0a1b2c", "yours"])
    assert ask(jobs, "POST", f"/v2/{choices[0]['id']}/run", '{"input": 1}').status == 200
    headers = f"{AUTHORIZED}X-Flash-App: mine\r\nX-Flash-Endpoint: same\r\n"
    assert ask(jobs, "POST", "/v2/flash/run", '{"input": 1}', headers=headers).status == 200


def test_a_job_is_of_its_endpoint_alone(jobs: Stage) -> None:
    job = json.loads(ask(jobs, "POST", "/v2/echo/run", '{"input": 1}').body)["id"]
    assert ask(jobs, "GET", f"/v2/echo/status/{job}").status == 200
    for verb in ("status", "stream", "cancel", "retry"):
        assert ask(jobs, "POST", f"/v2/two/{verb}/{job}").status == 404
    assert json.loads(ask(jobs, "GET", f"/v2/echo/status/{job}").body)["status"] == "IN_QUEUE"


def test_jobs_are_listed_newest_first_page_by_page(jobs: Stage) -> None:
    jobs.declare("m:listed", endpoint="listed")
    made = [json.loads(ask(jobs, "POST", "/v2/listed/run", '{"input": 1}').body)["id"] for _ in range(3)]
    first = json.loads(ask(jobs, "GET", "/v2/listed/requests?limit=2").body)
    rest = json.loads(ask(jobs, "GET", f"/v2/listed/requests?limit=2&cursor={first['cursor']}").body)
    assert [one["id"] for one in first["requests"] + rest["requests"]] == made[::-1]
    assert json.loads(ask(jobs, "GET", "/v2/listed/requests?status=COMPLETED").body) == {"requests": []}
    assert "no status 'DONE'" in error(ask(jobs, "GET", "/v2/listed/requests?status=done"))


def test_the_id_that_a_caller_gives_its_request_comes_back(jobs: Stage) -> None:
    answer = ask(jobs, "GET", "/v2/echo/status/0-u1", headers=f"{AUTHORIZED}X-Request-ID: mine\r\n")
    assert answer.headers["x-request-id"] == "mine"


def test_a_request_that_is_said_again_is_answered_anew(jobs: Stage) -> None:
    with Client(jobs) as client:
        for body, status in (('{"input": 1}', 200), ("no job here!", 400), ('{"input": 2}', 200)):
            request = f"POST /v2/echo/run HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n{body}"
            answers = [client.ask(request) for _ in range(2)]
            assert [answer.status for answer in answers] == [status, status]
            assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]
