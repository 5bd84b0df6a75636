"""Runpod's own client, unmodified, against an engine of ours and real workers: only its address was changed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from runpod_flash import JobHandle
from runpod_flash.cli.verbs import flash as root
from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.runpod import program
from tests.runpod.receiver import Receiver
from tests.runpod.served import share_environments

PATIENCE_S = 60


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedEngine]:
    """An engine that knows the functions of program.py, whose program is gone."""
    with isolated_engine(FLASH_WEBHOOK_PAUSE="0.05") as one:
        share_environments(one.home)
        asyncio.run(program.declare(tmp_path_factory.mktemp("declared")))
        yield one


@pytest.fixture(scope="module")
def variables(engine: IsolatedEngine) -> dict[str, str]:
    found: dict[str, str] = json.loads(CliRunner().invoke(root, ["runpod", "env", "--json"]).stdout)
    return found


class Client:
    """Runpod's package, in a process of its own."""

    def __init__(self, python: Path, key: str, address: str) -> None:
        script = Path(__file__).with_name("driver.py")
        self.process = subprocess.Popen(
            [str(python), str(script), key, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, code: str, **given: Any) -> Any:
        """Runs code there; what it calls `result`. AssertionError for what it raises."""
        answer = self.ask(code, **given)
        assert "raised" not in answer, answer["raised"]
        return answer["result"]

    def ask(self, code: str, **given: Any) -> dict[str, Any]:
        self.begin(code, **given)
        return self.answer()

    def begin(self, code: str, **given: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"code": textwrap.dedent(code), "given": given}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def client(runpod_python: Path, variables: dict[str, str]) -> Iterator[Client]:
    one = Client(runpod_python, variables["RUNPOD_API_KEY"], variables["RUNPOD_ENDPOINT_BASE_URL"])
    yield one
    one.close()


def test_the_program_of_the_page_runs_with_the_variables_alone(
    runpod_python: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "runpod.md").read_text(encoding="utf-8")
    code = page.split("```python\n", 1)[1].split("```", 1)[0]
    code = code.replace('"greet"', '"echo"').replace('{"name": "you"}', '{"input": "you"}')
    environ = {**os.environ, **variables, "HOME": str(tmp_path)}  # without a key that `runpod config` has kept
    ended = subprocess.run(
        [runpod_python, "-c", code], check=False, env=environ, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (ended.stdout, ended.returncode) == ("you\n", 0), ended.stderr


# ── values ────────────────────────────────────────────────────────────────────────────────────────


def test_run_sync_gives_the_value_of_a_function(client: Client) -> None:
    assert client("result = runpod.Endpoint('add').run_sync({'left': 3, 'right': 4})") == {"sum": 7}
    assert client("result = runpod.Endpoint('add').run_sync({'left': 3})") == {"sum": 4}


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, {"text": "žluťoučký 🐎 \u0000"}, [1], "text", 0.1])
def test_values_go_there_and_back_unharmed(client: Client, value: Any) -> None:
    assert client("result = runpod.Endpoint('echo').run_sync({'input': {'input': value}})", value=value) == value


def test_an_empty_input_is_delivered_unharmed_and_none_is_a_value(client: Client) -> None:
    post = """
    url, key = f"{runpod.endpoint_url_base}/echo/runsync", {"Authorization": f"Bearer {runpod.api_key}"}
    result = requests.post(url, json={"input": value}, headers=key).json()
    """
    found = client(post, value={})
    assert (found["status"], found["output"]) == ("COMPLETED", {})
    found = client(post, value=None)
    assert (found["status"], found["output"]) == ("COMPLETED", None)


def test_ten_megabytes_go_there_and_back(client: Client) -> None:
    code = """
    value = {"text": "ü" * 1_000_000 + "x" * 4_000_000}
    sent = runpod.Endpoint("echo").run({"input": {"input": value}})
    while sent.status() not in ("COMPLETED", "FAILED"):
        time.sleep(0.05)
    result = sent.output() == value and runpod.Endpoint("echo").run_sync({"input": {"input": value}}) == value
    """
    assert client(code) is True


def test_a_job_is_run_and_asked_for_later(client: Client) -> None:
    code = """
    job = runpod.Endpoint("add").run({"left": 1})
    result = [job.job_id, job.output(timeout=600), job.status()]
    """
    job, output, status = client(code)
    assert (output, status) == ({"sum": 2}, "COMPLETED")
    assert job.endswith("-u1")


