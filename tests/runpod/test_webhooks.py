"""Webhooks over TLS: a receiver whose certificate is trusted is told, another one is not, and the record says why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.gateway.runpod import webhooks
from tests.gateway.raw import AUTHORIZED, Client
from tests.gateway.stage import Stage, stage
from tests.runpod.receiver import Receiver, make_certificate

PATIENCE_S = 20.0


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is started with this variable trusts who signed it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Stage]:
    webhooks._context.cache_clear()  # of an engine that was started otherwise
    with stage(tmp_path / "home", FLASH_WEBHOOK_PAUSE="0.01") as made:
        made.builds = "later"
        made.declare("m:echo", endpoint="echo")
        yield made
    webhooks._context.cache_clear()


def ask(one: Stage, method: str, path: str, body: Any = None) -> Any:
    text = json.dumps(body) if body is not None else ""
    with Client(one) as client:
        asked = f"{method} /v2/echo/{path} HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(text)}\r\n\r\n{text}"
        return json.loads(client.ask(asked).body)


def cancelled(one: Stage, url: str) -> str:
    """A job that has ended, with somebody to tell."""
    job: str = ask(one, "POST", "run", {"input": {"a": 1}, "webhook": url})["id"]
    ask(one, "POST", f"cancel/{job}")
    return job


def given_up(one: Stage, job: str) -> str:
    """Why a webhook was given up."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        rows = one.do(lambda: one.engine.state.store.read("SELECT kind, data FROM events WHERE job = ?", (job,)))
        for row in rows:
            if row["kind"] == "webhook_given_up":
                error: str = json.loads(row["data"])["error"]
                return error
        time.sleep(0.02)
    raise AssertionError("it is told for ever")


@pytest.mark.usefixtures("trusting")
def test_a_receiver_whose_certificate_is_trusted_is_told(certificate: Path, one: Stage) -> None:
    with Receiver(certificate=certificate) as receiver:
        assert receiver.url.startswith("https://")
        job = cancelled(one, receiver.url)
        (told,) = receiver.wait(1)
    facts = json.loads(told.body)
    assert (facts["id"], facts["status"], facts["input"]) == (job, "CANCELLED", {"a": 1})


def test_one_that_nobody_here_trusts_is_not_told_and_the_record_of_the_job_says_why(
    certificate: Path, one: Stage
) -> None:
    with Receiver(certificate=certificate) as receiver:
        why = given_up(one, cancelled(one, receiver.url))
        assert receiver.told == []
    assert "its certificate is not trusted (" in why
    assert "SSL_CERT_FILE" in why
