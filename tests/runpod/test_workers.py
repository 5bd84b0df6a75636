"""Workers of Runpod's own package, unmodified, as the workers of endpoints here."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.host.machine import measure
from tests.runpod.receiver import Receiver
from tests.runpod.served import PROGRAMS, Served, serving
from tests.runpod.test_client import Client
from tests.waiting import until

MANY = ("--env", "GIVEN=yes", "--memory", "0.5", "--volume", "models")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(two_cards(tmp_path_factory.mktemp("driver"))) as one:
        one.flash("volume", "create", "models")
        one.serve("many.py", "--workers-min", "1", "--workers-max", "1", *MANY)
        one.serve("yields.py", "--workers-min", "1")
        one.serve("gathers.py", "--workers-min", "1", "--workers-max", "2")
        one.serve("one.py", "--workers-min", "1", "--workers-max", "2", "--gpu", "ADA_24")
        yield one


def two_cards(folder: Path) -> str:
    """A path on which the driver's program tells of two cards."""
    program = folder / "nvidia-smi"
    told = "".join(f"echo '{index}, NVIDIA GeForce RTX 4090, 24564'\n" for index in range(2))
    program.write_text(f"#!/bin/sh\n{told}")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_job_gets_to_the_handler_as_it_was_sent(served: Served) -> None:
    said = {"word": "grüße", "list": [1, None, {"a": True}]}
    ended = served.result("many", said)
    assert ended["status"] == "COMPLETED"
    assert ended["output"]["input"] == said
    assert ended["output"]["id"] == ended["id"]
    assert ended["output"]["keys"] == ["id", "input"]
    assert ended["workerId"] == ended["output"]["worker"]
    assert ended["executionTime"] >= 0


def test_an_empty_input_arrives_unharmed_and_what_else_was_said_of_a_job_as_well(served: Served) -> None:
    with Receiver() as receiver:
        ended = served.result("many", {}, webhook=receiver.url, s3Config={"bucketName": "b"})
        (told,) = receiver.wait(1)
    assert json.loads(told.body)["output"] == ended["output"]
    assert ended["output"]["input"] == {}
    assert ended["output"]["keys"] == ["id", "input", "s3Config", "webhook"]


def test_an_exception_is_told_in_the_words_of_the_worker_and_is_final(served: Served) -> None:
    ended = served.result("many", {"do": "fail"})
    assert ended["status"] == "FAILED"
    told = json.loads(ended["error"])
    assert (told["error_type"], told["error_message"]) == ("<class 'ValueError'>", "boom!")
    assert 'raise ValueError("boom!")' in told["error_traceback"]
    assert "retries" not in ended
    row = json.loads(served.flash("job", ended["id"], "--json"))
    assert row["error"].splitlines()[0] == "ValueError: boom!"


def test_an_error_that_a_handler_returns_goes_with_the_rest_of_what_it_returned(served: Served) -> None:
    ended = served.result("many", {"do": "soft"})
    assert (ended["status"], ended["error"], ended["output"]) == ("FAILED", "not today", {"half": 1})


def test_what_python_calls_json_and_nobody_else_does_fails_and_says_so(served: Served) -> None:
    ended = served.result("many", {"do": "nan"})
    assert ended["status"] == "FAILED"
    assert "NaN" in ended["error"]


def test_progress_is_seen_while_a_job_runs_and_none_after_its_end(served: Served, tmp_path: Path) -> None:
    job = served.run("many", {"do": "progress", "until": str(tmp_path / "go")})
    said = served.wait("many", job, lambda found: found.get("output"))
    assert (said["status"], said["output"]) == ("IN_PROGRESS", {"percent": 50})
    (tmp_path / "go").touch()
    assert served.wait("many", job)["output"] == "done"


def test_one_worker_runs_as_many_jobs_at_once_as_it_says(served: Served) -> None:
    jobs = [served.run("many", {"do": "sleep", "s": 600}) for _ in range(5)]
    for job in jobs[:4]:
        assert served.wait("many", job, lambda found: found["status"] == "IN_PROGRESS")["workerId"]
    assert served.status("many", jobs[4])["status"] == "IN_QUEUE"
    served.cancel(*jobs)
    assert {served.wait("many", job)["status"] for job in jobs} == {"CANCELLED"}