def test_the_asynchronous_client(client: Client) -> None:
    code = """
    async def ask():
        async with aiohttp.ClientSession() as session:
            job = await runpod.AsyncioEndpoint("add", session).run({"left": 5})
            output = await job.output(timeout=600)
            health = await runpod.AsyncioEndpoint("add", session).health()
            return [output, await job.status(), sorted(health["jobs"]), sorted(health["workers"])]
    result = asyncio.run(ask())
    """
    output, status, jobs, workers = client(code)
    assert (output, status) == ({"sum": 6}, "COMPLETED")
    assert jobs == ["completed", "failed", "inProgress", "inQueue", "retried"]
    assert workers == ["idle", "initializing", "ready", "running", "throttled", "unhealthy"]


def test_generators_are_streamed_and_their_items_are_the_output(client: Client) -> None:
    code = """
    job = runpod.Endpoint(name).run({"n": 3})
    result = [list(job.stream()), job.output(), runpod.Endpoint(name).run_sync({"n": 2})]
    """
    items = [{"n": 0}, {"n": 1}, {"n": 2}]
    assert client(code, name="many:numbers") == [items, items, items[:2]]
    assert client(code, name="many:letters") == [["a", "b", "c"], ["a", "b", "c"], ["a", "b"]]


def test_what_was_given_away_comes_once_and_can_be_read_again_by_number(client: Client) -> None:
    code = """
    endpoint = runpod.Endpoint("many:numbers")
    job = endpoint.run({"n": 3})
    job.output(timeout=600)
    look = lambda query: endpoint.rp_client.get(f"many/stream/{job.job_id}{query}")["stream"]
    result = [look(""), look(""), look("?from=1")]
    """
    items = [{"output": {"n": n}} for n in range(3)]
    assert client(code) == [items, [], items[1:]]


def test_progress_is_the_output_of_a_job_that_runs(client: Client, tmp_path: Path) -> None:
    code = """
    job = runpod.Endpoint("speaks").run({"begun": begun, "opened": opened})
    while job._fetch_job().get("output") != {"step": 1}:
        time.sleep(0.02)
    open(opened, "w").close()
    result = job.output(timeout=600)
    """
    assert client(code, begun=str(tmp_path / "begun"), opened=str(tmp_path / "opened")) == "spoken"


def test_a_job_from_http_can_be_read_in_python_as_well(client: Client) -> None:
    job = client("job = runpod.Endpoint('many:numbers').run({'n': 2}); job.output(timeout=600); result = job.job_id")
    assert asyncio.run(_result(job)) == [{"n": 0}, {"n": 1}]
    job = client("job = runpod.Endpoint('add').run({'left': 2}); job.output(timeout=600); result = job.job_id")
    assert asyncio.run(_result(job)) == {"sum": 3}


async def _result(job: str) -> Any:
    return await JobHandle.from_id(job).result(30)


def test_what_a_python_program_spawns_can_be_read_over_http(client: Client) -> None:
    async def spawn() -> list[str]:
        jobs = [await program.add.spawn(3), await program.not_json.spawn(), await program.boom.spawn()]
        for job in jobs:
            await job
        return [job.id for job in jobs]

    code = """
    told = [runpod.endpoint.Job(name, job, runpod.Endpoint(name).rp_client)._fetch_job() for name, job in jobs]
    again = runpod.Endpoint("add").rp_client.get(f"add/status-sync/{jobs[0][1]}")
    result = [*told, again]
    """
    jobs = list(zip(("add", "time", "boom"), asyncio.run(spawn()), strict=True))
    added, not_json, failed, again = client(code, jobs=jobs)
    assert (added["status"], added["output"]) == ("COMPLETED", {"sum": 4})
    assert again == added
    assert not_json["status"] == "COMPLETED"
    assert "$.at[0] is a datetime" in not_json["outputError"]
    assert json.loads(failed["error"])["error_message"] == "boom"


# ── errors ────────────────────────────────────────────────────────────────────────────────────────

WAIT = """
job = runpod.Endpoint(name).run(given)
while (told := job._fetch_job())["status"] not in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED"):
    time.sleep(0.02)
result = told
"""


def test_an_exception_is_told_as_workers_of_runpod_tell_it(client: Client) -> None:
    told = client(WAIT, name="boom", given={"path": ""})
    assert told["status"] == "FAILED"
    assert {"delayTime", "executionTime", "workerId"} <= told.keys()
    error = json.loads(told["error"])
    assert (error["error_type"], error["error_message"]) == ("<class 'ValueError'>", "boom")
    assert 'raise ValueError("boom")' in error["error_traceback"]


