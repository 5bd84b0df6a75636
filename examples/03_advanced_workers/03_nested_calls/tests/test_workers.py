"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from workers.cpu.endpoint import count_words


@pytest.mark.asyncio
async def test_words_are_counted_without_regard_to_case() -> None:
    assert await count_words.local("Tea or tea") == {"tea": 2, "or": 1}
