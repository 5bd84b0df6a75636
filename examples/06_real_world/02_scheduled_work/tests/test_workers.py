"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

import schedule
from cpu_worker import check_disk
from schedule import keep, slot_of

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=timezone.utc)


def test_a_slot_holds_its_moments() -> None:
    assert slot_of(NOON, 3600) == NOON
    assert slot_of(NOON + timedelta(minutes=59, seconds=59), 3600) == NOON
    assert slot_of(NOON + timedelta(minutes=59), 3600, 1) == NOON + timedelta(hours=1)


@pytest.mark.asyncio
async def test_a_run_that_fails_does_not_end_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schedule.SCHEDULES, "disk", 1)
    runs: list[datetime] = []
    twice = asyncio.Event()

    async def fails(name: str, slot: datetime) -> None:
        runs.append(slot)
        if len(runs) == 2:
            twice.set()
        raise OSError("the disk is gone")

    keeping = asyncio.create_task(keep("disk", fails))
    await asyncio.wait_for(twice.wait(), 20)
    keeping.cancel()

    assert runs[0] < runs[1]


@pytest.mark.asyncio
async def test_the_disk_is_looked_at() -> None:
    facts = (await check_disk.local("now")).unwrap()

    assert 0 <= facts["used_percent"] <= 100