@pytest.mark.parametrize(("name", "given"), [("boom", {"path": ""}), ("add", {"left": "three"}), ("time", {"x": 1})])
def test_who_waits_for_a_job_that_fails_is_told_the_same_as_who_asks_later(
    client: Client, name: str, given: dict[str, Any]
) -> None:
    code = """
    url, key = f"{runpod.endpoint_url_base}/{name}/", {"Authorization": runpod.api_key}
    told = requests.post(url + "runsync", json={"input": given}, headers=key).json()
    result = [told, requests.get(url + "status/" + told["id"], headers=key).json()]
    """
    told, later = client(code, name=name, given=given)
    assert told == later
    assert told["status"] == "FAILED"
    assert "output" not in told


def test_a_value_that_says_error_is_a_value(client: Client) -> None:
    assert client("result = runpod.Endpoint('soft').run_sync({'x': 1})") == {"error": "a value like others"}


def test_an_input_that_does_not_fit_names_what_is_wrong_and_is_not_tried_again(client: Client) -> None:
    told = client(WAIT, name="add", given={"left": "three"})
    assert told["status"] == "FAILED"
    assert told["error"].startswith("InvalidInput: input.left: Input should be a valid integer")
    assert "retries" not in told
    assert "input.left: Field required" in client(WAIT, name="add", given={"right": 1})["error"]


def test_a_value_that_is_not_json_fails_with_the_place_of_it(client: Client) -> None:
    told = client(WAIT, name="time", given={"x": 1})
    assert told["status"] == "FAILED"
    assert "$.at[0] is a datetime" in told["error"]


def test_a_wrong_key_is_told_so_and_an_unknown_endpoint_too(client: Client) -> None:
    wrong = "endpoint = runpod.Endpoint('add', api_key='wrong-key'); result = endpoint.run_sync({'left': 1})"
    assert client.ask(wrong)["raised"].startswith("RuntimeError: 401")
    assert "404" in client.ask("result = runpod.Endpoint('none').run_sync({'left': 1})")["raised"]


# ── control ───────────────────────────────────────────────────────────────────────────────────────


def test_cancelled_while_it_runs_and_while_it_waits(client: Client, tmp_path: Path) -> None:
    code = """
    endpoint = runpod.Endpoint("slow")
    running = endpoint.run({"begun": begun})
    while not os.path.exists(begun):
        time.sleep(0.01)
    waiting = endpoint.run({"seconds": 1})
    told = [waiting.cancel(), waiting._fetch_job(), running.cancel(), running._fetch_job()]
    try:
        told.append(list(running.stream()))
    except requests.HTTPError as error:
        told.append(error.response.status_code)
    result = told
    """
    begun = str(tmp_path / "begun")
    waiting, waited, running, ran, stream = client("import os\n" + textwrap.dedent(code), begun=begun)
    for told in (waiting, waited, running, ran):
        assert told["status"] == "CANCELLED"
    for told in (waited, ran):  # what the vendor's SDK cannot do without
        assert {"delayTime", "executionTime", "workerId", "error"} <= told.keys()
    assert (waited["workerId"], waited["executionTime"]) == ("", 0)
    assert stream == 404, "the client would look at the stream of a cancelled job for ever"


def test_purged_is_what_waits_and_nothing_else(client: Client, tmp_path: Path) -> None:
    code = """
    endpoint = runpod.Endpoint("gate")
    given = {"begun": begun, "opened": opened}
    jobs = [endpoint.run(given) for _ in range(4)]
    while jobs[0].status() != "IN_PROGRESS":
        time.sleep(0.01)
    before = endpoint.health()["jobs"]
    purged = endpoint.purge_queue()
    while any(job.status() != "CANCELLED" for job in jobs[1:]):  # one may lie at the worker, which has to hear of it
        time.sleep(0.01)
    open(opened, "w").close()
    result = [before, purged, jobs[0].output(timeout=600), [job.status() for job in jobs]]
    """
    before, purged, output, statuses = client(code, begun=str(tmp_path / "begun"), opened=str(tmp_path / "opened"))
    assert (before["inProgress"], before["inQueue"]) == (1, 3)
    assert purged == {"removed": 3, "status": "completed"}
    assert output == "through"
    assert statuses == ["COMPLETED", "CANCELLED", "CANCELLED", "CANCELLED"]


