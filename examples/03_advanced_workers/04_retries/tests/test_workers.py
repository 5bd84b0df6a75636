"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from pathlib import Path

import pytest

from cpu_worker import pay, payments_of


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASH_VOLUME_EXAMPLE_RETRIES_LEDGER", str(tmp_path))


@pytest.mark.asyncio
async def test_a_run_that_is_repeated_books_nothing_more() -> None:
    first = (await pay.local("B-1", 500, 0)).unwrap()
    second = (await pay.local("B-1", 500, 0)).unwrap()

    assert first["booked"]
    assert not second["booked"]
    assert await payments_of.local("B-1") == [500]


@pytest.mark.asyncio
async def test_an_attempt_during_an_outage_books_nothing() -> None:
    job = await pay.local("B-2", 500, 1)

    assert isinstance(job.exception, ConnectionError)
    assert await payments_of.local("B-2") == []
