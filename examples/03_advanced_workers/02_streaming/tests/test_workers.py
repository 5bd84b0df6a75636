"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from cpu_worker import estimate_pi


@pytest.mark.asyncio
async def test_estimates_come_closer() -> None:
    estimates = await estimate_pi.local(4, 20_000, 1)

    assert [one["points"] for one in estimates] == [20_000, 40_000, 60_000, 80_000]
    assert abs(estimates[-1]["pi"] - 3.14159) < 0.02