def test_a_failed_job_is_tried_again_under_its_id(client: Client, tmp_path: Path) -> None:
    code = """
    job = runpod.Endpoint("boom").run({"path": path})
    while job._fetch_job()["status"] != "FAILED":
        time.sleep(0.02)
    open(path, "w").close()
    told = job.rp_client.post(f"boom/retry/{job.job_id}", None)
    while (last := job._fetch_job())["status"] not in ("COMPLETED", "FAILED"):
        time.sleep(0.02)
    again = requests.post(f"{runpod.endpoint_url_base}/boom/retry/{job.job_id}", headers=job.rp_client.headers)
    result = [job.job_id, told, last, again.status_code, again.json()]
    """
    job, told, last, status, refused = client(code, path=str(tmp_path / "there"))
    assert told == {"id": job, "status": "IN_QUEUE"}
    assert (last["status"], last["output"]) == ("COMPLETED", "second time lucky")
    assert (status, refused["error"]) == (
        400,
        f"job {job} is COMPLETED: only jobs that FAILED or TIMED_OUT can be tried again",
    )


def test_times_of_the_policy_are_kept(client: Client, tmp_path: Path) -> None:
    over = {"input": {"seconds": 600}, "policy": {"executionTimeout": 300}}
    told = client(WAIT, name="slow", given=over)
    assert told["status"] == "TIMED_OUT"
    assert "timeout of 0.3 s" in told["error"]
    told = client(WAIT, name="slow", given={"input": {"seconds": 600}, "policy": {"ttl": 400}})
    assert told["status"] == "TIMED_OUT"
    assert "ttl expired: it had not ended" in told["error"]
    code = """
    endpoint = runpod.Endpoint("slow")
    first = endpoint.run({"begun": begun})
    while first.status() != "IN_PROGRESS":
        time.sleep(0.01)
    second = endpoint.run({"input": {"seconds": 1}, "policy": {"ttl": 200}})
    while (told := second._fetch_job())["status"] == "IN_QUEUE":
        time.sleep(0.02)
    first.cancel()
    result = told
    """
    told = client(code, begun=str(tmp_path / "begun"))
    assert told["status"] == "TIMED_OUT"
    assert "ttl" in told["error"]


