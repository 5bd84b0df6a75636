"""The output of an endpoint: every line of all its workers once, in the order of time, and on from any place."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runpod_flash.engine import output
from runpod_flash.wire import logfile
from runpod_flash.wire.messages import Query
from tests.engine.scene import ClientSide, Scene


class Files:
    """The log files of workers, as their host writes them."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._store = scene.store

    def worker(self, name: str, pool: int) -> None:
        self._store.begin()
        self._store.add_worker(name, pool, "h", "", "[]", self._scene.time.wall_ms())
        self._store.commit()

    def write(self, worker: str, number: int, at_ms: int, text: str, job: str = "job1") -> Path:
        path = self._scene.home / "logs" / "2026-01-01" / f"{worker}.{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(logfile.encode(at_ms, job, 1, 1, text.encode()))
        return path


@pytest.fixture
def files(scene: Scene, client: ClientSide) -> Files:
    """Two workers of the endpoint `e`, and one of another."""
    client.declare()
    client.declare("g", endpoint="other")
    pools = {pool.endpoint.spec.name: pool.id for pool in scene.engine.state.pools.values()}
    made = Files(scene)
    for name, endpoint in (("w1", "e"), ("w2", "e"), ("w3", "other")):
        made.worker(name, pools[endpoint])
    return made


def read(client: ClientSide, cursor: str = "", **wanted: Any) -> tuple[list[dict[str, Any]], str, int]:
    """Everything from a place on: lines, the place behind them, and how many pages it took."""
    lines, pages = [], 0
    while True:
        page = client.ask(Query(what="logs", filter={"endpoint": "e", **wanted}, cursor=cursor))
        lines += page.rows
        pages += 1
        if not page.next or (wanted.get("follow") and not page.rows):
            return lines, page.next, pages
        cursor = page.next


def test_lines_of_all_workers_come_in_the_order_of_time(client: ClientSide, files: Files) -> None:
    files.write("w1", 1, 10, "one\nthree\n")
    files.write("w2", 1, 5, "zero\n", job="job2")
    files.write("w1", 2, 30, "four\n", job="")
    files.write("w3", 1, 7, "of another endpoint\n")
    lines, _, _ = read(client)
    assert [(line["at_ms"], line["job"], line["line"]) for line in lines] == [
        (5, "job2", "zero"),
        (10, "job1", "one"),
        (10, "job1", "three"),
        (30, "", "four"),
    ]
    assert [line["line"] for line in read(client, since_ms=10)[0]] == ["one", "three", "four"]
    assert client.query("logs", endpoint="e", app="nobody's") == []


def test_who_follows_gets_what_is_new_by_the_last_place(client: ClientSide, files: Files) -> None:
    path = files.write("w1", 1, 10, "one\n")
    lines, place, _ = read(client, follow=True)
    assert [line["line"] for line in lines] == ["one"]
    assert read(client, place, follow=True)[0] == []
    files.write("w1", 1, 11, "two\n")
    files.write("w2", 1, 12, "three\n")
    with path.open("ab") as half:
        half.write(b"13 job1 1 1 5\nfo")  # its writer is in its midst
    lines, place, _ = read(client, place, follow=True)
    assert [line["line"] for line in lines] == ["two", "three"]
    with path.open("ab") as rest:
        rest.write(b"ur\n")
    files.write("w1", 2, 20, "five\n")
    assert [line["line"] for line in read(client, place, follow=True)[0]] == ["four", "five"]


def test_old_files_are_not_read_at_all(client: ClientSide, files: Files) -> None:
    path = files.write("w1", 1, 10, "old\n")
    os.utime(path, (0.001, 0.001))
    files.write("w1", 2, 5000, "new\n")
    assert [line["line"] for line in read(client, since_ms=2000)[0]] == ["new"]


@pytest.mark.parametrize("place", ["{", "7", '{"w1": ["../../etc/passwd", 0, 0]}', '{"../w": ["x", 0, 0]}', "\x00"])
def test_a_place_that_nobody_was_told_of_leads_nowhere(client: ClientSide, files: Files, place: str) -> None:
    files.write("w1", 1, 10, "one\n")
    answer = client.ask(Query(what="logs", filter={"endpoint": "e"}, cursor=place))
    assert getattr(answer, "code", "") == "config" or [line["line"] for line in answer.rows] == ["one"]


@settings(max_examples=25, deadline=None)
@given(
    page=st.integers(1, 40),
    sizes=st.lists(st.tuples(st.sampled_from(["w1", "w2"]), st.integers(1, 3), st.integers(1, 60)), max_size=40),
)
def test_every_line_comes_once_however_small_the_pages_are(
    tmp_path_factory: pytest.TempPathFactory, page: int, sizes: list[tuple[str, int, int]]
) -> None:
    home = tmp_path_factory.mktemp("logs")
    written: list[tuple[int, str]] = []
    last: dict[str, int] = {}
    for at_ms, (worker, wanted, length) in enumerate(sizes):
        last[worker] = max(wanted, last.get(worker, 1))
        path = home / "logs" / "2026-01-01" / f"{worker}.{last[worker]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{worker} {at_ms} {n}" for n in range(random.Random(at_ms).randrange(1, 5))]
        with path.open("ab") as file:
            file.write(logfile.encode(at_ms, "j", 1, 1, ("\n".join(lines) + "\n" + "x" * length + "\n").encode()))
        written += [(at_ms, line) for line in [*lines, "x" * length]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "_PAGE_CHARACTERS", page)
        patch.setattr(output, "_LEAST_BYTES", page)
        patch.setattr(output, "_MOST_LINES", 3)
        places: output.Places = {}
        seen: list[tuple[int, str]] = []
        more = True
        while more:
            files = {name: output._Files(home, name, places.get(name), 0) for name in ("w1", "w2")}
            found, places, more = output._next_lines(files)
            assert found or not more or places, "no progress"
            seen += [(line["at_ms"], line["line"]) for line in found]
    assert sorted(seen) == sorted(written)
    assert [at for at, _ in seen] == sorted(at for at, _ in written)
