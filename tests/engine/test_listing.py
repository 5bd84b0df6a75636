"""`flash jobs` and its filters, against a plain reading of the same rows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runpod_flash.engine import listing
from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Query
from tests.engine.scene import ClientSide, Scene, WorkerSide, short


def listed(client: ClientSide, limit: int, **wanted: Any) -> list[dict[str, Any]]:
    """Page by page to the end; a page may be short."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = client.ask(Query(what="jobs", filter=wanted, limit=limit, cursor=cursor))
        rows += page.rows
        cursor = page.next
        if not cursor:
            return rows


def mixed(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    """Some of everything: two endpoints, three functions, every status, seconds apart."""
    for n in range(30):
        fn = client.declare(("f", "train")[n % 2], workers_max=1)
        client.submit(fn, max_retries=0)
        scene.advance(1)
        worker.fails() if n % 5 == 0 else worker.done()
    rare = client.declare("rare", endpoint="other")
    for _ in range(3):
        client.submit(rare, delay_ms=1 << 40, wait=False)
    fn = client.declare(workers_max=1)
    for n in range(4):
        client.submit(fn, wait=False, max_retries=n % 2)
        scene.advance(1)


@pytest.mark.parametrize("size", [7, 50_000])
def test_every_filter_finds_what_a_reading_of_all_rows_finds(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(listing, "SLICE", size)
    mixed(scene, client, worker)
    everything = listed(client, 1000)
    assert len(everything) == 38
    chance = random.Random(7)
    statuses = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
    found_some = 0
    for _ in range(60):
        wanted: dict[str, Any] = {"status": chance.sample(statuses, chance.randrange(4))}
        if chance.random() < 0.4:
            wanted["fn"] = chance.choice(["f", "m:train", "rare", "nobody"])
        if chance.random() < 0.3:
            wanted["endpoint"] = chance.choice(["e", "other"])
        if chance.random() < 0.3:
            wanted["since_ms"] = chance.choice(everything)["created_at_ms"] - chance.randrange(2)
        if chance.random() < 0.3:
            wanted["until_ms"] = chance.choice(everything)["created_at_ms"] - chance.randrange(2)
        expected = [row for row in everything if fits(row, wanted)]
        assert listed(client, chance.choice([1, 4, 1000]), **wanted) == expected, wanted
        found_some += bool(expected)
    assert found_some > 20


def fits(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return (
        (not wanted["status"] or row["status"] in wanted["status"])
        and ("fn" not in wanted or row["fn"].endswith(f":{wanted['fn'].rpartition(':')[2]}"))
        and ("endpoint" not in wanted or row["endpoint"] == wanted["endpoint"])
        and row["created_at_ms"] >= wanted.get("since_ms", 0)
        and row["created_at_ms"] <= wanted.get("until_ms", 1 << 60)
    )


def test_the_next_page_may_be_asked_for_by_the_last_job_of_this_one(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    mixed(scene, client, worker)
    everything = listed(client, 1000)
    assert listed(client, 1000, before=everything[9]["job"][-12:]) == everything[10:]
    assert client.ask(Query(what="jobs", filter={"before": "ffffffff"})).code == "job_not_found"


def test_what_a_job_has_become_in_memory_counts(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    """A job that was sent ahead runs when its turn has come, and the store learns of that only at its end."""
    fn = short(scene, client, worker)
    runs, ahead = client.submit(fn), client.submit(fn)
    assert scene.state(ahead) is JobState.ASSIGNED
    assert [row["job"] for row in client.query("jobs", status=["IN_QUEUE"])] == [ahead]
    worker.done()
    assert scene.job(runs)["state"] == JobState.COMPLETED
    assert [row["job"] for row in client.query("jobs", status="IN_PROGRESS")] == [ahead]
    assert client.query("jobs", status="IN_QUEUE") == []


def test_names_of_what_is_declared_are_told(scene: Scene, client: ClientSide) -> None:
    client.declare("train", endpoint="trainer")
    (names,) = client.query("names")
    assert (names["endpoint"], names["app"], names["env"], names["fn"]) == (["trainer"], ["app"], ["dev"], ["m:train"])


@pytest.mark.parametrize("wrong", [{"since_ms": "soon"}, {"until_ms": 1e300}, {"status": ["COMPLETE"]}])
def test_a_filter_that_means_nothing_is_refused(client: ClientSide, wrong: dict[str, Any]) -> None:
    assert client.ask(Query(what="jobs", filter=wrong)).code == "config"