def test_runsync_gives_up_waiting_and_says_where_the_job_stands(client: Client, tmp_path: Path) -> None:
    code = """
    ask = lambda path, **more: requests.post(f"{runpod.endpoint_url_base}/gate/{path}", headers=key, **more).json()
    key = {"Authorization": runpod.api_key}
    told = ask("runsync?wait=50", json={"input": {"begun": begun, "opened": opened}})
    open(opened, "w").close()
    result = [told, ask(f"status-sync/{told['id']}?wait=30000")]
    """
    told, last = client(code, begun=str(tmp_path / "begun"), opened=str(tmp_path / "opened"))
    assert told["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert told["id"].startswith("sync-")
    assert told["id"].endswith("-u1")
    assert (last["status"], last["output"]) == ("COMPLETED", "through")


def test_five_hundred_at_once(client: Client) -> None:
    code = """
    async def ask():
        connector = aiohttp.TCPConnector(limit=500)
        async with aiohttp.ClientSession(connector=connector) as session:
            async def one(n):
                url, key = f"{runpod.endpoint_url_base}/add/runsync", {"Authorization": f"Bearer {runpod.api_key}"}
                async with session.post(url, json={"input": {"left": n}}, headers=key) as answer:
                    return (await answer.json())["output"]["sum"] - n
            return await asyncio.gather(*map(one, range(500)))
    result = asyncio.run(ask())
    """
    assert client(code) == [1] * 500


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────


def test_endpoints_and_templates_by_the_calls_of_the_package(client: Client, variables: dict[str, str]) -> None:
    code = """
    import os
    os.environ["RUNPOD_API_BASE_URL"] = address
    names = sorted(one["name"] for one in runpod.get_endpoints())
    template = runpod.create_template(name="t", image_name="runpod/base", env={"A": "1"}, is_serverless=True)
    made = runpod.create_endpoint(name="add", template_id=template["id"], workers_max=2, idle_timeout=60)
    changed = runpod.update_endpoint_template(made["id"], template["id"])
    gpu = runpod.get_gpu("NVIDIA L4")["memoryInGb"] if "lowestPrice" else None
    try:
        runpod.create_endpoint(name="nobody-declares-it", template_id=template["id"])
    except runpod.error.QueryError as error:
        refused = str(error)
    result = [names, template, made, changed, runpod.get_gpus()[0]["id"], refused]
    """
    names, template, made, changed, gpu, refused = client(code, address=variables["RUNPOD_API_BASE_URL"])
    assert {"add", "echo", "many"} <= set(names)
    assert (template["name"], template["env"]) == ("t", [{"key": "A", "value": "1"}])
    assert (made["name"], made["workersMax"], made["idleTimeout"]) == ("add", 2, 60)
    assert made["templateId"] == template["id"]
    assert changed == {"id": made["id"], "templateId": template["id"]}
    assert gpu.startswith("NVIDIA")
    assert "flash serve" in refused
    assert client("result = runpod.Endpoint(id).run_sync({'left': 1})", id=made["id"]) == {"sum": 2}


# ── webhooks, and engines that die ────────────────────────────────────────────────────────────────


def kill(engine: IsolatedEngine) -> None:
    pid = engine.facts["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid) or engine.facts.get("pid") not in (pid, None))


def test_a_webhook_is_told_of_the_end_signed_and_again_until_it_is_taken(
    client: Client, variables: dict[str, str]
) -> None:
    with Receiver(statuses=[500, 302]) as receiver:
        body = {"input": {"left": 1}, "webhook": receiver.url}
        job = client("result = runpod.Endpoint('add').run(body).job_id", body=body)
        told = receiver.wait(3)
    assert [one.headers["x-flash-try"] for one in told] == ["1", "2", "3"]
    for one in told:
        facts = json.loads(one.body)
        assert (facts["id"], facts["status"]) == (job, "COMPLETED")
        assert (facts["output"], facts["input"]) == ({"sum": 2}, {"left": 1})
        assert one.is_signed_with(variables["FLASH_WEBHOOK_SECRET"])
        assert not one.is_signed_with("whsec_other")


def test_a_webhook_is_told_of_a_failure_as_well(client: Client) -> None:
    with Receiver() as receiver:
        body = {"input": {"path": ""}, "webhook": receiver.url}
        client("result = runpod.Endpoint('boom').run(body).job_id", body=body)
        (told,) = receiver.wait(1)
    assert json.loads(told.body)["status"] == "FAILED"


def test_an_engine_killed_between_the_end_of_a_job_and_its_webhook_tells_it_when_it_is_back(
    client: Client, engine: IsolatedEngine
) -> None:
    refusing = Receiver(statuses=[503] * 3)
    with refusing as receiver:
        body = {"input": {"left": 1}, "webhook": receiver.url}
        client("result = runpod.Endpoint('add').run(body).job_id", body=body)
        receiver.wait(1)
        kill(engine)
        told = receiver.wait(4)
    assert json.loads(told[-1].body)["output"] == {"sum": 2}


def test_a_job_goes_on_while_its_engine_is_killed_and_is_found_again(
    client: Client, engine: IsolatedEngine, tmp_path: Path
) -> None:
    begun, opened = tmp_path / "begun", tmp_path / "opened"
    given = {"begun": str(begun), "opened": str(opened)}
    job = client("result = runpod.Endpoint('gate').run(given).job_id", given=given)
    until(begun.exists)
    kill(engine)
    opened.touch()
    code = """
    endpoint = runpod.Endpoint("gate")
    job = runpod.endpoint.Job("gate", job, endpoint.rp_client)
    for _ in range(600):
        try:
            if (told := job._fetch_job())["status"] == "COMPLETED":
                break
        except requests.RequestException:
            pass
        time.sleep(0.05)
    result = told
    """
    told = client(code, job=job)
    assert (told["status"], told["output"]) == ("COMPLETED", "through")


def test_who_waits_for_a_job_has_its_value_although_the_engine_is_replaced_meanwhile(
    client: Client, engine: IsolatedEngine, tmp_path: Path
) -> None:
    begun, opened = tmp_path / "begun", tmp_path / "opened"
    given = {"begun": str(begun), "opened": str(opened)}
    client.begin("result = runpod.Endpoint('gate').run_sync(given)", given=given)
    until(begun.exists)
    before = engine.facts["pid"]
    assert CliRunner().invoke(root, ["engine", "restart"]).exit_code == 0
    assert engine.facts["pid"] != before
    opened.touch()
    assert client.answer() == {"result": "through"}
