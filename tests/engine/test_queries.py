"""The rows behind `flash jobs`, `job`, `ps`, `logs`, `engine status` and `deps`."""

from __future__ import annotations

import os

from runpod_flash.wire import logfile
from runpod_flash.wire.messages import Admin, Error, ListEnvs, Ok, PruneEnvs, Query, Rows, Span
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def test_a_job_that_runs_is_told_with_what_only_memory_knows(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    runs, waits = client.submit(fn), client.submit(fn)
    newest, older = client.query("jobs", limit=2)
    assert older == {
        "job": runs, "fn": "m:f", "endpoint": "e", "app": "app", "env": "dev", "status": "IN_PROGRESS", "attempts": 1,
        "worker": worker.id, "created_at_ms": scene.time.wall_ms(), "started_at_ms": scene.time.wall_ms(),
        "ended_at_ms": None, "error": "",
        "progress": None,
    }  # fmt: skip
    assert (newest["job"], newest["status"], newest["worker"], newest["attempts"]) == (waits, "IN_QUEUE", "", 0)


def test_jobs_are_listed_newest_first_page_by_page(scene: Scene, client: ClientSide) -> None:
    fn = client.declare()
    jobs = [client.submit(fn, wait=False) for _ in range(7)]
    pages, cursor = [], ""
    for _ in range(3):
        rows: Rows = client.ask(Query(what="jobs", limit=3, cursor=cursor))
        pages.append([row["job"] for row in rows.rows])
        cursor = rows.next
    assert pages == [jobs[6:3:-1], jobs[3:0:-1], jobs[:1]]
    assert cursor == ""


def test_jobs_are_found_by_status_function_endpoint_and_app(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    done = client.submit(client.declare(workers_max=1))
    worker.done()
    other = client.submit(client.declare("my_fn", endpoint="other"), wait=False)
    client.submit(client.declare("myxfn", endpoint="other"), wait=False)
    assert done in [row["job"] for row in client.query("jobs", status="completed")]
    assert [row["job"] for row in client.query("jobs", fn="my_fn")] == [other]
    assert [row["job"] for row in client.query("jobs", fn="m:my_fn")] == [other]
    assert {row["endpoint"] for row in client.query("jobs", endpoint="other")} == {"other"}
    assert client.query("jobs", app="nobody's") == []
    assert client.ask(Query(what="jobs", filter={"status": "RUNING"})).code == "config"
    assert client.ask(Query(what="weather")).code == "config"


def test_one_job_is_told_with_its_attempts_and_where_its_time_went(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), b"12345", priority=3, ttl_ms=60_000)
    scene.advance(1)
    worker.fails()
    scene.advance(0.4)
    worker.done(run_us=7000, load_us=300)
    (row,) = client.query("job", job=job[-12:])
    assert row["job"] == job
    assert row["policy"] == {"timeout_ms": 3_600_000, "max_retries": 1, "ttl_ms": 60_000, "priority": 3}
    assert [(one["n"], one["end"], one["error"]) for one in row["attempts_list"]] == [
        (1, "failed", "ValueError: bad input"),
        (2, "completed", ""),
    ]
    assert (row["timing"]["run"], row["timing"]["load"]) == (7000, 300)
    assert row["timing"]["queued"] >= 1_000_000
    assert (row["failures"], row["losses"], row["environment"]) == (1, 0, "lock-1")
    assert (row["python"], row["requirements"], row["host"]) == (
        "3.11",
        [],
        scene.rows("SELECT id FROM hosts")[0]["id"],
    )
    assert row["out_size"] > 0
    assert row["args_size"] > 0
    assert [event["kind"] for event in row["events"]] == ["again"]
    assert row["error_info"] is None


def test_a_job_is_found_by_part_of_its_id(scene: Scene, client: ClientSide) -> None:
    fn = client.declare()
    first, second = (client.submit(fn, job=f"0123abcd-{n}", wait=False) for n in ("aaaa", "bbbb"))
    assert client.query("job", job="0123abcd-a")[0]["job"] == first
    assert client.query("job", job="bbbb")[0]["job"] == second
    ambiguous: Error = client.ask(Query(what="job", filter={"job": "0123abcd"}))
    assert ambiguous.code == "ambiguous_job"
    assert first in ambiguous.why
    for part in ("", "0", "ffff", "%", "0123'; --"):
        assert client.ask(Query(what="job", filter={"job": part})).code == "job_not_found"


def test_endpoints_and_workers_are_told_from_memory(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    job = client.submit(fn)
    client.submit(fn)
    scene.advance(6)
    (endpoint,) = [row for row in client.query("endpoints") if row["name"] == "e"]
    assert (endpoint["queued"], endpoint["running"], endpoint["workers_max"]) == (1, 1, 1)
    assert endpoint["why"] == "waiting for a worker: workersMax=1 is busy"
    assert [pool["environment"] for pool in endpoint["pools"]] == ["lock-1"]
    (row,) = client.query("workers")
    assert row["endpoint"] == "e"
    assert (row["worker"], row["state"], row["pid"], row["start"]) == (worker.id, "busy", os.getpid(), "fork")
    assert (row["job"], row["fn"], row["rss_kb"]) == (job, "m:f", 1000)
    worker.wire.close()
    scene.spin()
    assert client.query("workers")[0]["state"] == "away"


def test_the_status_has_what_people_and_programs_need(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    client.submit(client.declare(workers_max=1))
    (row,) = client.query("status")
    assert {"pid", "version", "socket", "gateway_url", "token_file", "data_dir"} <= row.keys()
    assert row["jobs"]["COMPLETED"] == 1
    assert row["jobs"]["IN_PROGRESS"] == 1
    assert (row["workers"], row["clients"], row["host"]["connected"], row["machine"]["cpus"]) == (1, 1, True, 4)
    assert row["uptime_s"] > 0


def test_output_is_read_from_the_files_also_while_the_job_runs(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    folder = scene.home / "logs" / "2026-01-01"
    folder.mkdir(parents=True)
    data = logfile.encode(5, job, 1, 1, b"one\ntwo\n") + logfile.encode(6, "another", 1, 2, b"not mine\n")
    (folder / f"{worker.id}.0").write_bytes(data)
    assert [(row["fd"], row["line"]) for row in client.query("logs", job=job)] == [(1, "one"), (1, "two")]
    worker.done(logs=True)
    segment = f"logs/2026-01-01/{worker.id}.0"
    for n, (name, length) in enumerate([(segment, len(data)), ("", 0)]):
        head = Span(job=job, attempt=1, worker=worker.id, segment=name, start=0, length=length, lines=2)
        host.wire.says(head, sid=2 * n + 1)
    scene.spin()
    assert [row["line"] for row in client.query("logs", job=job)] == ["one", "two"]
    assert client.query("logs", job=job, attempt=2) == []


def test_events_tell_what_no_column_does(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    client.submit(client.declare(workers_max=1))
    worker.die(signal=9)
    newest = client.query("events", limit=3)
    assert {"again", "worker_lost"} <= {row["kind"] for row in newest}
    lost = next(row for row in newest if row["kind"] == "worker_lost")
    assert (lost["data"]["signal"], lost["data"]["worker"]) == (9, worker.id)


# ── what the host knows ───────────────────────────────────────────────────────────────────────────


def test_environments_are_listed_by_the_host(scene: Scene, client: ClientSide, host: HostSide) -> None:
    sid = client.says(Query(what="deps"))
    (asked,) = [said for said in host.wire.said if isinstance(said.head, ListEnvs)]
    host.wire.says(Rows(rows=[{"id": "lock-1"}]), sid=asked.sid)
    scene.spin()
    assert client.answer(sid).rows == [{"id": "lock-1"}]


def test_pruning_keeps_what_is_in_use(scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide) -> None:
    sid = client.says(Admin(verb="prune_deps", args={"all": True}))
    (asked,) = [said for said in host.wire.said if isinstance(said.head, PruneEnvs)]
    assert asked.head.keep == ["lock-1"]
    host.wire.says(Rows(rows=[{"id": "lock-0", "size": 5}]), sid=asked.sid)
    scene.spin()
    assert client.answer(sid) == Ok(data={"removed": ["lock-0"], "bytes": 5})


def test_a_question_that_the_host_did_not_answer_before_it_went_away_fails(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    sid = client.says(Query(what="deps"))
    host.wire.close()
    scene.spin()
    assert "went away" in client.answer(sid).what


def test_a_question_without_any_host_fails_after_a_while(scene: Scene, client: ClientSide) -> None:
    sid = client.says(Query(what="deps"))
    scene.advance(5)
    assert "does not answer" in client.answer(sid).what


def test_orders_that_nobody_knows_are_refused(scene: Scene, client: ClientSide) -> None:
    assert client.ask(Admin(verb="explode")).code == "unsupported"
    client.ask(Admin(verb="stop", args={"drain": True}))
    client.ask(Admin(verb="handover"))
    assert scene.asked_to_stop == ["stop", "handover"]


def test_cost_counts_calls_attempts_and_the_lives_of_workers(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    scene.advance(1)
    before = scene.time.wall_ms()
    client.submit(client.declare(workers_max=1), max_retries=1)
    scene.advance(1)
    worker.fails(run_us=1_000_000)
    scene.advance(2)
    worker.done(run_us=500_000, cpu_us=300_000, peak_kb=2048)
    scene.advance(1)
    calls, workers = client.query("cost", since_ms=before)
    assert (calls["what"], calls["fn"], calls["calls"], calls["attempts"]) == ("function", "m:f", 1, 2)
    assert (calls["cpu_ms"], calls["peak_kb"]) == (300, 2048)
    assert calls["run_ms"] == 500 + 1000, "the attempt that failed took a second"
    assert (workers["what"], workers["workers"]) == ("workers", 1)
    assert workers["run_ms"] == 4000
    assert client.query("cost", fn="other") == []
    (recent,) = client.query("cost", since_ms=scene.time.wall_ms() - 500)
    assert (recent["what"], recent["run_ms"]) == ("workers", 500)
