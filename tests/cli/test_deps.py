from __future__ import annotations

import json

from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn, rows

ENVIRONMENT = {
    "id": "8d0a", "requirements": ["numpy>=2", "scikit-learn"], "lock": "8d0a", "python": "3.11.9",
    "kind": "python", "prefix": "",
    "size": 312_000_000, "created_at_ms": 1_700_000_000_000, "used_at_ms": 1_700_000_000_000,
    "state": "ready",
}  # fmt: skip


def test_environments_are_listed_with_what_is_in_them(flash: Flash, engine: StandIn) -> None:
    engine.answers["deps"] = rows(ENVIRONMENT)
    code, out, err = flash("deps", "ls")
    assert (code, err) == (0, "1 environment, 312 MB\n")
    assert "312 MB" in out
    assert out.endswith("numpy>=2, scikit-learn\n")
    assert json.loads(flash("deps", "ls", "--json").out) == [ENVIRONMENT]


def test_prune_prints_what_is_gone(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Admin] = lambda _: [messages.Ok(data={"removed": ["8d0a", "9e1b"], "bytes": 5_000_000})]
    assert flash("deps", "prune") == (0, "8d0a\n9e1b\n", "2 environments removed, 5 MB freed\n")
    assert flash("deps", "prune", "--all", "--json").code == 0
    assert [(one.verb, one.args) for one in engine.requests(messages.Admin)] == [
        ("prune_deps", {"all": False}),
        ("prune_deps", {"all": True}),
    ]
