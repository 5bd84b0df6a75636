from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import http, table
from benchmarks.figures import Row, Run
from benchmarks.peers import http_servers, installed, rows
from benchmarks.peers.catalogue import PEERS, Kind, Peer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks need Linux")

QUICK = Run(core=None, quick=True)


def _peer(module: str, *requirements: str) -> Peer:
    return Peer("somebody", module, requirements, {"task": Kind("Somebody", "Promises nothing.")})


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of a test is kept for real runs."""
    monkeypatch.setattr(installed, "CACHE", tmp_path)


def test_the_process_pool_is_measured_as_ours_is() -> None:
    pool = next(peer for peer in PEERS if peer.name == "process-pool")

    found = [row for row in rows.rows(QUICK, pool) if not row.about]

    assert [row.unit for row in found] == ["µs", "µs", "calls/s", "MB"]
    assert all(row.figure for row in found)
    assert [row.ratio is not None for row in found] == [True, True, True, False]


def test_a_peer_that_cannot_be_installed_is_a_line_that_says_why() -> None:
    line, _ = rows.rows(QUICK, _peer("benchmarks.peers.nobody", "./there-is-no-such-folder"))

    assert line.figure is None
    assert "there-is-no-such-folder" in line.note


def test_a_peer_that_cannot_start_is_a_line_that_says_why() -> None:
    line, _ = rows.rows(QUICK, _peer("benchmarks.peers.nobody"))

    assert line.figure is None
    assert "No module named benchmarks.peers.nobody" in line.note


def test_a_server_of_others_that_cannot_be_installed_is_a_line_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = http_servers.HttpServer(_peer("benchmarks.peers.nobody", "./there-is-no-such-folder"), b"}", "Nothing.")
    monkeypatch.setattr(http_servers, "SERVERS", {"Nobody": nobody})

    (line,) = http.peer_rows(QUICK, "Nobody", 1, "HTTP", {"p50": 1.0, "rate": 1.0})

    assert line.figure is None
    assert "there-is-no-such-folder" in line.note


def test_what_a_peer_promises_is_said_below_the_table_in_its_own_brackets() -> None:
    said = io.StringIO()
    promise = Row("Peers", "Somebody", note="Nothing is kept. ([extra]==1.0)", about=True)

    table.show([Row("Peers", "Somebody, p50", 3, "µs"), promise], Console(file=said, width=140))

    assert said.getvalue().splitlines()[-1] == "Somebody: Nothing is kept. ([extra]==1.0)"


def test_every_kind_of_every_peer_says_what_it_promises() -> None:
    assert all(kind.promise for peer in PEERS for kind in peer.kinds.values())