def test_a_handler_that_returns_refresh_worker_has_its_worker_replaced(served: Served) -> None:
    before = served.result("many", {})["output"]["worker"]
    ended = served.result("many", {"do": "refresh"})
    assert (ended["status"], ended["workerId"]) == ("COMPLETED", before)
    assert list(ended["output"]) == ["pid"], "what it said of its worker is no part of its output"
    assert served.result("many", {})["output"]["worker"] != before


def test_one_of_two_jobs_is_cancelled_and_the_other_goes_on(served: Served, tmp_path: Path) -> None:
    stays = served.run("many", {"do": "progress", "until": str(tmp_path / "go")})
    goes = served.run("many", {"do": "sleep", "s": 600})
    for job in (stays, goes):
        served.wait("many", job, lambda found: found["status"] == "IN_PROGRESS")
    served.cancel(goes)
    assert served.wait("many", goes)["status"] == "CANCELLED"
    (tmp_path / "go").touch()
    assert served.wait("many", stays)["status"] == "COMPLETED"


def test_a_job_that_takes_too_long_is_stopped_and_its_worker_lives_on(served: Served) -> None:
    ended = served.result("many", {"do": "sleep", "s": 600}, policy={"executionTimeout": 1000})
    assert ended["status"] == "TIMED_OUT"
    assert "timeout of 1 s" in ended["error"]
    assert served.result("many", {})["output"]["worker"] == ended["workerId"]


def test_a_program_is_told_who_it_is_and_has_a_folder_of_its_own(served: Served) -> None:
    output = served.result("many", {"do": "look"})["output"]
    variables = output["variables"]
    assert variables["GIVEN"] == "yes"
    assert variables["RUNPOD_ENDPOINT_ID"] == served.endpoint("many")["id"]
    assert output["here"].endswith(f"workers/{variables['RUNPOD_POD_ID']}/files")


def test_a_program_has_the_card_and_the_volume_that_it_was_served_with(served: Served) -> None:
    card, count = served.result("one", {})["output"]["cards"]
    assert (card in {"0", "1"}, count) == (True, "1")
    output = served.result("many", {"do": "look"})["output"]
    assert output["variables"]["RUNPOD_VOLUME_ID"] == "models"
    if "no_mounts" not in measure().facts:
        assert output["volume"] == []


def test_what_a_job_prints_is_found_under_it(served: Served) -> None:
    job = served.result("many", {"word": "grüße"})["id"]

    def lines() -> list[str] | None:
        # What the worker says of itself while it has this one job may be put under it, too.
        found = [line for line in served.flash("logs", job).splitlines() if "Jobs in" not in line]
        return found if "INFO   | Finished." in found else None

    assert until(lines) == ["INFO   | Started.", "doing echo", "INFO   | Finished."]


def test_what_a_generator_yields_is_streamed_and_its_output_is_empty(served: Served) -> None:
    ended = served.result("yields", {"n": 3})
    assert (ended["status"], ended["output"]) == ("COMPLETED", [])
    said = served.ask("GET", f"yields/stream/{ended['id']}").json()
    assert said["stream"] == [{"output": {"number": number}} for number in range(3)]


@pytest.mark.parametrize(("program", "gathered"), [("yields_plainly", False), ("gathers_later", True)])
def test_plain_or_asynchronous_its_items_are_streamed_and_gathered_where_that_was_said(
    served: Served, program: str, gathered: bool
) -> None:
    served.serve(f"{program}.py")
    ended = served.result(program, {"n": 3})
    items = [{"number": number} for number in range(3)]
    assert (ended["status"], ended["output"]) == ("COMPLETED", items if gathered else [])
    said = served.ask("GET", f"{program}/stream/{ended['id']}").json()
    assert said["stream"] == [{"output": item} for item in items]


def test_a_generator_that_raises_fails_with_its_error(served: Served) -> None:
    ended = served.result("yields", {"n": 3, "fail": 1})
    assert ended["status"] == "FAILED"
    assert "in the middle" in ended["error"]


