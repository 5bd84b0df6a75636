"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from cpu_worker import analyze_text


@pytest.mark.asyncio
async def test_short_sentences_of_short_words_are_easy() -> None:
    easy = (await analyze_text.local("The cat sat on the mat. It was a fat cat.")).unwrap()
    hard = (
        await analyze_text.local("Institutional considerations notwithstanding, interdisciplinary cooperation fails.")
    ).unwrap()

    assert easy["sentences"] == 2
    assert easy["words"] == 11
    assert easy["reading_ease"] > 90
    assert hard["reading_ease"] < 0


@pytest.mark.asyncio
async def test_a_text_without_words_is_refused() -> None:
    job = await analyze_text.local("42!")

    assert isinstance(job.exception, ValueError)
