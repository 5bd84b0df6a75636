"""`flash cost`: prices on top of what the engine has on record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runpod_flash.model.hardware import PRICE_DATE, GpuGroup
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn, rows

SHARE = {
    "endpoint": "e", "app": "a", "env": "dev", "gpu": "ADA_24", "gpus": 2, "vcpus": 1, "memory_mb": 2048, "cards": [],
    "first_at_ms": 1_700_000_000_000,
}  # fmt: skip
CALLS = {
    **SHARE, "what": "function", "fn": "m.py:f", "calls": 4, "attempts": 5, "run_ms": 10_000.0, "cpu_ms": 8_000.0,
    "peak_kb": 4096,
}  # fmt: skip
WORKERS = {**SHARE, "what": "workers", "workers": 3, "run_ms": 60_000, "cards": ["NVIDIA GeForce RTX 3090"]}


def told(flash: Flash, *more: str) -> Any:
    return json.loads(flash("cost", "--json", *more).out)


def test_workers_are_priced_as_asked_for_and_functions_by_their_part(flash: Flash, engine: StandIn) -> None:
    engine.answers["cost"] = rows(CALLS, WORKERS)
    facts = told(flash)
    price = GpuGroup.ADA_24.price_per_second
    assert price is not None
    assert facts["workers"][0]["usd"] == pytest.approx(60 * 2 * price)
    assert facts["functions"][0]["usd_per_1000_calls"] == pytest.approx(10 * 2 * price / 4 * 1000)
    assert facts["functions"][0]["memory_gb_seconds"] == 20
    assert facts["totals"]["usd"] == facts["workers"][0]["usd"]
    assert facts["totals"]["other_seconds"] == 50
    code, out, err = flash("cost")
    assert code == 0
    assert "2 x ADA_24 (used: NVIDIA GeForce RTX 3090)" in out
    assert PRICE_DATE in out
    assert "idle" in err


def test_what_has_no_price_is_counted_and_said(flash: Flash, engine: StandIn) -> None:
    engine.answers["cost"] = rows({**WORKERS, "gpu": "ADA_32_PRO", "cards": []})
    assert told(flash)["totals"] == told(flash)["totals"] | {"usd": None, "unpriced_seconds": 60}


def test_the_price_of_a_vcpu_is_an_assumption_unless_it_is_given(flash: Flash, engine: StandIn) -> None:
    engine.answers["cost"] = rows({**WORKERS, "gpu": "", "gpus": 0, "vcpus": 4, "cards": []})
    facts = told(flash)
    assert facts["totals"]["usd"] == pytest.approx(60 * 4 * 0.03 / 3600)
    assert "assumption" in facts["vcpu_price_source"]
    assert "an assumption: $0.03 an hour" in flash("cost").out
    assert told(flash, "--vcpu-price", "0.001")["totals"]["usd"] == pytest.approx(60 * 4 * 0.001)
    assert "a second, as you said" in flash("cost", "--vcpu-price", "0.001").out


def test_any_card_costs_what_the_one_that_was_used_does(flash: Flash, engine: StandIn) -> None:
    engine.answers["cost"] = rows({**WORKERS, "gpu": "any", "gpus": 1})
    assert told(flash)["workers"][0]["usd_per_second"] == GpuGroup.AMPERE_24.price_per_second


def test_nothing_on_record_is_said(flash: Flash, engine: StandIn) -> None:
    engine.answers["cost"] = rows()
    assert flash("cost").err.startswith("nothing is on record")
