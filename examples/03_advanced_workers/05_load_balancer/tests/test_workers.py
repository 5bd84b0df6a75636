"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from workers.cpu.endpoint import city, distance
from workers.gpu.endpoint import largest_eigenvalue


@pytest.mark.asyncio
async def test_a_city_is_found_in_any_case() -> None:
    assert (await city.local("Oslo"))["latitude"] == 59.91


@pytest.mark.asyncio
async def test_an_exception_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="no city is called Atlantis"):
        await city.local("Atlantis")


@pytest.mark.asyncio
async def test_a_quarter_of_the_equator_is_10008_kilometres() -> None:
    assert await distance.local((0, 0), (0, 90)) == {"kilometres": 10007.5}


@pytest.mark.asyncio
async def test_the_eigenvalue_of_a_diagonal_is_its_largest() -> None:
    assert (await largest_eigenvalue.local([[2, 0], [0, -5]]))["eigenvalue"] == -5
