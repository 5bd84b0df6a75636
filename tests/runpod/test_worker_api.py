"""The Worker API, asked by hand: what a worker is given, and what becomes of what it says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runpod_flash.engine import program_link
from runpod_flash.gateway.limits import AROUND
from runpod_flash.gateway.runpod import workers
from runpod_flash.model.endpoint import Program
from tests.gateway.raw import AUTHORIZED, HOST, Answer, Client
from tests.gateway.stage import Stage, stage
from tests.runpod.conftest import LIMITS

PATIENCE_S = 20.0


class ByHand:
    """A worker as its program would be."""

    def __init__(self, one: Stage, number: int) -> None:
        self.stage = one
        wait(lambda: len(one.programs) > number)
        self.variables = one.programs[number].variables
        self.id = self.variables["RUNPOD_POD_ID"]
        self.key = self.variables["RUNPOD_AI_API_KEY"]

    def request(self, method: str, path: str, body: str | None = None, key: str | None = None) -> str:
        text = "" if body is None else body
        headers = f"{HOST}Authorization: {self.key if key is None else key}\r\n"
        if body is not None:
            headers += "Content-Type: application/x-www-form-urlencoded\r\n"
        return f"{method} /v2/hand/{path} HTTP/1.1\r\n{headers}Content-Length: {len(text)}\r\n\r\n{text}"

    def ask(self, method: str, path: str, body: str | None = None, key: str | None = None) -> Answer:
        with Client(self.stage) as client:
            return client.ask(self.request(method, path, body, key))

    def poll(self, path: str = "job-take", more: str = "&job_in_progress=0") -> Client:
        """A request that is held; its answer is read later."""
        client = Client(self.stage)
        client.send(self.request("GET", f"{path}/{self.id}?gpu=CPU{more}"))
        return client

    def taken(self, more: str = "&job_in_progress=0") -> dict[str, Any]:
        with self.poll(more=more) as client:
            job: dict[str, Any] = json.loads(client.read().body)
        return job

    def done(self, job: str, body: Any) -> Answer:
        return self.ask("POST", f"job-done/{self.id}/{job}?gpu=CPU&isStream=false", json.dumps(body))

    def ping(self, *jobs: str) -> Answer:
        return self.ask("GET", f"ping/{self.id}?gpu=CPU&job_id={','.join(jobs)}&runpod_version=1.12.0")


class Jobs:
    """The client's side."""

    def __init__(self, one: Stage) -> None:
        self.stage = one

    def ask(self, method: str, path: str, body: str = "") -> Any:
        request = f"{method} /v2/hand/{path} HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n{body}"
        with Client(self.stage) as client:
            return json.loads(client.ask(request).body)

    def run(self, said: Any = None, **more: Any) -> str:
        job: str = self.ask("POST", "run", json.dumps({"input": said, **more}))["id"]
        return job

    def status(self, job: str) -> Any:
        return self.ask("GET", f"status/{job}")


def wait(holds: Any) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("hand") / "home", **LIMITS) as made:
        program = Program(("python", "handler.py"), "/mine", "d")
        made.declare("handler.py", endpoint="hand", program=program, workers_min=2, yields=True, is_async=True)
        yield made


@pytest.fixture
def worker(one: Stage) -> ByHand:
    return ByHand(one, 0)


@pytest.fixture
def jobs(one: Stage) -> Jobs:
    return Jobs(one)


def test_a_job_is_the_answer_of_a_poll_that_was_held_and_begins_when_a_ping_names_it(
    worker: ByHand, jobs: Jobs
) -> None:
    with worker.poll() as poll:
        job = jobs.run({"a": 1})
        given = poll.read()
    assert given.headers["content-type"] == "application/json"
    assert json.loads(given.body) == {"id": job, "input": {"a": 1}}
    assert jobs.status(job)["status"] == "IN_QUEUE", "it may have been lost on its way"
    worker.ping(job)
    assert jobs.status(job)["status"] == "IN_PROGRESS"
    assert worker.done(job, {"output": "x"}).status == 200
    assert jobs.status(job)["output"] == "x"


