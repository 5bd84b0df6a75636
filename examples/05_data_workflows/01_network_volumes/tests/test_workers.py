"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from pathlib import Path

import pytest

from cpu_worker import run_query, store_csv


@pytest.fixture(autouse=True)
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASH_VOLUME_EXAMPLE_TABLES", str(tmp_path))


@pytest.mark.asyncio
async def test_what_was_stored_can_be_asked() -> None:
    stored = (await store_csv.local("towns", "name,people\nUlm,126000\nBath,94000\n")).unwrap()
    asked = (await run_query.local("SELECT name FROM towns WHERE people < 100000")).unwrap()

    assert stored == {"table": "towns", "rows": 2, "columns": ["name", "people"]}
    assert asked["rows"] == [("Bath",)]


@pytest.mark.asyncio
async def test_a_question_cannot_change_anything() -> None:
    await store_csv.local("towns", "name\nUlm\n")
    job = await run_query.local("DROP TABLE towns")

    assert isinstance(job.exception, ValueError)
    assert "readonly" in str(job.exception)


@pytest.mark.asyncio
async def test_uneven_rows_are_told_by_their_line() -> None:
    job = await store_csv.local("towns", "name,people\nUlm,1\nBath\n")

    assert str(job.exception) == "line 3 has another number of cells than the heading"