def test_what_is_gathered_is_the_output_and_a_worker_that_wants_to_be_replaced_is(served: Served) -> None:
    first, second = (served.result("gathers", {"n": 2}) for _ in range(2))
    assert first["output"] == second["output"] == ["item 0", "item 1"]
    assert first["workerId"] != second["workerId"]


def test_a_plain_handler_that_is_cancelled_ends_with_its_worker(served: Served, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    job = served.run("one", {"s": 600, "mark": str(mark)})
    until(mark.exists)
    worker = served.wait("one", job, lambda found: found["status"] == "IN_PROGRESS")["workerId"]
    served.cancel(job)
    assert served.wait("one", job)["status"] == "CANCELLED"
    assert served.result("one", {})["workerId"] != worker


def test_runpods_own_client_and_its_own_worker_meet_here(served: Served, runpod_python: Path) -> None:
    found = json.loads(served.flash("runpod", "env", "--json"))
    client = Client(runpod_python, found["RUNPOD_API_KEY"], found["RUNPOD_ENDPOINT_BASE_URL"])
    try:
        said = client("""
            many = runpod.Endpoint("many")
            result = {"sync": many.run_sync({"input": {"n": 1}})["input"]}
            result["stream"] = list(runpod.Endpoint("yields").run({"input": {"n": 3}}).stream())
            failed = many.run({"input": {"do": "fail"}})
            result["failed"] = failed.output(timeout=600), failed.status()
            ask = lambda **said: many.run_sync({"input": said})
            result["none"], result["empty"], result["soft"] = ask(do="none"), ask(do="empty"), ask(do="soft")
            result["large"] = ask(word="žluť 🐎", data="y" * 9_900_000)["input"] == {
                "word": "žluť 🐎", "data": "y" * 9_900_000
            }
            late = many.run({"input": {"do": "sleep", "s": 600}, "policy": {"executionTimeout": 500}})
            result["late"] = late.output(timeout=600), late.status()
            busy = [many.run({"input": {"do": "sleep", "s": 600}}) for _ in range(6)]
            while [job.status() for job in busy].count("IN_PROGRESS") < 4:
                time.sleep(0.05)
            result["purged"] = many.purge_queue()
            result["left"] = sorted(job.status() for job in busy)
            for job in busy:
                job.cancel()
            job = many.run({"input": {"do": "sleep", "s": 600}})
            while job.status() != "IN_PROGRESS":
                time.sleep(0.05)
            job.cancel()
            while job.status() == "IN_PROGRESS":
                time.sleep(0.05)
            result["cancelled"] = job.status()
            result["health"] = many.health()["workers"]
        """)
    finally:
        client.close()
    assert said["sync"] == {"n": 1}
    assert [item.get("output", item) for item in said["stream"]] == [{"number": number} for number in range(3)]
    assert said["failed"] == [None, "FAILED"]
    assert (said["none"], said["empty"], said["soft"], said["large"]) == (None, {}, {"half": 1}, True)
    assert said["late"] == [None, "TIMED_OUT"]
    assert said["purged"] == {"removed": 2, "status": "completed"}
    assert said["left"] == ["CANCELLED"] * 2 + ["IN_PROGRESS"] * 4
    assert said["cancelled"] == "CANCELLED"
    assert said["health"]["idle"] + said["health"]["running"] == 1


def test_five_hundred_wait_at_once_for_one_worker(served: Served, runpod_python: Path) -> None:
    served.serve("crowd.py", "--workers-min", "1", "--workers-max", "1")
    found = json.loads(served.flash("runpod", "env", "--json"))
    client = Client(runpod_python, found["RUNPOD_API_KEY"], found["RUNPOD_ENDPOINT_BASE_URL"])
    try:
        said = client("""
            async def ask():
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=500)) as session:
                    async def one(n):
                        url, key = f"{runpod.endpoint_url_base}/crowd/runsync", {"Authorization": runpod.api_key}
                        async with session.post(url, json={"input": {"n": n}}, headers=key) as answer:
                            return (await answer.json())["output"] - n
                    return await asyncio.gather(*map(one, range(500)))
            result = asyncio.run(ask())
        """)
    finally:
        client.close()
    assert said == [1] * 500


def test_what_has_failed_is_tried_again_under_its_id(served: Served) -> None:
    ended = served.result("many", {"do": "fail"})
    assert served.ask("POST", f"many/retry/{ended['id']}").json()["status"] == "IN_QUEUE"
    assert served.wait("many", ended["id"])["retries"] == 1


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────


def test_a_job_whose_worker_is_killed_runs_again_on_another(served: Served, tmp_path: Path) -> None:
    ended = served.result("one", {"do": "die", "mark": str(tmp_path / "mark")})
    assert (ended["status"], ended["retries"]) == ("COMPLETED", 1)


def test_a_job_that_kills_whatever_runs_it_comes_to_an_end(served: Served) -> None:
    ended = served.result("many", {"do": "fill", "mb": 800})
    assert ended["status"] == "FAILED"
    assert "its worker was lost 3 times" in ended["error"]
    assert "it ran out of memory (its limit is 512 MB" in ended["error"]


def test_a_job_runs_on_while_its_engine_is_killed_and_another_takes_its_result(served: Served, tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    plain = served.run("one", {"mark": str(mark), "until": str(go)})
    waits = served.run("many", {"do": "progress", "until": str(go)})
    until(mark.exists)
    served.wait("many", waits, lambda found: found.get("output"))
    pid = served.engine.facts["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: served.engine.facts.get("pid", pid) != pid)
    go.touch()
    for endpoint, job in (("one", plain), ("many", waits)):
        ended = served.wait(endpoint, job)
        assert (ended["status"], ended.get("retries", 0)) == ("COMPLETED", 0)
    assert len(mark.read_text().splitlines()) == 1, "it ran once"
    assert served.result("many", {})["status"] == "COMPLETED"


def test_a_plain_handler_runs_on_while_its_engine_is_restarted(served: Served, tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    served.result("one", {})  # so that its worker has spoken with this engine
    job = served.run("one", {"mark": str(mark), "until": str(go)})
    until(mark.exists)
    served.flash("engine", "restart")
    go.touch()
    ended = served.wait("one", job)
    assert (ended["status"], ended.get("retries", 0)) == ("COMPLETED", 0)
    assert len(mark.read_text().splitlines()) == 1, "it ran once"


def test_a_program_that_does_not_start_is_told_with_its_line_and_what_is_missing(served: Served) -> None:
    with served.foreground("missing.py") as running:
        _out, told = running.communicate(timeout=90)
    assert running.returncode == 1
    assert "missing.py does not start: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in told
    assert f"where: {PROGRAMS / 'missing.py'}:3" in told
    assert "--dependencies nowhere_to_be_found" in told


def test_a_program_that_ends_over_and_over_is_backed_off_and_flash_ps_says_why(served: Served) -> None:
    served.serve("missing.py", "--workers-min", "1")
    job = served.run("missing", {})
    why = until(lambda: (row := served.endpoint("missing"))["why"] and row["pools"][0]["failed_starts"] and row["why"])
    assert "nowhere_to_be_found" in why
    ended = served.wait("missing", job)
    assert ended["status"] == "FAILED"
    assert "nowhere_to_be_found" in ended["error"]
    served.flash("serve", "--stop", "--name", "missing")


def test_ctrl_c_lets_the_jobs_that_run_come_to_their_end_and_takes_the_endpoint_away(
    served: Served, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    served.flash("serve", "--stop", "--name", "many")
    with served.foreground("many.py", "--workers-min", "1") as running:
        until(lambda: served.ask("POST", "many/run", json={"input": {}}).status_code == 200)
        job = served.run("many", {"do": "progress", "until": str(go)})
        served.wait("many", job, lambda found: found.get("output"))
        running.send_signal(signal.SIGINT)
        until(lambda: served.ask("POST", "many/run", json={"input": {}}).status_code == 404)
        go.touch()
        out, told = running.communicate(timeout=90)
    assert running.returncode == 0, told
    assert served.status("many", job)["status"] == "COMPLETED"
    assert "doing progress" in out
    assert "many is taken away" in told
    assert not served.endpoint("many")["workers"]