def test_what_is_late_or_comes_twice_changes_nothing(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    worker.taken()
    worker.done(job, {"output": 1})
    for body in ({"output": 2}, {"error": "no"}, {"status": "IN_PROGRESS", "output": 50}):
        answer = worker.done(job, body)
        assert (answer.status, json.loads(answer.body)) == (200, {"recorded": False})
    ended = jobs.status(job)
    assert (ended["status"], ended["output"]) == ("COMPLETED", 1)


def test_a_poll_is_held_and_then_let_go_with_nothing(worker: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "HOLD_S", 0.2)
    began = time.monotonic()
    with worker.poll() as take, worker.poll("job-stop", "") as stop:
        assert (take.read().status, stop.read().status) == (204, 204)
    assert time.monotonic() - began > 0.15


def test_a_job_that_no_ping_names_never_arrived_and_is_given_again(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    assert worker.taken()["id"] == job

    def again() -> bool:
        worker.ping()
        with worker.poll(more="&job_in_progress=1") as poll:
            poll.socket.settimeout(0.2)
            try:
                return bool(json.loads(poll.read().body)["id"] == job)
            except TimeoutError:
                return False

    wait(again)
    worker.done(job, {"output": 1})
    assert "retries" not in jobs.status(job), "its first time did not count"


def test_a_worker_that_drops_whatever_it_gets_ends_the_job_after_a_while(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    for _ in range(program_link.MOST_DROPS):
        assert worker.taken()["id"] == job
    worker.poll().close()
    ended = wait(lambda: (found := jobs.status(job))["status"] == "FAILED" and found)
    assert "its worker took it 5 times, and then neither had it nor brought a result" in ended["error"]
    assert "flash logs --endpoint hand" in ended["error"]


def test_a_worker_that_polls_without_any_job_has_lost_what_it_had(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    worker.taken()
    worker.ping(job)
    assert worker.taken("&job_in_progress=0")["id"] == job
    worker.done(job, {"output": 1})
    assert jobs.status(job)["retries"] == 1


def test_a_poll_whose_client_is_gone_gets_no_job(worker: ByHand, jobs: Jobs) -> None:
    worker.poll().close()
    wait(lambda: worker.stage.do(lambda: not worker.stage.engine.state.workers[worker.id].room))
    job = jobs.run()
    assert jobs.status(job)["status"] == "IN_QUEUE"
    assert worker.taken()["id"] == job
    worker.done(job, {"output": 1})


def test_several_jobs_are_the_answer_of_a_batch(worker: ByHand, jobs: Jobs) -> None:
    first, second = jobs.run(1), jobs.run(2)
    with worker.poll("job-take-batch", "&batch_size=3&job_in_progress=0") as poll:
        given = json.loads(poll.read().body)
    assert [job["id"] for job in given] == [first, second]
    for job in (first, second):
        worker.done(job, {"output": None})
        assert jobs.status(job)["status"] == "COMPLETED"


def test_a_job_to_stop_is_told_and_has_ended_when_pings_leave_it_out(worker: ByHand, jobs: Jobs) -> None:
    stays, goes = jobs.run(1), jobs.run(2)
    with worker.poll("job-take-batch", "&batch_size=2&job_in_progress=0") as poll:
        poll.read()
    worker.ping(stays, goes)
    with worker.poll("job-stop", "") as stop:
        jobs.ask("POST", f"cancel/{goes}")
        assert json.loads(stop.read().body) == {"jobsToStop": [goes]}

    def ended() -> bool:
        worker.ping(stays)
        return bool(jobs.status(goes)["status"] == "CANCELLED")

    wait(ended)
    assert jobs.status(stays)["status"] == "IN_PROGRESS"
    worker.done(stays, {"output": 1})
    assert jobs.status(stays)["status"] == "COMPLETED"


def test_what_a_job_yields_is_kept_in_order(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    worker.taken()
    for number in range(3):
        worker.ask("POST", f"job-stream/{worker.id}/{job}?gpu=CPU", json.dumps({"output": number}))
    worker.done(job, {"output": []})
    assert jobs.ask("GET", f"stream/{job}")["stream"] == [{"output": number} for number in range(3)]
    assert worker.ask("POST", f"job-stream/{worker.id}/{job}?gpu=CPU", json.dumps({"output": 9})).status == 200


@pytest.mark.parametrize("key", ["", "Bearer nonsense", "flash-token-of-these-tests"])
def test_who_does_not_show_the_key_of_a_worker_is_refused_and_slowly(
    worker: ByHand, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(workers, "FORGED_S", 0.1)
    for method, verb in (("GET", "job-take/{}"), ("GET", "job-stop/{}"), ("GET", "ping/{}"), ("POST", "job-done/{}/j")):
        answer = worker.ask(method, verb.format(worker.id) + "?gpu=CPU", "{}" if method == "POST" else None, key)
        assert answer.status == 401, verb
        assert "RUNPOD_AI_API_KEY" in json.loads(answer.body)["error"]


def test_a_worker_speaks_for_itself_alone(worker: ByHand, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FORGED_S", 0.01)
    other = ByHand(worker.stage, 1)
    job = jobs.run()
    worker.taken()
    worker.ping(job)
    stolen = other.ask("POST", f"job-done/{worker.id}/{job}?gpu=CPU", '{"output": 0}')
    assert stolen.status == 401
    assert json.loads(other.done(job, {"output": 0}).body) == {"recorded": False}
    assert jobs.status(job)["status"] == "IN_PROGRESS"
    worker.done(job, {"output": 1})
    assert jobs.status(job)["output"] == 1


def test_a_worker_that_does_not_exist_is_refused_whatever_key_it_shows(
    worker: ByHand, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "FORGED_S", 0.01)
    job = jobs.run()
    worker.taken()
    for method, path in (("GET", "job-take/wforged"), ("POST", f"job-done/wforged/{job}"), ("GET", "ping/wforged")):
        answer = worker.ask(method, f"{path}?gpu=CPU&job_id={job}", "{}" if method == "POST" else None)
        assert (answer.status, "no worker of that id" in json.loads(answer.body)["error"]) == (401, True)
    assert jobs.status(job)["status"] == "IN_QUEUE", "nothing that was said for it counts"
    worker.done(job, {"output": 1})


def test_a_worker_of_another_endpoint_is_told_so(worker: ByHand) -> None:
    worker.stage.declare("m:other", endpoint="other")
    with Client(worker.stage) as client:
        request = worker.request("POST", f"job-done/{worker.id}/j?gpu=CPU", "{}").replace("/hand/", "/other/")
        assert client.ask(request).status == 403


@pytest.mark.parametrize("body", ["", "[]", '{"output": ', '{"output": "\\ud8"}', "nonsense", "output=1"])
def test_a_body_that_is_no_json_is_refused_and_the_job_goes_on(worker: ByHand, jobs: Jobs, body: str) -> None:
    job = jobs.run()
    worker.taken()
    worker.ping(job)
    answer = worker.ask("POST", f"job-done/{worker.id}/{job}?gpu=CPU", body)
    assert answer.status == 400
    assert "the body is no" in json.loads(answer.body)["error"]
    assert jobs.status(job)["status"] == "IN_PROGRESS"
    worker.done(job, {"output": 1})


def test_a_result_that_is_too_large_to_take_is_the_end_of_its_job(worker: ByHand, jobs: Jobs) -> None:
    job = jobs.run()
    worker.taken()
    with Client(worker.stage) as client:
        request = worker.request("POST", f"job-done/{worker.id}/{job}?gpu=CPU&isStream=false", "")
        answer = client.ask(request.replace("Content-Length: 0", f"Content-Length: {100 << 20}"))
    assert answer.status == 413
    ended = jobs.status(job)
    assert ended["status"] == "FAILED"
    assert "write it to a volume" in ended["error"]


@pytest.mark.parametrize(("verb", "most", "variable"), [("run", 1, "RUN"), ("runsync?wait=0", 2, "RUNSYNC")])
def test_an_output_larger_than_a_job_may_have_is_the_end_of_it(
    worker: ByHand, jobs: Jobs, verb: str, most: int, variable: str
) -> None:
    def ended(size: int) -> Any:
        job = jobs.ask("POST", verb, '{"input": 0}')["id"]
        worker.taken()
        assert worker.done(job, {"output": "x" * (size - 2)}).status == 200
        return jobs.status(job)

    bytes_at_most = (most << 20) + AROUND
    assert ended(bytes_at_most)["status"] == "COMPLETED"
    failed = ended(bytes_at_most + 1)
    assert failed["status"] == "FAILED"
    assert f"may have {bytes_at_most} (FLASH_{variable}_BODY): write it to a volume" in failed["error"]


def test_a_job_whose_ttl_is_over_while_it_runs_is_stopped_and_what_comes_of_it_is_late(
    worker: ByHand, jobs: Jobs
) -> None:
    job = jobs.run(policy={"ttl": 300})
    worker.taken()
    worker.ping(job)
    with worker.poll("job-stop", "") as stop:
        assert json.loads(stop.read().body) == {"jobsToStop": [job]}

    def ended() -> bool:
        worker.ping()
        return bool(jobs.status(job)["status"] == "TIMED_OUT")

    wait(ended)
    assert json.loads(worker.done(job, {"output": 1}).body) == {"recorded": False}
    assert jobs.status(job)["status"] == "TIMED_OUT"
    assert jobs.status(job)["error"].startswith("Expired: ttl expired: it had not ended 0.")


def test_paths_and_numbers_that_make_no_sense(worker: ByHand) -> None:
    assert worker.ask("POST", f"job-done/{worker.id}?gpu=CPU", "{}").status == 400
    assert worker.ask("GET", f"job-take-batch/{worker.id}?gpu=CPU&batch_size=-1").status == 400
    assert worker.ask("DELETE", f"job-take/{worker.id}?gpu=CPU").status == 405


def test_the_polls_of_a_worker_that_shall_leave_are_answered_at_once(worker: ByHand) -> None:
    with worker.poll() as take, worker.poll("job-stop", "") as stop, Client(worker.stage) as client:
        wait(lambda: worker.stage.do(lambda: worker.stage.engine.state.workers[worker.id].room))
        client.ask(f"DELETE /v2/serverless/hand HTTP/1.1\r\n{AUTHORIZED}\r\n")
        assert (take.read().status, stop.read().status) == (204, 204)
