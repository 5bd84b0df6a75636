from __future__ import annotations

import json
import time
from typing import Any

from tests.cli.conftest import Flash
from tests.cli.standin import JOB, StandIn, endpoint_row, pool_row, rows, worker_row


def test_endpoints_then_their_pools_and_workers(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows(endpoint_row())
    code, out, err = flash("ps")
    assert (code, err) == (0, "")
    lines = [text.split() for text in out.splitlines()]
    assert " ".join(lines[1]) == "trainer digits dev queue 1 of 0-3 5 0 1 building its environment"
    assert lines[2] == []
    assert " ".join(lines[4][:16]) == "trainer 77aa 8d0a ready w-1 busy 4711 93% 90.1 MB 1.5 s 0,1 45% 12.9 GB"
    assert lines[4][-1] == "demo.py:train"
    assert lines[4][-4] == JOB
    assert lines[5][:5] == ["trainer", "88bb", "9e1b", "building", "-"]


def test_what_was_not_measured_is_what_the_last_beat_said(flash: Flash, engine: StandIn) -> None:
    worker = worker_row(memory_kb=None, cpu_percent=None, cards=[])
    engine.answers["endpoints"] = rows(endpoint_row(workers=[worker]))
    assert "4711    -   86 MB     1.5 s  0,1" in flash("ps").out


def test_a_terminal_shows_the_reason_as_a_sentence_with_its_time(flash: Flash, engine: StandIn) -> None:
    waits = {
        "code": "environment", "why": "waiting for its environment, which is being built",
        "since_at_ms": (time.time() - 12) * 1000, "until_at_ms": None, "detail": {"line": "Downloading torch"},
    }  # fmt: skip
    engine.answers["endpoints"] = rows(endpoint_row(why=waits["why"], waits=waits))
    for width in ("80", "120"):
        seen = flash.on_terminal("ps", COLUMNS=width)
        why = "trainer: waiting for its environment, which is being built (Downloading torch), for 1"
        assert why in seen
        assert "WAITS FOR" not in seen
        assert max(map(len, [line for line in seen.splitlines() if why not in line and "\x1b" not in line])) <= int(
            width
        )


def test_what_is_at_rest_for_long_is_shown_to_whoever_asks(flash: Flash, engine: StandIn) -> None:
    rest: dict[str, Any] = {"workers": [], "queued": 0, "running": 0, "delayed": 0, "held": False, "why": ""}
    old = endpoint_row(name="old", used_at_ms=1_700_000_000_000, pools=[pool_row()], **rest)
    engine.answers["endpoints"] = rows(endpoint_row(), old)
    code, out, err = flash("ps")
    assert (code, err) == (0, "1 endpoint at rest for more than a day, or taken away: flash ps --all\n")
    assert "old" not in out
    assert [line.split()[:3] for line in flash("ps", "--all").out.splitlines() if line.startswith("old")] == [
        ["old", "digits", "dev"],
        ["old", "77aa", "8d0a"],
    ]
    assert "old" in flash("ps", "--endpoint", "old").out
    assert [row["name"] for row in json.loads(flash("ps", "--json").out)] == ["trainer", "old"]


def test_what_was_taken_away_is_shown_as_long_as_something_is_left_of_it(flash: Flash, engine: StandIn) -> None:
    rest: dict[str, Any] = {"workers": [], "running": 0, "delayed": 0, "held": False, "why": "", "away": True}
    gone = endpoint_row(name="gone", queued=0, pools=[], **rest)
    waiting = endpoint_row(name="waiting", queued=1, pools=[], **rest)
    engine.answers["endpoints"] = rows(gone, waiting)
    shown = [line.split()[0] for line in flash("ps").out.splitlines() if line]
    assert ("gone" in shown, "waiting" in shown) == (False, True)


def test_one_endpoint_is_named_by_its_name_or_id(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows(endpoint_row(), endpoint_row(name="other", id="epdef"))
    for name in ("other", "epdef"):
        assert [row["id"] for row in json.loads(flash("ps", "--endpoint", name, "--json").out)] == ["epdef"]
    code, out, err = flash("ps", "--endpoint", "trainr")
    assert (code, out) == (3, "")
    assert "there is no endpoint 'trainr'. Did you mean 'trainer'?" in err


def test_nothing_yet_is_no_error(flash: Flash, engine: StandIn) -> None:
    engine.answers["endpoints"] = rows()
    assert flash("ps") == (0, "", "no endpoints: none was called yet\n")
    assert flash("ps", "--json").out == "[]\n"
