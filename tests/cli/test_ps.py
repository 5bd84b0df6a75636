from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import Flash
from tests.cli.standin import JOB, StandIn, rows


def endpoint(**changes: Any) -> dict[str, Any]:
    return {
        "id": "epabc", "app": "digits", "env": "dev", "name": "trainer", "kind": "queue", "workers_min": 0,
        "workers_max": 3, "idle_timeout_s": 300, "queued": 5, "running": 1, "why": "building its environment",
        "pools": [
            {"id": 7, "key": "77aa", "environment": "8d0a", "state": "ready"},
            {"id": 8, "key": "88bb", "environment": "9e1b", "state": "building"},
        ],
        "workers": [
            {
                "worker": "w-1", "pool": "77aa", "state": "busy", "pid": 4711, "rss_kb": 84_000,
                "cpu_ms": 1500, "job": JOB, "fn": "demo.py:train", "launched_at_ms": 1_700_000_000_000,
                "gpus": [0, 1],
            }
        ],
        **changes,
    }  # fmt: skip


def test_endpoints_then_their_pools_and_workers(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows(endpoint())
    code, out, err = flash("ps")
    assert (code, err) == (0, "")
    lines = [text.split() for text in out.splitlines()]
    assert " ".join(lines[1]) == "trainer digits dev queue 1 of 0-3 5 1 building its environment"
    assert lines[2] == []
    assert lines[4][:12] == [
        "trainer",
        "77aa",
        "8d0a",
        "ready",
        "w-1",
        "busy",
        "4711",
        "86",
        "MB",
        "1.5",
        "s",
        "0,1",
    ]
    assert lines[4][-2:] == [JOB, "demo.py:train"]
    assert lines[5][:5] == ["trainer", "88bb", "9e1b", "building", "-"]


def test_one_endpoint_is_named_by_its_name_or_id(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows(endpoint(), endpoint(name="other", id="epdef"))
    for name in ("other", "epdef"):
        assert [row["id"] for row in json.loads(flash("ps", "--endpoint", name, "--json").out)] == ["epdef"]
    assert flash("ps", "--endpoint", "none") == (0, "", "no such endpoint\n")


def test_nothing_yet_is_no_error(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows()
    assert flash("ps") == (0, "", "no endpoints: none was called yet\n")
    assert flash("ps", "--json").out == "[]\n"
